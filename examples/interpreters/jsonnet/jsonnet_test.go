// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/taped-dev/tape/plugins/conformance"
	"github.com/taped-dev/tape/plugins/interpreter"
)

func TestConformance(t *testing.T) {
	err := conformance.Check(t.Context(), Jsonnet{}, conformance.Options{Cases: os.DirFS("testdata")})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPositions(t *testing.T) {
	tests := []struct {
		text         string
		file         string
		line, column int
	}{
		{"{\n  a: 1\n  b: 2 }", "main.jsonnet", 3, 3},
		{"{\n  a: error 'no' }", "main.jsonnet", 2, 6},
		{"import 'none.libsonnet'", "main.jsonnet", 1, 1},
		{"{\n  a: nothing }", "main.jsonnet", 2, 6},
	}
	for _, test := range tests {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/main.jsonnet", []byte(test.text), 0o644); err != nil {
			t.Fatal(err)
		}
		resp, err := Jsonnet{}.Render(t.Context(), &interpreter.RenderRequest{Source: dir, Path: "."})
		if err != nil || len(resp.Diagnostics) != 1 {
			t.Fatalf("%q: %+v, %v", test.text, resp, err)
		}
		if d := resp.Diagnostics[0]; d.File != test.file || d.Line != test.line || d.Column != test.column {
			t.Errorf("%q: %+v, want %s:%d:%d", test.text, d, test.file, test.line, test.column)
		}
	}
}

func TestImportsStayInside(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{`importstr "/etc/hostname"`, `importstr "../../../../../../../../etc/hostname"`} {
		if err := os.WriteFile(dir+"/main.jsonnet", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		resp, err := Jsonnet{}.Render(t.Context(), &interpreter.RenderRequest{Source: dir, Path: "."})
		if err != nil || len(resp.Diagnostics) != 1 || len(resp.Files) != 0 {
			t.Errorf("%s: %+v, %v; want a diagnostic", text, resp, err)
		}
	}
}
