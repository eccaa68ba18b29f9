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

// A source is written to memory, next to those in use.
func TestInMemory(t *testing.T) {
	t.Setenv("TMPDIR", "") // may be set for the tests
	source := []files.File{{Name: "a/b.yaml", Data: []byte("kind: List\n")}}
	first, err := layOut(t.Context(), "", nil, source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.remove() }()
	if first.memory == nil {
		// Without it everything is in one folder.
		if !strings.HasPrefix(first.source, first.dir) {
			t.Errorf("source is in %s, all else in %s", first.source, first.dir)
		}
		return
	}
	next, err := layOut(t.Context(), "", nil, source)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []room{first, next} {
		data, err := os.ReadFile(filepath.Join(r.source, "a", "b.yaml"))
		if err != nil || string(data) != "kind: List\n" {
			t.Errorf("%s holds %q, %v", r.source, data, err)
		}
	}
	dirs := []string{next.dir, next.memory.Dir()}
	if err := next.remove(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
}

// $TMPDIR is honoured, and neither a large source nor one with very many files is
// written to memory.
func TestNotInMemory(t *testing.T) {
	t.Setenv("TMPDIR", "")
	if folder := inMemory(memoryMost + 1); folder != nil {
		t.Errorf("too large, and in %s", folder.Dir())
	}
	many := make([]files.File, memoryMost/4096+1)
	for i := range many {
		many[i] = files.File{Name: strconv.Itoa(i), Data: []byte("a")}
	}
	r, err := layOut(t.Context(), "", nil, many)
	if err != nil {
		t.Fatal(err)
	}
	if r.memory != nil {
		t.Errorf("%d files, and in %s", len(many), r.memory.Dir())
	}
	if err := r.remove(); err != nil {
		t.Error(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	if folder := inMemory(1); folder != nil {
		t.Errorf("in %s, in spite of $TMPDIR", folder.Dir())
	}
}
