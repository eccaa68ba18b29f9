// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/files"
)

// tree reads a folder: contents by name, "/" for folders.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		if d.IsDir() {
			out[rel] = "/"
			return nil
		}
		data, err := os.ReadFile(name)
		out[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func put(t *testing.T, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestExtract(t *testing.T) {
	list := []files.File{{Name: "a/b.yaml", Data: []byte("b")}, {Name: "c.yaml", Data: []byte("c")}}
	want := map[string]string{"a": "/", "a/b.yaml": "b", "c.yaml": "c"}
	top := t.TempDir()
	here := func(name string) string { return filepath.Join(top, name) }

	for name, prepare := range map[string]func(dir string){
		"new":      func(string) {},
		"d/e/deep": func(string) {},
		"empty":    func(dir string) { _ = os.Mkdir(dir, 0o700) },
		"link": func(dir string) {
			_ = os.Mkdir(here("target"), 0o755)
			_ = os.Symlink("target", dir)
		},
	} {
		prepare(here(name))
		if err := Extract(t.Context(), list, here(name), false); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, tree(t, here(name)+"/.")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if info, err := os.Stat(here("empty")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a folder that was there did not stay the same: %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(here("link")); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("a link to a folder did not stay one: %v, %v", info.Mode(), err)
	}

	put(t, here("clone/.git/config"), "")
	if err := Extract(t.Context(), list, here("clone"), true); err == nil || !strings.Contains(err.Error(), "is a git repository") {
		t.Errorf("a clone, forced: %v", err)
	}
	put(t, here("full/old/x"), "x")
	put(t, here("full/c.yaml"), "old c")
	err := Extract(t.Context(), list, here("full"), false)
	if err == nil || !strings.Contains(err.Error(), "is not empty (it has c.yaml); name another folder, or replace its content") {
		t.Errorf("full: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"old": "/", "old/x": "x", "c.yaml": "old c"}, tree(t, here("full"))); diff != "" {
		t.Errorf("full, not forced: %s", diff)
	}
	if err := Extract(t.Context(), list, here("full"), true); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, tree(t, here("full"))); diff != "" {
		t.Errorf("full, forced: %s", diff)
	}
}

// TestExtractIntoWorkingDirectory checks that a process in the folder is still in it
// afterwards.
func TestExtractIntoWorkingDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := Extract(t.Context(), []files.File{{Name: "a", Data: []byte("a")}}, ".", false); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile("a"); err != nil || string(data) != "a" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestExtractAfterKilled checks that remains of a killed process, in the folder and next to it,
// are not in the way.
func TestExtractAfterKilled(t *testing.T) {
	above := t.TempDir()
	dir, missing := filepath.Join(above, "dir"), filepath.Join(above, "missing")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, stagePrefix+"1", "new"), 0o755), os.Mkdir(filepath.Join(above, stagePrefix+"2"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{dir, missing} {
		if err := Extract(t.Context(), []files.File{{Name: "a.yaml", Data: []byte("a: b\n")}}, to, false); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(to); err != nil || len(entries) != 1 || entries[0].Name() != "a.yaml" {
			t.Errorf("%s has %v, %v", to, entries, err)
		}
	}
	if entries, err := os.ReadDir(above); err != nil || len(entries) != 2 {
		t.Errorf("beside are %v, %v", entries, err)
	}
}

// TestExtractAllOrNothing checks that a failure changes nothing.
func TestExtractAllOrNothing(t *testing.T) {
	top := t.TempDir()
	put(t, filepath.Join(top, "full/old"), "old")
	put(t, filepath.Join(top, "file"), "a file")
	before := tree(t, top)
	good := files.File{Name: "good", Data: []byte("x")}
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	for name, c := range map[string]struct {
		ctx  context.Context
		list []files.File
		dir  string
		want string
	}{
		"outside":            {t.Context(), []files.File{good, {Name: "../x"}}, "new/deep", "not relative and clean"},
		"twice":              {t.Context(), []files.File{good, good}, "new/deep", "file exists"},
		"below a file":       {t.Context(), []files.File{good, {Name: "good/x"}}, "full", "file exists"},
		"interrupted":        {cancelled, []files.File{good}, "full", "interrupted"},
		"onto a file":        {t.Context(), []files.File{good}, "file", "a file: name a folder"},
		"below another file": {t.Context(), []files.File{good}, "file/x", "a file: name a folder"},
	} {
		err := Extract(c.ctx, c.list, filepath.Join(top, c.dir), true)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
		if diff := cmp.Diff(before, tree(t, top)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestExchangeUndoes has a move fail halfway.
func TestExchangeUndoes(t *testing.T) {
	top := t.TempDir()
	put(t, filepath.Join(top, "dir/a"), "old a")
	put(t, filepath.Join(top, "dir/b"), "old b")
	put(t, filepath.Join(top, "dir/stage/new/a"), "new a")
	put(t, filepath.Join(top, "dir/stage/old/b/in the way"), "")
	dir := filepath.Join(top, "dir")
	before := tree(t, top)
	if err := exchange(dir, filepath.Join(dir, "stage/new"), filepath.Join(dir, "stage/old"), "stage"); err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(before, tree(t, top)); diff != "" {
		t.Error(diff)
	}
}
