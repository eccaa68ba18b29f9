// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/files"
)

// A source is laid out in memory, and what a killed process left there is gone
// when the next one comes, while what is in use stays.
func TestInMemory(t *testing.T) {
	t.Setenv("TMPDIR", "") // set by some who run tests
	source := []files.File{{Name: "a/b.yaml", Data: []byte("kind: List\n")}}
	first, err := layOut(t.Context(), "", nil, source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.remove() }()
	if first.held == nil {
		// A machine without: everything is in one folder.
		if !strings.HasPrefix(first.source, first.dir) {
			t.Errorf("source is in %s, all else in %s", first.source, first.dir)
		}
		return
	}
	killed, err := layOut(t.Context(), "", nil, source)
	if err != nil {
		t.Fatal(err)
	}
	// What the kernel does of a process that is killed.
	if err := errors.Join(killed.held.Close(), removeAll(killed.dir)); err != nil {
		t.Fatal(err)
	}
	next, err := layOut(t.Context(), "", nil, source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(killed.memory); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", killed.memory, err)
	}
	for _, r := range []room{first, next} {
		data, err := os.ReadFile(filepath.Join(r.source, "a", "b.yaml"))
		if err != nil || string(data) != "kind: List\n" {
			t.Errorf("%s holds %q, %v", r.source, data, err)
		}
	}
	dirs := []string{next.dir, next.memory}
	if err := next.remove(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
}

// Who says where temporary files belong has them there, and a large source is not
// taken into memory, nor one of so many files that they are large there.
func TestNotInMemory(t *testing.T) {
	t.Setenv("TMPDIR", "")
	if dir, held := inMemory(memoryMost + 1); held != nil {
		t.Errorf("too large, and in %s", dir)
	}
	many := make([]files.File, memoryMost/4096+1)
	for i := range many {
		many[i] = files.File{Name: strconv.Itoa(i), Data: []byte("a")}
	}
	r, err := layOut(t.Context(), "", nil, many)
	if err != nil {
		t.Fatal(err)
	}
	if r.held != nil {
		t.Errorf("%d files, and in %s", len(many), r.memory)
	}
	if err := r.remove(); err != nil {
		t.Error(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	if dir, held := inMemory(1); held != nil {
		t.Errorf("in %s, in spite of $TMPDIR", dir)
	}
}

// What another user puts in the place of a room is not touched, whoever runs tape.
func TestSweepLeavesOthers(t *testing.T) {
	parent := t.TempDir()
	mine, other := filepath.Join(parent, memoryPrefix+"1"), filepath.Join(parent, memoryPrefix+"2")
	for _, dir := range []string{mine, other} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Only root can give a folder away.
	gave := os.Chown(other, os.Geteuid()+1, -1)
	sweep(parent)
	if _, err := os.Stat(mine); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", mine, err)
	}
	if _, err := os.Stat(other); gave == nil && err != nil {
		t.Error(err)
	}
}
