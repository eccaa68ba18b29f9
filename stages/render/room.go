// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/taped-dev/tape/internal/temporary"
	"github.com/taped-dev/tape/stages/files"
)

// room is the folder that an interpreter works in.
type room struct {
	dir string
	// memory is a second folder for the source, in memory: writing hundreds of small files to a
	// disk takes longer than Helm takes to render them. It may be nil.
	memory  *temporary.Folder
	source  string // folder with the source, read-only
	scratch string // empty folder
}

// layOut makes a room and writes the source to it. If tempDir is "", newDir makes the folder, and
// the source is in memory if possible. On error it removes everything.
func layOut(ctx context.Context, tempDir string, newDir func() (string, error), source []files.File) (r room, err error) {
	if tempDir != "" || newDir == nil {
		newDir = func() (string, error) { return os.MkdirTemp(tempDir, "tape-render-*") }
	}
	if r.dir, err = newDir(); err != nil {
		return room{}, fmt.Errorf("lay out the source: %w", err)
	}
	r.source, r.scratch = filepath.Join(r.dir, "source"), filepath.Join(r.dir, "scratch")
	if tempDir == "" {
		const page = 4 << 10 // a file occupies whole pages
		var size int64
		for _, f := range source {
			size += (int64(len(f.Data)) + page - 1) / page * page
		}
		r.memory = inMemory(size)
	}
	err = os.Mkdir(r.scratch, 0o700)
	if r.memory != nil && err == nil {
		onDisk := r.source
		r.source = filepath.Join(r.memory.Dir(), "source")
		if err = r.fill(ctx, source); errors.Is(err, syscall.ENOSPC) { // other processes used up the memory
			r.source, err = onDisk, r.leaveMemory()
		}
	}
	if r.memory == nil && err == nil {
		err = r.fill(ctx, source)
	}
	if err != nil {
		return room{}, fmt.Errorf("lay out the source: %w", errors.Join(err, r.remove()))
	}
	return r, nil
}

// fill writes the files, then makes all folders read-only.
func (r *room) fill(ctx context.Context, source []files.File) error {
	if err := os.Mkdir(r.source, 0o700); err != nil {
		return err
	}
	for _, f := range source {
		name := filepath.Join(r.source, filepath.FromSlash(f.Name))
		if err := cmp.Or(context.Cause(ctx), os.MkdirAll(filepath.Dir(name), 0o700)); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.Data, 0o444); err != nil {
			return err
		}
	}
	return filepath.WalkDir(r.source, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(name, 0o555)
		}
		return err
	})
}

// remove removes both folders.
func (r *room) remove() error {
	err := errors.Join(temporary.RemoveAll(r.dir), r.leaveMemory())
	if err != nil {
		return fmt.Errorf("remove the interpreter's working folder: %w", err)
	}
	return nil
}

// leaveMemory removes the folder in memory.
func (r *room) leaveMemory() error {
	if r.memory == nil {
		return nil
	}
	err := r.memory.Remove()
	r.memory = nil
	return err
}
