//go:build corpus

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/app"
)

// applications is the minimum number of applications.
const applications = 20

// fixed is the digest of an image; the upstream of a test makes up others.
var fixed = regexp.MustCompile(`@sha256:[0-9a-f]+`)

// TestCorpusElsewhere packs the applications of the corpus in one process, and with every node
// in its own process. If the corpus has no input, the source is the output of another renderer.
func TestCorpusElsewhere(t *testing.T) {
	corpus := os.Getenv("TAPE_CORPUS")
	truths, err := filepath.Glob(filepath.Join(corpus, "truth", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	// A source inside another one.
	sources := map[string]app.Source{"base": {Path: filepath.Join(corpus, "inputs", "y-tape-tekton", "manifest", "testdata", "tekton", "base")}}
	for _, truth := range truths {
		name := strings.TrimSuffix(filepath.Base(truth), ".json")
		if name == "c-timoni-podinfo" {
			continue // its objects are in a map, which no cluster accepts
		}
		data, err := os.ReadFile(truth)
		if err != nil {
			t.Fatal(err)
		}
		var about struct{ Entry []string }
		if err := json.Unmarshal(data, &about); err != nil {
			t.Fatal(err)
		}
		source := app.Source{Path: filepath.Join(corpus, "rendered", name+".yaml")}
		if _, err := os.Stat(filepath.Join(corpus, "inputs", name)); err == nil && len(about.Entry) == 1 {
			source.Path = filepath.Join(corpus, "inputs", name, about.Entry[0])
		}
		if !strings.HasPrefix(name, "k-") {
			source.Interpreter = "plain" // some of them contain sources
		}
		sources[name] = source
	}
	if len(sources) < applications {
		t.Fatalf("TAPE_CORPUS %q has %d cases, want %d", corpus, len(sources), applications)
	}
	e := newEqualRoots(t)
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			source.Path = unpinned(t, corpus, source.Path)
			e.check(t, app.Options{Sources: []app.Source{source}})
		})
	}
}

// unpinned copies the files of a source, without digests of images, and returns the path of the
// copy.
func unpinned(t *testing.T, corpus, source string) string {
	t.Helper()
	rel, err := filepath.Rel(corpus, source)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(filepath.ToSlash(rel), "/", 3)
	top, to := filepath.Join(corpus, parts[0], parts[1]), t.TempDir()
	err = filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(corpus, name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), fixed.ReplaceAll(data, nil), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(to, rel)
}
