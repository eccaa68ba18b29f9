// SPDX-License-Identifier: Apache-2.0

// Package temporary creates temporary folders that are eventually removed even if a process
// is killed: the next process that creates such a folder removes those left behind.
package temporary

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Folder is a temporary folder of this process.
type Folder struct {
	dir  string
	held *os.File // holds the lock; nil if folders cannot be locked, in which case none is swept
}

// New creates a folder below parent, by default the system's folder for temporary files,
// with a name that begins with prefix. It removes folders with this prefix that killed
// processes of this user left there. The caller must remove the folder.
func New(parent, prefix string) (*Folder, error) {
	parent = cmp.Or(parent, os.TempDir())
	Sweep(parent, prefix)
	// The folder gets the name that Sweep looks for only after it is locked.
	hidden, err := os.MkdirTemp(parent, "."+prefix)
	if err != nil {
		return nil, err
	}
	f := &Folder{dir: filepath.Join(parent, filepath.Base(hidden)[1:])}
	f.held, _ = lock(hidden)
	if err := os.Rename(hidden, f.dir); err != nil {
		_ = f.held.Close() // nil is allowed
		return nil, errors.Join(err, os.Remove(hidden))
	}
	return f, nil
}

// Dir returns the path of the folder.
func (f *Folder) Dir() string { return f.dir }

// Remove removes the folder with its content.
func (f *Folder) Remove() error {
	err := RemoveAll(f.dir)
	if f.held != nil {
		err = errors.Join(err, f.held.Close())
	}
	return err
}

// Sweep removes the folders that killed processes of this user left below parent, like
// [New].
func Sweep(parent, prefix string) {
	entries, _ := os.ReadDir(parent) // possibly incomplete
	for _, entry := range entries {
		dir := filepath.Join(parent, entry.Name())
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), prefix) {
			continue
		}
		if held, err := lock(dir); err == nil {
			_ = RemoveAll(dir)
			_ = held.Close()
		}
	}
}

// RemoveAll is os.RemoveAll that also removes the content of read-only folders.
func RemoveAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(name, 0o700)
		}
		return err
	})
	return os.RemoveAll(dir)
}
