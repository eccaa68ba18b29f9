// SPDX-License-Identifier: Apache-2.0

package stages_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages"
)

// All folders of stages have the same structure.
func TestFolders(t *testing.T) {
	for _, kind := range stages.Kinds(stages.Dependencies{}) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(kind.Name, "stage.go"), nil, parser.ParseComments)
		if err != nil {
			t.Error(err)
			continue
		}
		if file.Doc == nil {
			t.Errorf("%s: stage.go does not say what the stage does", kind.Name)
		}
		var got []string
		want := []string{"Config", "Kind", "Stage", "New", "Run"}
		for _, decl := range file.Decls {
			for _, name := range declared(decl) {
				if slices.Contains(want, name) {
					got = append(got, name)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: stage.go declares other things or in another order (-want +got):\n%s", kind.Name, diff)
		}
		schema, err := os.ReadFile(filepath.Join(kind.Name, "config.schema.json"))
		if err != nil || !bytes.Equal(schema, kind.Schema) {
			t.Errorf("%s: config.schema.json is not the schema of the kind: %v", kind.Name, err)
		}
		if _, err := os.Stat(filepath.Join(kind.Name, "stage_test.go")); err != nil {
			t.Error(err)
		}
	}
}

// declared returns the types and functions that a declaration makes, and the
// method Run.
func declared(decl ast.Decl) []string {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || d.Name.Name == "Run" {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		var names []string
		for _, spec := range d.Specs {
			if s, ok := spec.(*ast.TypeSpec); ok {
				names = append(names, s.Name.Name)
			}
		}
		return names
	}
	return nil
}
