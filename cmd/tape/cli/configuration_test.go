// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// variablesRead returns the environment variables that the code below a folder reads by name,
// or that an interpreter declares, except in tests.
func variablesRead(t *testing.T, dirs ...string) map[string]token.Position {
	t.Helper()
	set := token.NewFileSet()
	var files []*ast.File
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "registrytest") {
				return err
			}
			file, err := parser.ParseFile(set, name, nil, 0)
			files = append(files, file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	constants := map[string]string{} // by name, whatever their package
	text := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			s, _ := strconv.Unquote(e.Value)
			return s
		case *ast.Ident:
			return constants[e.Name]
		case *ast.SelectorExpr:
			return constants[e.Sel.Name]
		}
		return ""
	}
	inspect := func(visit func(ast.Node)) {
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool { visit(n); return true })
		}
	}
	inspect(func(n ast.Node) {
		if s, ok := n.(*ast.ValueSpec); ok && len(s.Names) == len(s.Values) {
			for i, name := range s.Names {
				if l, ok := s.Values[i].(*ast.BasicLit); ok && l.Kind == token.STRING {
					constants[name.Name] = text(l)
				}
			}
		}
	})
	found := map[string]token.Position{}
	variable := regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	add := func(e ast.Expr) {
		if name := text(e); variable.MatchString(name) {
			found[name] = set.Position(e.Pos())
		}
	}
	inspect(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := ""
			switch f := n.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			if slices.Contains([]string{"getenv", "lookupenv"}, strings.ToLower(name)) && len(n.Args) == 1 {
				add(n.Args[0])
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Environment" {
				if list, ok := n.Value.(*ast.CompositeLit); ok {
					for _, e := range list.Elts {
						add(e)
					}
				}
			}
		}
	})
	return found
}

// TestConfiguration compares docs/configuration.md with the code: it lists every variable that
// is read, no other, and every exit status.
func TestConfiguration(t *testing.T) {
	top := "../../.."
	page, err := os.ReadFile(filepath.Join(top, "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Environment variables")
	table, rest, _ := strings.Cut(table, "\n## ")
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(table, -1) {
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(m[1], -1) {
			documented = append(documented, name[1])
		}
	}
	read := variablesRead(t, filepath.Join(top, "engine"), filepath.Join(top, "stages"), filepath.Join(top, "plugins"), filepath.Join(top, "interpreters"), ".")
	if len(read) < 20 {
		t.Errorf("only %d variables were found", len(read))
	}
	for name, at := range read {
		if !slices.Contains(documented, name) {
			t.Errorf("%s: $%s is not in docs/configuration.md", at, name)
		}
	}
	// net/http and Temporal's SDK read them.
	byOthers := []string{
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
		"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE",
	}
	for _, name := range documented {
		if _, ok := read[name]; !ok && !slices.Contains(byOthers, name) {
			t.Errorf("nothing reads $%s, which docs/configuration.md names", name)
		}
	}
	for _, status := range []int{exitFailed, exitUsage, exitPolicy, exitInterrupted, exitDiffers, exitTrouble} {
		if !strings.Contains(rest, fmt.Sprintf("\n| %d | ", status)) {
			t.Errorf("exit status %d is not in docs/configuration.md", status)
		}
	}
}
