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

// Extract writes the files into dir, all or none of them. It creates dir if it does not exist;
// an existing dir must be an empty folder, unless force replaces its content.
//
// The files are first written to a folder on the same file system, and renamed when all are
// complete. An existing dir remains the same folder (it may be someone's working directory, or
// a mount): its content is exchanged, and restored if that fails.
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
	// Only this user can access the stage.
	fresh, old := filepath.Join(stage.Dir(), "new"), filepath.Join(stage.Dir(), "old")
	if err = errors.Join(os.Mkdir(fresh, 0o755), os.Mkdir(old, 0o755)); err == nil {
		err = writeAll(ctx, list, fresh)
	}
	switch {
	case err != nil:
	case exists:
		err = exchange(dir, fresh, old, filepath.Base(stage.Dir()))
	default:
		if err = os.MkdirAll(filepath.Dir(dir), 0o755); err == nil {
			err = os.Rename(fresh, dir)
		}
	}
	if err != nil {
		return fmt.Errorf("extract to %s: %w", dir, err)
	}
	return nil
}

// stagePrefix begins the name of the folder that files are first written to.
const stagePrefix = ".tape-pull-"

// prepare checks dir, ignoring what a killed process left there, and returns where to write
// before the rename: in dir if it exists, else in the nearest folder above it that does.
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

// writeAll writes the files below dir, whatever their names are.
func writeAll(ctx context.Context, list []files.File, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // it only holds a folder open
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

// exchange moves the content of dir to old, and that of fresh to dir. If a move fails, the
// previous ones are undone.
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
