// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/internal/temporary"
	"github.com/taped-dev/tape/stages/files"
)

// Extract writes the files into dir, all or none of them. It makes dir where it
// is not there; what is there must be an empty folder, or is replaced by force.
//
// The files are written to a folder beside their place first, on the same file
// system, and renamed when all are there. A dir that exists stays the folder that
// it is (it may be somebody's working directory, or a mount): what is in it is
// exchanged, and put back where that fails.
func Extract(ctx context.Context, list []files.File, dir string, force bool) (err error) {
	beside, exists, err := prepare(dir, force)
	if err != nil {
		return err
	}
	stage, err := temporary.New(beside, stagePrefix)
	if err != nil {
		return fmt.Errorf("extract to %s: %w", dir, err)
	}
	defer func() {
		if e := stage.Remove(); err == nil && e != nil {
			err = fmt.Errorf("extracted to %s; remove what was there: %w", dir, e)
		}
	}()
	// The stage itself is for this user alone.
	fresh, old := filepath.Join(stage.Dir(), "new"), filepath.Join(stage.Dir(), "old")
	for _, folder := range []string{fresh, old} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return fmt.Errorf("extract to %s: %w", dir, err)
		}
	}
	if err := writeAll(ctx, list, fresh); err != nil {
		return fmt.Errorf("extract to %s: %w", dir, err)
	}
	if exists {
		err = exchange(dir, fresh, old, filepath.Base(stage.Dir()))
	} else if err = os.MkdirAll(filepath.Dir(dir), 0o755); err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		return fmt.Errorf("extract to %s: %w", dir, err)
	}
	return nil
}

// stagePrefix is of the folder that files are written to first.
const stagePrefix = ".tape-pull-"

// prepare checks dir, but for what a killed process left there, and says where to
// write before the rename: in dir where it exists, else in the nearest folder above
// that does.
func prepare(dir string, force bool) (beside string, exists bool, err error) {
	temporary.Sweep(dir, stagePrefix)
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		for beside = filepath.Dir(filepath.Clean(dir)); ; beside = filepath.Dir(beside) {
			if _, err := os.Stat(beside); !errors.Is(err, fs.ErrNotExist) || beside == filepath.Dir(beside) {
				return beside, false, nil
			}
		}
	case errors.Is(err, syscall.ENOTDIR):
		return "", false, fmt.Errorf("%s is, or lies below, a file: name a folder to write to", dir)
	case err != nil:
		return "", false, fmt.Errorf("extract to %s: %w", dir, err)
	case slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == ".git" }):
		return "", false, fmt.Errorf("%s is a git repository, and all that is in it would be replaced: name a folder inside of it, or another one", dir)
	case len(entries) > 0 && !force:
		return "", false, advice.Add(fmt.Errorf("%s is not empty (it has %s)", dir, entries[0].Name()), advice.ReplaceContent)
	}
	return dir, true, nil
}

// writeAll writes the files below dir, and nowhere else whatever they are called.
func writeAll(ctx context.Context, list []files.File, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // it holds a folder open, and nothing back
	for _, f := range list {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := files.CheckName(f.Name); err != nil {
			return err
		}
		name := filepath.FromSlash(f.Name)
		if folder := path.Dir(f.Name); folder != "." {
			if err := root.MkdirAll(filepath.FromSlash(folder), 0o755); err != nil {
				return err
			}
		}
		w, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = w.Write(f.Data)
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	return nil
}

// exchange moves what is in dir to old, and what is in fresh to dir. Where a
// move fails, the ones before it are undone.
func exchange(dir, fresh, old, except string) error {
	type move struct{ from, to string }
	var done []move
	undo := func(err error) error {
		for i := len(done) - 1; i >= 0; i-- {
			err = errors.Join(err, os.Rename(done[i].to, done[i].from))
		}
		return err
	}
	for _, way := range []move{{dir, old}, {fresh, dir}} {
		entries, err := os.ReadDir(way.from)
		if err != nil {
			return undo(err)
		}
		for _, entry := range entries {
			if way.from == dir && entry.Name() == except {
				continue
			}
			m := move{filepath.Join(way.from, entry.Name()), filepath.Join(way.to, entry.Name())}
			if err := os.Rename(m.from, m.to); err != nil {
				return undo(err)
			}
			done = append(done, m)
		}
	}
	return nil
}
