//go:build corpus

// SPDX-License-Identifier: Apache-2.0

package cue_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// TestCorpus renders the CUE cases of a corpus (TAPE_CORPUS: cases in truth/, output of the cue
// command in rendered/) from checkouts of their repositories (TAPE_CORPUS_REPOS: owner+name at
// the case's commit), and compares sets of objects, as values.
func TestCorpus(t *testing.T) {
	corpus, repos := os.Getenv("TAPE_CORPUS"), os.Getenv("TAPE_CORPUS_REPOS")
	cases, err := filepath.Glob(filepath.Join(corpus, "truth", "c-*.json"))
	if err != nil || len(cases) == 0 || repos == "" {
		t.Fatalf("no cases in TAPE_CORPUS %q, or TAPE_CORPUS_REPOS %q is not set: %v", corpus, repos, err)
	}
	for _, file := range cases {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c struct {
				Repo       string
				Entry      []string
				Args, Prep string
			}
			if err := json.Unmarshal(data, &c); err != nil {
				t.Fatal(err)
			}
			root, entry := filepath.Join(repos, strings.ReplaceAll(c.Repo, "/", "+")), c.Entry[0]
			if c.Prep != "" { // a shell line of the corpus, run in a copy
				root = prepared(t, root, path.Dir(entry), c.Prep)
			}
			want, err := os.ReadFile(filepath.Join(corpus, "rendered", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			resp := render(t, interpreter.RenderRequest{Source: root, Path: entry, Options: arguments(t, c.Args)})
			if len(resp.Diagnostics) > 0 {
				t.Errorf("diagnostics %+v", resp.Diagnostics)
			}
			var got []byte
			for _, f := range resp.Files {
				got = append(append(got, "---\n"...), f.Data...)
			}
			if diff := cmp.Diff(objects(t, want), objects(t, got)); diff != "" {
				t.Errorf("objects differ (-cue +tape):\n%.3000s", diff)
			}
		})
	}
}

func prepared(t *testing.T, root, folder, prep string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", prep)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", prep, err, out)
	}
	return dir
}

// arguments converts those of the cue command to options.
func arguments(t *testing.T, args string) json.RawMessage {
	t.Helper()
	var o struct {
		Packages   []string `json:"packages,omitempty"`
		Expression string   `json:"expression,omitempty"`
		Tags       []string `json:"tags,omitempty"`
	}
	fields := strings.Fields(args)
	for i := 1; i < len(fields); i++ {
		switch arg := fields[i]; {
		case arg == "-e":
			i++
			o.Expression = fields[i]
		case arg == "-t":
			i++
			o.Tags = append(o.Tags, fields[i])
		case strings.HasPrefix(arg, "."):
			o.Packages = append(o.Packages, arg)
		case fields[0] != "cmd":
			t.Fatalf("argument %s is not known here", arg)
		}
	}
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// objects returns those in a stream, at any depth, as JSON, sorted.
func objects(t *testing.T, stream []byte) []string {
	t.Helper()
	var out []string
	var find func(v any)
	find = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["apiVersion"] == nil || v["kind"] == nil {
				for _, sub := range v {
					find(sub)
				}
				return
			}
			data, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(data))
		case []any:
			for _, sub := range v {
				find(sub)
			}
		}
	}
	for dec := yaml.NewDecoder(bytes.NewReader(stream)); ; {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		find(v)
	}
	slices.Sort(out)
	return out
}
