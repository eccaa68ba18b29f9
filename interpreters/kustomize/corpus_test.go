//go:build corpus

// SPDX-License-Identifier: Apache-2.0

package kustomize_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/interpreters/kustomize"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// TestCorpus renders the Kustomize cases of a corpus (TAPE_CORPUS: inputs in inputs/, entries
// in truth/, output of kustomize in rendered/) and compares sets of objects, as values.
func TestCorpus(t *testing.T) {
	corpus := os.Getenv("TAPE_CORPUS")
	cases, err := filepath.Glob(filepath.Join(corpus, "truth", "k-*.json"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases in TAPE_CORPUS %q: %v", corpus, err)
	}
	for _, file := range cases {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c struct{ Entry []string }
			if err := json.Unmarshal(data, &c); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(corpus, "rendered", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			got := fromInputs(t, filepath.Join(corpus, "inputs", name), c.Entry[0])
			if diff := cmp.Diff(objects(t, want), objects(t, join(got.Files))); diff != "" {
				t.Errorf("objects differ (-kustomize +tape):\n%.3000s", diff)
			}
		})
	}
}

// TestOverlays renders every kustomization below the folders in TAPE_OVERLAYS with
// TAPE_KUSTOMIZE (the command) and with the interpreter, which only sees the inputs that it
// named. The interpreter must reject the kustomizations that kustomize rejects.
func TestOverlays(t *testing.T) {
	roots, command := filepath.SplitList(os.Getenv("TAPE_OVERLAYS")), os.Getenv("TAPE_KUSTOMIZE")
	if len(roots) == 0 || command == "" {
		t.Skip("TAPE_OVERLAYS and TAPE_KUSTOMIZE are not set")
	}
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if strings.EqualFold(strings.TrimSuffix(strings.TrimSuffix(d.Name(), ".yaml"), ".yml"), "kustomization") {
				dirs = append(dirs, filepath.Dir(p))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			rel, _ := filepath.Rel(root, dir)
			t.Run(filepath.Base(root)+"/"+rel, func(t *testing.T) {
				cmd := exec.Command(command, "build", dir)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				want, kustomizeErr := cmd.Output()
				got := fromInputs(t, root, filepath.ToSlash(rel))
				for _, d := range got.Diagnostics {
					t.Logf("%s: %s:%d: %s", d.Severity, d.File, d.Line, d.Summary)
				}
				refused := len(got.Diagnostics) > 0
				if refused != (kustomizeErr != nil || len(bytes.TrimSpace(want)) == 0) {
					t.Fatalf("kustomize: %v %s\ntape: refused %v", kustomizeErr, stderr.String(), refused)
				}
				if refused {
					t.Logf("kustomize: %s", stderr.String())
					return
				}
				if diff := cmp.Diff(objects(t, want), objects(t, join(got.Files))); diff != "" {
					t.Errorf("objects differ (-kustomize +tape):\n%.3000s", diff)
				}
			})
		}
	}
}

// fromInputs renders from a copy of the files that Inputs names.
func fromInputs(t *testing.T, root, path string) *interpreter.RenderResponse {
	t.Helper()
	in, err := kustomize.New().Inputs(t.Context(), &interpreter.InputsRequest{Root: root, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Diagnostics) > 0 {
		return &interpreter.RenderResponse{Diagnostics: in.Diagnostics}
	}
	source := t.TempDir()
	for _, name := range in.Paths {
		if strings.HasPrefix(name, "..") {
			return &interpreter.RenderResponse{Diagnostics: []interpreter.Diagnostic{{Severity: interpreter.Error, Summary: name + " lies outside"}}}
		}
		copyTo(t, filepath.Join(source, name), filepath.Join(root, name))
	}
	resp, err := kustomize.New().Render(t.Context(), &interpreter.RenderRequest{Source: source, Path: path, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// copyTo copies a file or folder, following symbolic links.
func copyTo(t *testing.T, to, from string) {
	t.Helper()
	info, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return // a dangling link
	} else if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		entries, err := os.ReadDir(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			copyTo(t, filepath.Join(to, e.Name()), filepath.Join(from, e.Name()))
		}
		return
	}
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func join(files []interpreter.File) []byte {
	var all []byte
	for _, f := range files {
		all = append(append(all, "---\n"...), f.Data...)
	}
	return all
}

// objects returns the documents of a stream that have content, as JSON, sorted.
func objects(t *testing.T, stream []byte) []string {
	t.Helper()
	var out []string
	dec := yaml.NewDecoder(bytes.NewReader(stream))
	for {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("decode: %v", err)
		}
		if v == nil {
			continue
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
	slices.Sort(out)
	return out
}
