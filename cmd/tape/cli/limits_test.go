// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"go/ast"
	"go/constant"
	"go/parser"
	goprinter "go/printer"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/limits.md lists the actual limits. A row names, in a comment, the constant that it is
// compared with: folder.name.
func TestLimits(t *testing.T) {
	const top = "../../.."
	doc, err := os.ReadFile(filepath.Join(top, "docs/limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| (.*?) (?:<!-- (\S+) --> )?\| (.+?) \| .+ \| .+ \|$`)
	rows := 0
	for n, line := range strings.Split(string(doc), "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| what |") {
			continue
		}
		m := row.FindStringSubmatch(line)
		if m == nil || m[2] == "" {
			t.Errorf("line %d: a row has four columns, the first with the comment <!-- folder.constant -->", n+1)
			continue
		}
		rows++
		want, err := parseLimit(m[3])
		if err != nil {
			t.Errorf("line %d: limit %q: %v", n+1, m[3], err)
			continue
		}
		dir, name := path.Dir(m[2]), path.Base(m[2])
		folder, name, _ := strings.Cut(name, ".")
		got := constantOf(t, filepath.Join(top, dir, folder), name)
		if !constant.Compare(constant.ToFloat(got), token.EQL, constant.MakeFloat64(want)) {
			t.Errorf("line %d: %s is %s, and %s is %s", n+1, m[1], m[3], m[2], got)
		}
	}
	if rows < 15 {
		t.Errorf("docs/limits.md has %d rows", rows)
	}
}

// parseLimit reads "100,000", "3.5 MiB" or "10 min", times in nanoseconds.
func parseLimit(text string) (float64, error) {
	number, unit, _ := strings.Cut(text, " ")
	n, err := strconv.ParseFloat(strings.ReplaceAll(number, ",", ""), 64)
	factor, ok := map[string]float64{
		"": 1, "bytes": 1, "levels": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1e9, "min": 60e9, "h": 3600e9,
	}[unit]
	if !ok {
		return 0, strconv.ErrSyntax
	}
	return n * factor, err
}

// constantOf evaluates a constant of a package, including those in functions.
func constantOf(t *testing.T, dir, name string) constant.Value {
	t.Helper()
	units := strings.NewReplacer("time.Hour", "3600e9", "time.Minute", "60e9", "time.Second", "1e9", "time.Millisecond", "1e6")
	fset := token.NewFileSet()
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var value constant.Value
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, source, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok || len(spec.Values) != len(spec.Names) {
				return true
			}
			for i, ident := range spec.Names {
				if ident.Name != name {
					continue
				}
				var text strings.Builder
				if err := goprinter.Fprint(&text, fset, spec.Values[i]); err != nil {
					t.Fatal(err)
				}
				tv, err := types.Eval(token.NewFileSet(), nil, token.NoPos, units.Replace(text.String()))
				if err != nil || tv.Value == nil {
					t.Fatalf("%s.%s = %s: %v", dir, name, &text, err)
				}
				value = tv.Value
			}
			return true
		})
	}
	if value == nil {
		t.Fatalf("%s has no constant %s", dir, name)
	}
	return value
}
