// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"context"
	"slices"
	"sync"
)

// Opened keeps repositories open from one Read to the next, which then sees the HEAD that
// the first saw. The zero value is ready; its methods may be called concurrently. It must
// be closed by the caller.
type Opened struct {
	mu    sync.Mutex
	repos map[string]*openedRepository // by the top of the work tree
}

// openedRepository is a repository that is opened when it is first read.
type openedRepository struct {
	abs string

	mu      sync.Mutex
	checked bool
	tried   int // openers that were tried
	read    *history
	opened  []objects // to be closed
	found   Repository
	trouble error
}

// Close closes the repositories.
func (o *Opened) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, repo := range o.repos {
		for _, objects := range repo.opened {
			objects.close()
		}
	}
	o.repos = nil
}

// at returns the repository with a work tree, absolute and without links.
func (o *Opened) at(abs string) *openedRepository {
	o.mu.Lock()
	defer o.mu.Unlock()
	repo := o.repos[abs]
	if repo == nil {
		repo = &openedRepository{abs: abs}
		if o.repos == nil {
			o.repos = map[string]*openedRepository{}
		}
		o.repos[abs] = repo
	}
	return repo
}

// openers are the ways to read a repository, the better one first.
func openers() []func(context.Context, string) (objects, error) {
	return []func(context.Context, string) (objects, error){
		func(_ context.Context, abs string) (objects, error) { return openLibrary(abs) },
		openCommand,
	}
}

// history opens the repository with go-git or, if that fails or another is asked for, with
// the git command. It returns nil where trouble says why.
func (repo *openedRepository) history(ctx context.Context, another bool) *history {
	repo.mu.Lock()
	defer repo.mu.Unlock()
	if !repo.checked {
		repo.checked, repo.trouble = true, checkFiles(repo.abs)
		if repo.trouble != nil {
			repo.tried = len(openers())
		}
	}
	ways := openers()
	if repo.read != nil && (!another || repo.tried == len(ways)) {
		return repo.read
	}
	for ; repo.tried < len(ways); repo.tried++ {
		objects, err := ways[repo.tried](ctx, repo.abs)
		if err == nil {
			repo.opened = append(repo.opened, objects)
			next, found := &history{objects: objects}, Repository{Modified: No}
			err = next.read(ctx, &found)
			if err == nil || repo.read == nil {
				repo.found = found // or what was found before the error
			}
			if err == nil {
				repo.read = next // one that was read before may still be read by others
				repo.tried++
				return repo.read
			}
		}
		if ctx.Err() != nil {
			repo.trouble = context.Cause(ctx)
			return nil // the next to ask may have more time
		}
		// Git's message is the more helpful one, unless git is not installed.
		if repo.trouble == nil || exitCode(err) >= 0 {
			repo.trouble = err
		}
	}
	if another {
		return nil
	}
	return repo.read
}

// facts are those of the whole repository, for one who calls its folder dir.
func (repo *openedRepository) facts(dir string) Repository {
	repo.mu.Lock()
	defer repo.mu.Unlock()
	out := repo.found
	out.Dir, out.Tags, out.Remotes = dir, slices.Clone(out.Tags), slices.Clone(out.Remotes)
	return out
}
