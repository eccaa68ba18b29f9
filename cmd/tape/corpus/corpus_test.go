//go:build corpus

// SPDX-License-Identifier: Apache-2.0

// Package corpus tests tape with real inputs: `make corpus CORPUS=DIR`.
//
// DIR has inputs/<case>/<entry> (the source that a user passes to tape), rendered/<case>.yaml
// (the output of other renderers, for cases whose inputs are elsewhere), truth/<case>.json (the
// references that a careful reader finds) and score.py (which compares).
package corpus

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestCorpus runs the built tape on every case and compares what it found with
// the truth: recall of each class, and precision.
func TestCorpus(t *testing.T) {
	corpus := os.Getenv("TAPE_CORPUS")
	truths, err := filepath.Glob(filepath.Join(corpus, "truth", "*.json"))
	if err != nil || len(truths) == 0 {
		t.Fatalf("no cases in TAPE_CORPUS %q: %v", corpus, err)
	}
	tape, err := filepath.Abs("../../../bin/tape")
	if err != nil {
		t.Fatal(err)
	}
	out, cache := t.TempDir(), t.TempDir()
	for _, truth := range truths {
		name := strings.TrimSuffix(filepath.Base(truth), ".json")
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), tape, "images", "--no-resolve", "-o", "json", "--progress", "none", "--store", cache, source(t, corpus, name, truth))
			var stderr strings.Builder
			cmd.Stderr = &stderr
			found, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %v\n%s", cmd.Args, err, &stderr)
			}
			if err := os.WriteFile(filepath.Join(out, name+".json"), found, 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, c := range []struct {
		classes           string
		precision, recall float64
	}{
		{"pod,crd,indirect", 0.99, 0}, {"pod", 0, 1}, {"crd", 0, 0.95}, {"indirect", 0, 0.85},
	} {
		text, precision, recall := score(t, corpus, out, c.classes)
		t.Logf("%s: precision %.3f, recall %.3f", c.classes, precision, recall)
		if precision < c.precision || recall < c.recall {
			t.Errorf("%s: want a precision of %.3f and a recall of %.3f\n%s", c.classes, c.precision, c.recall, text)
		}
	}
}

// source returns the source of a case: its input or, if the corpus has none, the output of
// another renderer.
func source(t *testing.T, corpus, name, truth string) string {
	t.Helper()
	data, err := os.ReadFile(truth)
	if err != nil {
		t.Fatal(err)
	}
	var about struct{ Entry []string }
	if err := json.Unmarshal(data, &about); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(corpus, "inputs", name)); err != nil || len(about.Entry) != 1 {
		return filepath.Join(corpus, "rendered", name+".yaml")
	}
	return filepath.Join(corpus, "inputs", name, about.Entry[0])
}

var total = regexp.MustCompile(`TOTAL.*\bP (\d\.\d+)\s+R (\d\.\d+)`)

// score runs the corpus's own scorer.
func score(t *testing.T, corpus, out, classes string) (text string, precision, recall float64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", filepath.Join(corpus, "score.py"), "--all", out, "--set", "open", "-v", "--classes", classes)
	printed, err := cmd.CombinedOutput()
	m := total.FindStringSubmatch(string(printed))
	if err != nil || m == nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, printed)
	}
	precision, _ = strconv.ParseFloat(m[1], 64)
	recall, _ = strconv.ParseFloat(m[2], 64)
	return string(printed), precision, recall
}
