// SPDX-License-Identifier: Apache-2.0

//go:build unix

package conformance_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/taped-dev/tape/plugins/conformance"
)

// The code in docs/writing-an-interpreter.md compiles and passes the kit.
func TestDocs(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "docs", "writing-an-interpreter.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := func(pattern string) []byte {
		t.Helper()
		m := regexp.MustCompile("(?s)```" + pattern + "```").FindSubmatch(doc)
		if m == nil {
			t.Fatalf("no block %s in the document", pattern)
		}
		return m[1]
	}

	// The program is built as if it were in this module.
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, block("go\n(package main\n.*?)"), 0o644); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "tape-interpreter-note", "main.go"): source,
	}})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "tape-interpreter-note")
	args := []string{"build", "-overlay", overlayFile, "-o", binary}
	// Built like the test itself, so that its compiled packages are reused.
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./tape-interpreter-note")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	files := fstest.MapFS{"namespace.txtar": {Data: block("txtar\n(.*?)")}}
	report, err := conformance.CheckBinary(t.Context(), binary, conformance.Options{Cases: files}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		t.Error(err)
	}
}
