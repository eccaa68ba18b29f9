// SPDX-License-Identifier: Apache-2.0

// go126 rewrites copies of Argo CD's modules, which require Go 1.27, for Go 1.26:
//
//	go126 DIR...
//
// Literals of Go 1.27 may set the fields of an embedded struct without naming it, and its
// standard library has what was github.com/go-json-experiment/json.
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// embedded describes a struct whose fields literals of other structs set directly.
type embedded struct {
	field  string // name of the field that embeds it
	typ    string // without a package, it is in the package of the literal
	fields []string
}

var (
	typeMeta    = embedded{"TypeMeta", "metav1.TypeMeta", []string{"Kind", "APIVersion"}}
	objectMeta  = embedded{"ObjectMeta", "metav1.ObjectMeta", []string{"Name", "Namespace", "Labels", "Annotations"}}
	listOptions = embedded{"ListOptions", "ListOptions", []string{"PerPage"}}
	normalizer  = embedded{"baseNormalizerPatch", "baseNormalizerPatch", []string{"groupKind", "name", "namespace"}}
	scm         = embedded{"SCMConfig", "SCMConfig", []string{"enableSCMProviders"}}
	request     = embedded{"NamespacedName", "client.ObjectKey", []string{"Name", "Namespace"}}
	resource    = embedded{"ResourceRef", "ResourceRef", []string{"Group", "Kind", "Name", "Namespace", "UID", "Version"}}
)

// structs maps a type to the structs that are embedded in it.
var structs = map[string][]embedded{
	"AppProject":                 {typeMeta, objectMeta},
	"Application":                {typeMeta, objectMeta},
	"BranchListOptions":          {listOptions},
	"ConfigMap":                  {typeMeta, objectMeta},
	"Event":                      {typeMeta, objectMeta},
	"ExploreSnippetsOptions":     {listOptions},
	"Namespace":                  {typeMeta, objectMeta},
	"PullRequestListOptions":     {listOptions},
	"RepositoryListByOrgOptions": {listOptions},
	"Request":                    {request},
	"ResourceNode":               {resource},
	"SCMProviderGenerator":       {scm},
	"Secret":                     {typeMeta, objectMeta},
	"ServiceAccount":             {typeMeta, objectMeta},
	"jqNormalizerPatch":          {normalizer},
	"jsonPatchNormalizerPatch":   {normalizer},
}

// imports replaces packages that are not in the standard library of Go 1.26.
var imports = strings.NewReplacer(
	`"encoding/json/jsontext"`, `"github.com/go-json-experiment/json/jsontext"`,
	`"encoding/json/v2"`, `"github.com/go-json-experiment/json"`,
)

func main() {
	for _, dir := range os.Args[1:] {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			switch {
			case d.Name() == "go.mod":
				return edit(path, func(data []byte) ([]byte, error) {
					return bytes.Replace(data, []byte("\ngo 1.27.0\n"), []byte("\ngo 1.26.0\n"), 1), nil
				})
			case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
				return edit(path, func(data []byte) ([]byte, error) { return rewrite(path, data) })
			}
			return nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "go126:", err)
			os.Exit(1)
		}
	}
}

// edit applies change to the content of a file.
func edit(path string, change func([]byte) ([]byte, error)) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := change(data)
	if err != nil || bytes.Equal(out, data) {
		return err
	}
	return os.WriteFile(path, out, 0o644)
}

// rewrite translates a file from Go 1.27 to Go 1.26.
func rewrite(path string, data []byte) ([]byte, error) {
	data = []byte(imports.Replace(string(data)))
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, data, 0)
	if err != nil {
		return nil, err
	}
	changed := false
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.CompositeLit); ok {
			qualifier, name := typeOf(literal)
			for _, e := range structs[name] {
				changed = nest(literal, e, qualifier) || changed
			}
		}
		return true
	})
	if !changed {
		return data, nil
	}
	var out bytes.Buffer
	if err := format.Node(&out, set, file); err != nil {
		return nil, err
	}
	text := out.String()
	if strings.Contains(text, "metav1.") && !strings.Contains(text, "metav1 \"") {
		text = strings.Replace(text, "import (", "import (\n\tmetav1 \"k8s.io/apimachinery/pkg/apis/meta/v1\"", 1)
	}
	return []byte(text), nil
}

// typeOf returns the type of a literal and its package qualifier.
func typeOf(literal *ast.CompositeLit) (qualifier, name string) {
	switch t := literal.Type.(type) {
	case *ast.Ident:
		return "", t.Name
	case *ast.SelectorExpr:
		if x, ok := t.X.(*ast.Ident); ok {
			return x.Name + ".", t.Sel.Name
		}
	}
	return "", ""
}

// nest moves the elements of a literal that set fields of an embedded struct into a literal of
// that struct. It reports whether there were any.
func nest(literal *ast.CompositeLit, e embedded, qualifier string) bool {
	inner := &ast.CompositeLit{Type: ast.NewIdent(e.typ)}
	if !strings.Contains(e.typ, ".") {
		inner.Type = ast.NewIdent(qualifier + e.typ)
	}
	literal.Elts = slices.DeleteFunc(literal.Elts, func(elt ast.Expr) bool {
		pair, ok := elt.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		key, ok := pair.Key.(*ast.Ident)
		if !ok || !slices.Contains(e.fields, key.Name) {
			return false
		}
		inner.Elts = append(inner.Elts, pair)
		return true
	})
	if len(inner.Elts) == 0 {
		return false
	}
	literal.Elts = append(literal.Elts, &ast.KeyValueExpr{Key: ast.NewIdent(e.field), Value: inner})
	return true
}
