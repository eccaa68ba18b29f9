// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/internal/regular"
)

// Commit is the commit that a repository has checked out.
type Commit struct {
	// Commit is the hexadecimal ID, or "" in a repository without commits.
	Commit string
	// When is the time of the committer, in seconds since 1970.
	When int64
	// URI is the same as in [Repository].
	URI string
}

// Head returns the commit that is checked out in the repository at top. It uses the git
// command.
func Head(ctx context.Context, top string) (Commit, error) {
	var c Commit
	out, err := runGit(ctx, top, nil, "log", "-1", "--no-show-signature", "--format=%H %ct", "HEAD", "--")
	if err != nil {
		if _, unborn := runGit(ctx, top, nil, "rev-parse", "--quiet", "--verify", "HEAD^{commit}"); exitCode(unborn) == 1 {
			return c, nil
		}
		return c, err
	}
	id, when, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if c.When, err = strconv.ParseInt(when, 10, 64); err != nil {
		return c, fmt.Errorf("git log: time %q: %w", when, err)
	}
	c.Commit = id
	if url, err := runGit(ctx, top, nil, "config", "--local", "--get", "remote.origin.url"); err == nil {
		c.URI = CleanURL(strings.TrimSpace(string(url)))
	}
	return c, nil
}

// IsAncestor reports whether a commit is equal to another or an ancestor of it. known is false if
// the repository at top does not have both.
func IsAncestor(ctx context.Context, top, ancestor, of string) (is, known bool, err error) {
	_, err = runGit(ctx, top, nil, "merge-base", "--is-ancestor", "--end-of-options", ancestor, of)
	switch {
	case err == nil:
		return true, true, nil
	case ctx.Err() != nil:
		return false, false, context.Cause(ctx)
	}
	return false, exitCode(err) == 1, nil
}

// Changed returns the paths, relative to top, that differ between a revision and the work tree:
// files that were changed, added or removed, and files that are neither committed nor ignored.
func Changed(ctx context.Context, top, since string) ([]string, error) {
	commit, err := runGit(ctx, top, nil, "rev-parse", "--verify", "--end-of-options", since+"^{commit}")
	if err != nil {
		if strings.Contains(err.Error(), "single revision") { // what git answers for any unknown name
			err = errors.New("fetch its whole history")
		}
		return nil, fmt.Errorf("%s is not a revision of this repository, or a shallow clone does not have it: %w", since, err)
	}
	differ, err := runGit(ctx, top, nil, "diff", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "-z", strings.TrimSpace(string(commit)), "--")
	if err != nil {
		return nil, err
	}
	untracked, err := runGit(ctx, top, nil, "ls-files", "--others", "--exclude-standard", "-z")
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(differ)+string(untracked), func(r rune) bool { return r == 0 }), nil
}

// Committed returns a file as it is in HEAD and as it is in the work tree. Its path is relative
// to top.
func Committed(ctx context.Context, top, path string) (committed, now []byte, err error) {
	if !filepath.IsLocal(filepath.FromSlash(path)) {
		return nil, nil, fmt.Errorf("%s is not below %s", path, top)
	}
	if committed, err = runGit(ctx, top, nil, "cat-file", "blob", "HEAD:"+path); err == nil {
		now, err = regular.ReadFile(filepath.Join(top, filepath.FromSlash(path)))
	}
	return committed, now, err
}
