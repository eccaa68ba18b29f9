//go:build corpus

// SPDX-License-Identifier: Apache-2.0

package helm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/interpreters/helm"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// TestCorpus renders the Helm cases of a corpus (TAPE_CORPUS: cases in truth/, output of Helm
// in rendered/) from checkouts of their repositories (TAPE_CORPUS_REPOS: owner+name at the
// case's commit), and compares sets of objects, as values.
func TestCorpus(t *testing.T) {
	corpus, repos := os.Getenv("TAPE_CORPUS"), os.Getenv("TAPE_CORPUS_REPOS")
	if corpus == "" || repos == "" {
		t.Fatal("TAPE_CORPUS and TAPE_CORPUS_REPOS are not set")
	}
	cases, err := filepath.Glob(filepath.Join(corpus, "truth", "h-*.json"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases in %s: %v", corpus, err)
	}
	for _, file := range cases {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			var c struct {
				Repo  string
				Entry []string
				Args  string
				Prep  string
			}
			readJSON(t, file, &c)
			root := filepath.Join(repos, strings.ReplaceAll(c.Repo, "/", "+"))
			entry := c.Entry[0]
			if c.Prep != "" { // a shell line of the corpus, run in a copy of the files that it moves
				root = prepared(t, root, entry, c.Prep)
			}
			want, err := os.ReadFile(filepath.Join(corpus, "rendered", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			// The corpus was rendered as release rel in namespace ns, test hooks included.
			opts := options(t, c.Args, map[string]any{"release": "rel", "namespace": "ns", "hooks": "all"})
			got, again := renderTree(t, root, entry, opts), renderTree(t, root, entry, opts)
			if diff := cmp.Diff(objects(t, want), stable(objects(t, want), objects(t, got), objects(t, again))); diff != "" {
				t.Errorf("objects differ (-helm +tape):\n%.3000s", diff)
			}
		})
	}
}

// TestCharts renders every chart below TAPE_CHARTS, also with its ci/ values, with TAPE_HELM
// (the command) and with the interpreter. The interpreter must reject the charts that Helm
// rejects.
func TestCharts(t *testing.T) {
	dirs, command := filepath.SplitList(os.Getenv("TAPE_CHARTS")), os.Getenv("TAPE_HELM")
	if len(dirs) == 0 || command == "" {
		t.Skip("TAPE_CHARTS and TAPE_HELM are not set")
	}
	for _, dir := range dirs {
		charts, err := filepath.Glob(filepath.Join(dir, "*", "Chart.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range charts {
			chart := filepath.Dir(file)
			values, _ := filepath.Glob(filepath.Join(chart, "ci", "*.yaml"))
			for _, v := range slices.Concat([]string{""}, values) {
				rel, _ := filepath.Rel(chart, v)
				t.Run(filepath.Base(chart)+"/"+rel, func(t *testing.T) {
					t.Parallel()
					args := []string{"template", "rel", chart, "--include-crds", "--kube-version", "1.34.0", "-n", "ns"}
					opts := map[string]any{"release": "rel", "namespace": "ns", "hooks": "all"}
					if v != "" {
						args = append(args, "-f", v)
						opts["values"] = []string{filepath.Base(chart) + "/" + rel}
					}
					cmd := exec.Command(command, args...)
					var stderr strings.Builder
					cmd.Stderr = &stderr
					want, helmErr := cmd.Output()
					again, _ := exec.Command(command, args...).Output() // differs if the chart uses random values
					raw, _ := json.Marshal(opts)
					resp, err := helm.New().Render(t.Context(), &interpreter.RenderRequest{Source: dir, Path: filepath.Base(chart), Options: raw, Scratch: t.TempDir()})
					if err != nil {
						t.Fatal(err)
					}
					refused := slices.ContainsFunc(resp.Diagnostics, func(d interpreter.Diagnostic) bool { return d.Severity == interpreter.Error })
					for _, d := range resp.Diagnostics {
						t.Logf("%s: %s:%d:%d: %s", d.Severity, d.File, d.Line, d.Column, d.Summary)
					}
					if refused != (helmErr != nil) {
						t.Fatalf("helm: %v %s\ntape: refused %v", helmErr, stderr.String(), refused)
					}
					if refused || helmErr != nil {
						t.Logf("helm: %s", stderr.String())
						return
					}
					if diff := cmp.Diff(objects(t, want), stable(objects(t, want), objects(t, again), objects(t, join(resp.Files)))); diff != "" {
						t.Errorf("objects differ (-helm +tape):\n%.3000s", diff)
					}
				})
			}
		}
	}
}

func readJSON(t *testing.T, file string, v any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func prepared(t *testing.T, root, entry, prep string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(entry)), 0o755); err != nil {
		t.Fatal(err)
	}
	top, _, _ := strings.Cut(entry, "/")
	for _, name := range []string{entry, top + "/common"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", prep)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", prep, err, out)
	}
	return dir
}

// options converts arguments of `helm template` to options.
func options(t *testing.T, args string, opts map[string]any) json.RawMessage {
	t.Helper()
	fields := strings.Fields(args)
	for i := 0; i+1 < len(fields); i += 2 {
		switch fields[i] {
		case "--kube-version":
			opts["kubeVersion"] = fields[i+1]
		case "--set":
			opts["set"] = strings.Split(fields[i+1], ",")
		default:
			t.Fatalf("argument %s is not known here", fields[i])
		}
	}
	raw, err := json.Marshal(opts)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func renderTree(t *testing.T, root, entry string, opts json.RawMessage) []byte {
	t.Helper()
	resp, err := helm.New().Render(context.Background(), &interpreter.RenderRequest{Source: root, Path: entry, Options: opts, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range resp.Diagnostics {
		t.Logf("%s: %s:%d:%d: %s\n%s", d.Severity, d.File, d.Line, d.Column, d.Summary, d.Detail)
	}
	return join(resp.Files)
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
	dec := yaml.NewDecoder(strings.NewReader(string(stream)))
	for {
		var n yaml.Node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("decode: %v", err)
		}
		lastKeys(&n)
		var v any
		if err := n.Decode(&v); err != nil {
			t.Fatalf("decode: %v", err)
		}
		if v == nil {
			continue
		}
		data, err := json.Marshal(stringKeys(v))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
	slices.Sort(out)
	return out
}

// stable returns got, but replaces objects that differ between two renders of the same chart by
// those in want: for random keys and names, only the number and kind can be compared.
func stable(want, again, got []string) []string {
	if len(want) != len(got) || len(again) != len(got) {
		return got
	}
	out := slices.Clone(got)
	for i := range got {
		if got[i] != want[i] && again[i] != want[i] && again[i] != got[i] && kind(want[i]) == kind(got[i]) {
			out[i] = want[i]
		}
	}
	return out
}

func kind(object string) string {
	var o struct{ APIVersion, Kind string }
	_ = json.Unmarshal([]byte(object), &o)
	return o.APIVersion + " " + o.Kind
}

// lastKeys drops all but the last of a mapping's duplicate keys, like Kubernetes.
func lastKeys(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		last := map[string]int{}
		for i := 0; i < len(n.Content); i += 2 {
			last[n.Content[i].Value] = i
		}
		var kept []*yaml.Node
		for i := 0; i < len(n.Content); i += 2 {
			if k := n.Content[i]; last[k.Value] == i || k.Tag == "!!merge" {
				kept = append(kept, k, n.Content[i+1])
			}
		}
		n.Content = kept
	}
	for _, c := range n.Content {
		lastKeys(c)
	}
}

func stringKeys(v any) any {
	switch v := v.(type) {
	case map[any]any:
		m := map[string]any{}
		for k, e := range v {
			m[fmt.Sprint(k)] = stringKeys(e)
		}
		return m
	case map[string]any:
		for k, e := range v {
			v[k] = stringKeys(e)
		}
	case []any:
		for i, e := range v {
			v[i] = stringKeys(e)
		}
	}
	return v
}
