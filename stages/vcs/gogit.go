// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
)

// library reads a repository with go-git, which only reads files: it runs nothing, and does not
// check who owns them. It asks the git command for objects that go-git does not find, such as
// those in another repository that this one borrows objects from.
type library struct {
	top   string
	repo  *git.Repository
	spare objects
}

// openLibrary opens the repository whose work tree is at top: an ordinary clone,
// a linked work tree or a submodule.
func openLibrary(top string) (objects, error) {
	repo, err := git.PlainOpenWithOptions(top, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return nil, err
	}
	return &library{top: top, repo: repo}, nil
}

func (l *library) head(context.Context) (ref, commit string, err error) {
	head, err := l.repo.Reference(plumbing.HEAD, false)
	if err != nil {
		return "", "", fmt.Errorf("read HEAD: %w", err)
	}
	if head.Type() == plumbing.HashReference {
		return "", head.Hash().String(), nil
	}
	ref = head.Target().String()
	target, err := l.repo.Reference(head.Target(), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return ref, "", nil
	}
	if err != nil {
		return ref, "", fmt.Errorf("read %s: %w", ref, err)
	}
	return ref, target.Hash().String(), nil
}

func (l *library) tags(context.Context) (map[string]string, error) {
	refs, err := l.repo.Tags()
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	out := map[string]string{}
	err = refs.ForEach(func(ref *plumbing.Reference) error {
		out[ref.Name().Short()] = ref.Hash().String()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	return out, nil
}

func (l *library) config(context.Context) (map[string][]string, error) {
	cfg, err := l.repo.Storer.Config()
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	out := map[string][]string{}
	for _, section := range cfg.Raw.Sections {
		name := strings.ToLower(section.Name)
		for _, o := range section.Options {
			key := name + "." + strings.ToLower(o.Key)
			out[key] = append(out[key], o.Value)
		}
		for _, sub := range section.Subsections {
			for _, o := range sub.Options {
				key := name + "." + sub.Name + "." + strings.ToLower(o.Key)
				out[key] = append(out[key], o.Value)
			}
		}
	}
	return out, nil
}

func (l *library) object(ctx context.Context, id string) (string, []byte, error) {
	kind, data, err := l.read(id)
	switch {
	case err == nil:
		return kind, data, nil
	case errors.Is(err, errTooLarge):
		return "", nil, fmt.Errorf("read object %s: %w", id, err)
	}
	if l.spare == nil {
		spare, gitErr := openCommand(ctx, l.top)
		if gitErr != nil {
			return "", nil, fmt.Errorf("read object %s: %w", id, err)
		}
		l.spare = spare
	}
	return l.spare.object(ctx, id)
}

func (l *library) read(id string) (string, []byte, error) {
	size, err := l.repo.Storer.EncodedObjectSize(plumbing.NewHash(id))
	if err != nil {
		return "", nil, err
	}
	if size > maxObject {
		return "", nil, errTooLarge
	}
	obj, err := l.repo.Storer.EncodedObject(plumbing.AnyObject, plumbing.NewHash(id))
	if err != nil {
		return "", nil, err
	}
	r, err := obj.Reader()
	if err != nil {
		return "", nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return obj.Type().String(), data, err
}

func (l *library) sha256() bool { return false }

func (l *library) close() {
	if l.spare != nil {
		l.spare.close()
	}
}
