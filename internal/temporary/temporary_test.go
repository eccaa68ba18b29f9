// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package temporary

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The next process removes what a killed one left, even if it is not writable; folders in use
// and those with other names are kept.
func TestNew(t *testing.T) {
	parent := t.TempDir()
	folder := func() *Folder {
		t.Helper()
		f, err := New(parent, "tape-test-")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	used, killed := folder(), folder()
	inside := filepath.Join(killed.Dir(), "inside")
	if err := errors.Join(os.Mkdir(inside, 0o700), os.WriteFile(filepath.Join(inside, "file"), nil, 0o400), os.Chmod(inside, 0o500)); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(parent, "tape-other-1")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	// The kernel does this when a process is killed.
	if err := killed.held.Close(); err != nil {
		t.Fatal(err)
	}
	next := folder()
	for _, dir := range []string{used.Dir(), next.Dir(), other} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
	gone := func(dir string) {
		t.Helper()
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	gone(killed.Dir())
	for _, f := range []*Folder{used, next} {
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
		gone(f.Dir())
	}
}

// A folder that another user put there is not touched, even if root runs tape.
func TestSweepLeavesOthers(t *testing.T) {
	parent := t.TempDir()
	mine, other, link := filepath.Join(parent, "tape-test-1"), filepath.Join(parent, "tape-test-2"), filepath.Join(parent, "tape-test-3")
	aim := t.TempDir()
	if err := errors.Join(os.Mkdir(mine, 0o755), os.Mkdir(other, 0o755), os.Symlink(aim, link)); err != nil {
		t.Fatal(err)
	}
	// Only root can change the owner of a folder.
	gave := os.Chown(other, os.Geteuid()+1, -1)
	Sweep(parent, "tape-test-")
	if _, err := os.Stat(mine); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", mine, err)
	}
	if _, err := os.Stat(other); gave == nil && err != nil {
		t.Error(err)
	}
	for _, name := range []string{link, aim} {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}
