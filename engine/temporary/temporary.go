// SPDX-License-Identifier: Apache-2.0

// Package temporary makes temporary folders that no killed process loses: the next
// one that wants such a folder removes what is left of them.
package temporary

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Folder is a folder of this process.
type Folder struct {
	dir  string
	held *os.File // locks it; nil where folders cannot be locked, and so none is swept up
}

// New makes a folder below parent; "" is where the system has such files. Its name
// begins with the prefix, and folders of such names which killed processes of this
// user left there are removed. The caller removes the folder.
func New(parent, prefix string) (*Folder, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	Sweep(parent, prefix)
	// It gets the name that Sweep looks for once it is locked.
	hidden, err := os.MkdirTemp(parent, "."+prefix)
	if err != nil {
		return nil, err
	}
	f := &Folder{dir: filepath.Join(parent, filepath.Base(hidden)[1:])}
	f.held, _ = lock(hidden)
	if err := os.Rename(hidden, f.dir); err != nil {
		_ = f.held.Close() // also of none
		return nil, errors.Join(err, os.Remove(hidden))
	}
	return f, nil
}

// Dir is the folder's path.
func (f *Folder) Dir() string { return f.dir }

// Remove removes the folder and all that is in it.
func (f *Folder) Remove() error {
	err := RemoveAll(f.dir)
	if f.held != nil {
		err = errors.Join(err, f.held.Close())
	}
	return err
}

// Sweep removes what killed processes of this user left below parent, as [New] does.
func Sweep(parent, prefix string) {
	entries, _ := os.ReadDir(parent) // also some of them
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

// RemoveAll removes a folder, also what is in folders that may not be written to.
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
