// SPDX-License-Identifier: Apache-2.0

package stagetest_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine"
)

// The stage, the program and the test in docs/writing-a-stage.md compile, and the test passes.
func TestDocs(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs", "writing-a-stage.md"))
	if err != nil {
		t.Fatal(err)
	}
	// As if they were in this module.
	dir, replace := t.TempDir(), map[string]string{}
	names := []string{"docs/internal/digests/digests.go", "docs/internal/digests/tape/main.go", "docs/internal/digests/digests_test.go"}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(blocks) != len(names) {
		t.Fatalf("%d blocks of Go, want %d", len(blocks), len(names))
	}
	for i, block := range blocks {
		file := filepath.Join(dir, filepath.Base(names[i]))
		code := bytes.ReplaceAll(block[1], []byte(`"example.com/digests"`), []byte(`"github.com/taped-dev/tape/docs/internal/digests"`))
		if err := os.WriteFile(file, code, 0o644); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, names[i])] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "digests.test")
	if err := os.WriteFile(file, overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-overlay", file, "-o", os.DevNull, "./docs/internal/digests/tape"},
		{"go", "test", "-c", "-vet=off", "-trimpath", "-overlay", file, "-o", binary, "./docs/internal/digests"},
		{binary},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0") // like make build, which has compiled most of it
		if cmd.Dir = root; args[0] == binary {
			cmd.Dir = dir
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// docs/events.md has a row for every field of an event, and its examples are events.
func TestEventDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[engine.Event]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		want = append(want, name)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|").FindAllSubmatch(doc, -1) {
		got = append(got, string(row[1]))
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("the document has %q, an event %q", got, want)
	}
	for _, state := range []engine.State{engine.Waiting, engine.Running, engine.Cached, engine.Done, engine.Skipped, engine.Failed, engine.Cancelled} {
		if !bytes.Contains(doc, []byte("`"+string(state)+"`")) {
			t.Errorf("the document has no state %s", state)
		}
	}
	examples := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(doc)
	for line := range strings.Lines(string(examples[1])) {
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		var e engine.Event
		if err := dec.Decode(&e); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		again, err := engine.MarshalJSON(e)
		if err != nil || string(again) != strings.TrimSpace(line) {
			t.Errorf("%s is written %s, %v", line, again, err)
		}
	}
}
