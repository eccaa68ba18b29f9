// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/advice"
)

// literals visits every string in the Go files below a folder, except tests.
func literals(t *testing.T, dir string, visit func(at token.Position, text string)) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if text, err := strconv.Unquote(l.Value); err == nil {
					visit(set.Position(l.Pos()), text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLibraryNamesNoFlags checks that texts of the library do not name flags and commands of
// this package, because other programs use it too.
func TestLibraryNamesNoFlags(t *testing.T) {
	named := regexp.MustCompile(`^--[a-z-]+ %|[ (\x60'"]--[a-z]|[ (]-[A-Zp]\b|'tape [a-z]|\btape (package|images|render|list|view|diff|pull|sign|verify|copy|relocate|save|load|cnab|pipeline|interpreter|cache|login) `)
	others := strings.NewReplacer("git submodule update --init", "", " --user ", "") // flags of git and curl
	for _, dir := range []string{"engine", "stages", "plugins", "interpreters"} {
		literals(t, filepath.Join("../../..", dir), func(at token.Position, text string) {
			if named.MatchString(others.Replace(text)) && !strings.HasSuffix(at.Filename, "plugins/serve/serve.go") { // addresses a person who started it in a shell
				t.Errorf("%s: %q names a flag or a command: say what would help in package advice, and how in hints", at, text)
			}
		})
	}
}

// Each advice has a hint about the same subject.
func TestHints(t *testing.T) {
	known := map[advice.Action]bool{}
	literals(t, "../../../engine/advice", func(_ token.Position, text string) {
		if _, ok := hints[advice.Action(text)]; ok {
			known[advice.Action(text)] = true
		} else if strings.Count(text, " ") > 0 && text != "; " {
			t.Errorf("no hint says how to %q", text)
		}
	})
	for a, hint := range hints {
		if !known[a] {
			t.Errorf("%q is no advice", a)
		}
		about := make([]any, strings.Count(string(a), "%s"))
		for i := range about {
			about[i] = "x"
		}
		if text := fmt.Sprintf(hint, about...); strings.Contains(text, "%!") {
			t.Errorf("hint for %q: %s", a, text)
		}
	}
}

func TestHinted(t *testing.T) {
	locked := advice.Add(errors.New("b is not locked"), advice.Update, "images")
	err := fmt.Errorf("package x: %w", errors.Join(advice.Add(errors.New("a is not there"), advice.LogIn, "a.example"), locked))
	if want := "package x: a is not there; log in to a.example\nb is not locked; update the images of the lock to accept this"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if got, want := hinted(err), "package x: a is not there; log in with: tape login a.example\nb is not locked; --update=images accepts it"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
