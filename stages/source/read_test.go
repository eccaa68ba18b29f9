// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/files"
)

// A file has the size that was read first: one that is larger when it is read, or no longer a
// file, is an error.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(name, []byte("kind: A\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newReader(dir, files.DefaultLimits())
	at, err := r.resolve("a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.file(t.Context(), "a.yaml", at); err != nil || string(r.inputs["a.yaml"].Data) != "kind: A\n" {
		t.Errorf("read %q, error %v", r.inputs["a.yaml"].Data, err)
	}
	if err := os.WriteFile(name, []byte("kind: A\nmore: than before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.file(t.Context(), "b/a.yaml", at); !errors.Is(err, errGrew) || !strings.HasPrefix(err.Error(), "read b/a.yaml: ") {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(name, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.file(t.Context(), "c/a.yaml", at); err != nil || string(r.inputs["c/a.yaml"].Data) != "{}" {
		t.Errorf("read %q, error %v", r.inputs["c/a.yaml"].Data, err)
	}
	if err := errors.Join(os.Remove(name), os.Mkdir(name, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := r.file(t.Context(), "d/a.yaml", at); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("error %v", err)
	}
}
