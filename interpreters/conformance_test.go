// SPDX-License-Identifier: Apache-2.0

// Package interpreters_test runs the conformance kit with every interpreter of this repository:
// in process, over gRPC, and as a process.
package interpreters_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/taped-dev/tape/interpreters/cnab"
	"github.com/taped-dev/tape/interpreters/cue"
	"github.com/taped-dev/tape/interpreters/helm"
	"github.com/taped-dev/tape/interpreters/kustomize"
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/conformance"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/serve"
)

// ours returns the interpreters by name.
func ours() map[string]interpreter.Interpreter {
	return map[string]interpreter.Interpreter{
		"cnab":      cnab.New(),
		"cue":       cue.New(),
		"helm":      helm.New(),
		"kustomize": kustomize.New(),
		"plain":     plain.New(),
	}
}

// TestMain makes this test binary every interpreter: the name that it is started by selects
// one.
func TestMain(m *testing.M) {
	if name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "tape-interpreter-"); ok {
		serve.Interpreter(ours()[name])
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, impl := range ours() {
		small, all := cases(t, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := conformance.Check(t.Context(), impl, conformance.Options{Cases: small}); err != nil {
				t.Error(err)
			}
			path := filepath.Join(t.TempDir(), "tape-interpreter-"+name)
			if err := os.Symlink(exe, path); err != nil {
				t.Fatal(err)
			}
			report, err := conformance.CheckBinary(t.Context(), path, conformance.Options{Cases: all, Timeout: patience}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range report.Results {
				// A case may leave its output open: it only tests the size.
				if open := strings.Contains(r.Reason, "has no file below out/"); !r.OK || r.Reason != "" && !open {
					t.Errorf("%s: ok is %v: %s", r.Check, r.OK, r.Reason)
				}
			}
		})
	}
}

// cases returns the cases of an interpreter: all, and those except the one that renders to
// megabytes. That one takes ten seconds with the race detector, and only matters if the output
// comes from another process. Plain, which renders files unchanged, is fast.
func cases(t *testing.T, name string) (small, all fs.FS) {
	t.Helper()
	fsys := os.DirFS(filepath.Join("testdata", name))
	found, err := fs.Glob(fsys, "*.txtar")
	if err != nil || len(found) == 0 {
		t.Fatalf("no cases of %s: %v", name, err)
	}
	files := fstest.MapFS{}
	for _, file := range found {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			t.Fatal(err)
		}
		files[file] = &fstest.MapFile{Data: data}
	}
	if name == "cnab" { // a filled file is not JSON
		files[big] = &fstest.MapFile{Data: []byte(`-- in/bundle.json --
{"name": "big", "description": "` + strings.Repeat("x", 4_300_000) + `", "invocationImages": [{"image": "installer:1"}]}
`)}
	}
	if files[big] == nil {
		t.Fatalf("no case of %s is big", name)
	}
	if name == "plain" {
		return files, files
	}
	without := maps.Clone(files)
	delete(without, big)
	return without, files
}

const big = "big.txtar"

// patience is for the big case: with the race detector, on a busy machine, it takes longer than
// an interpreter may.
const patience = 8 * time.Minute
