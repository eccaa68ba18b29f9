// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"context"
	"slices"
	"sync"
)

// Opened keeps repositories open between calls of Read, so that all calls see the same HEAD. The
// zero value is ready to use. Its methods may be called concurrently. The caller must close it. A
// nil Opened opens repositories for each Read.
type Opened struct {
	mu    sync.Mutex
	repos map[string]*openedRepository // by the absolute path of the top of the work tree
}

// openedRepository is a repository that is opened on first use.
type openedRepository struct {
	abs string

	mu      sync.Mutex
	read    *history // nil if not read yet, or if trouble says why it cannot be read
	found   Repository
	trouble error
}

// Close closes the repositories.
func (o *Opened) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, repo := range o.repos {
		if repo.read != nil {
			repo.read.close()
		}
	}
	o.repos = nil
}

// at returns the repository with a work tree. abs is absolute and free of symbolic links.
func (o *Opened) at(abs string) *openedRepository {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.repos == nil {
		o.repos = map[string]*openedRepository{}
	}
	if o.repos[abs] == nil {
		o.repos[abs] = &openedRepository{abs: abs, found: Repository{Modified: No}}
	}
	return o.repos[abs]
}

// history returns the HEAD of the repository and what is known about the whole repository, which
// may be something even if there is an error.
func (repo *openedRepository) history(ctx context.Context) (*history, Repository, error) {
	repo.mu.Lock()
	defer repo.mu.Unlock()
	err := repo.trouble
	if repo.read == nil && err == nil {
		if err = repo.open(ctx); ctx.Err() == nil {
			repo.trouble = err // otherwise keep nothing, because the next caller may have more time
		}
	}
	out := repo.found
	out.Tags, out.Remotes = slices.Clone(out.Tags), slices.Clone(out.Remotes)
	return repo.read, out, err
}

// open reads the repository with go-git or, if that fails, with the git command.
func (repo *openedRepository) open(ctx context.Context) error {
	trouble := checkFiles(repo.abs)
	if trouble != nil {
		return trouble
	}
	for _, open := range []func() (objects, error){
		func() (objects, error) { return openLibrary(repo.abs) },
		func() (objects, error) { return openCommand(ctx, repo.abs) },
	} {
		objects, err := open()
		if err == nil {
			h := &history{objects: objects}
			repo.found = Repository{Modified: No}
			if err = h.read(ctx, &repo.found); err == nil {
				repo.read = h
				return nil
			}
			objects.close()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// The message of git is more helpful, unless git is not installed.
		if trouble == nil || exitCode(err) >= 0 {
			trouble = err
		}
	}
	return trouble
}
