// SPDX-License-Identifier: Apache-2.0

package cue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/encoding/yaml"

	"github.com/taped-dev/tape/plugins/interpreter"
)

const (
	// timoniApply is the path of the objects in a Timoni module.
	timoniApply = "timoni.apply"
	// timoniValues is the file to which Timoni writes the values of a module.
	timoniValues = "values.cue"
	valuesField  = "values"
	// bundleInstances is the path of the modules in a Timoni bundle.
	bundleInstances = "bundle.instances"
)

// overlaid returns an overlay for the values file of each Timoni module: the values of the module
// merged with those of files and of a bundle, as Timoni writes it before a build.
func (s *source) overlaid(ctx *cue.Context, instances []*build.Instance) (map[string]load.Source, error) {
	if len(s.Values) == 0 && s.given == nil {
		return nil, nil
	}
	overlay := map[string]load.Source{}
	for _, inst := range instances {
		if !isTimoni(inst) {
			continue
		}
		file := filepath.Join(inst.Dir, timoniValues)
		values := any(map[string]any{})
		if exists(file) {
			own, err := s.valuesOf(ctx, file)
			if err != nil {
				return nil, err
			}
			values = own
		}
		for _, name := range s.Values {
			more, err := s.valuesOf(ctx, filepath.Join(s.root, filepath.FromSlash(name)))
			if err != nil {
				return nil, err
			}
			values = over(values, more)
		}
		if s.given != nil {
			values = over(values, s.given)
		}
		data, err := json.Marshal(values)
		if err != nil {
			return nil, err
		}
		overlay[file] = load.FromString(fmt.Sprintf("package %s\n\n%s: %s\n", inst.PkgName, valuesField, data))
	}
	if len(overlay) == 0 {
		return nil, problem("option 'values' is for Timoni modules, and %s has none", strings.Join(s.packages, " "))
	}
	return overlay, nil
}

// valuesOf returns the concrete values in a file of CUE, YAML or JSON.
func (s *source) valuesOf(ctx *cue.Context, file string) (any, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, unreadable(s.name(file), err)
	}
	var f *ast.File
	switch path.Ext(file) {
	case ".yaml", ".yml", ".json":
		f, err = yaml.Extract(file, data)
	default:
		f, err = parser.ParseFile(file, data)
	}
	if err != nil {
		return nil, s.problems(err)
	}
	v := ctx.BuildFile(f)
	if v.Err() == nil {
		if v = v.LookupPath(cue.ParsePath(valuesField)); !v.Exists() {
			return nil, interpreter.Problem(s.name(file), 0, "the file has no field %q", valuesField)
		}
	}
	return s.plain(v)
}

// plain returns a concrete value as decoded JSON.
func (s *source) plain(v cue.Value) (any, error) {
	if err := v.Validate(cue.Concrete(true)); err != nil {
		return nil, s.problems(err)
	}
	data, err := v.MarshalJSON()
	if err != nil {
		return nil, s.problems(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var out any
	return out, dec.Decode(&out)
}

// over merges values as Timoni does: structs field by field, lists item by item with the
// length of the upper list.
func over(under, upper any) any {
	switch upper := upper.(type) {
	case map[string]any:
		below, ok := under.(map[string]any)
		if !ok {
			return upper
		}
		out := maps.Clone(below)
		for k, v := range upper {
			if was, ok := out[k]; ok {
				v = over(was, v)
			}
			out[k] = v
		}
		return out
	case []any:
		below, ok := under.([]any)
		if !ok {
			return upper
		}
		out := slices.Clone(upper)
		for i := range min(len(out), len(below)) {
			out[i] = over(below[i], out[i])
		}
		return out
	}
	return upper
}

// bundle returns the objects of the modules of a bundle, each in a folder named after its
// instance.
func (s *source) bundle(ctx *cue.Context, inst *build.Instance, v cue.Value) ([]object, error) {
	if len(s.Values) > 0 {
		return nil, problem("option 'values' is for Timoni modules: a bundle contains its values")
	}
	instances, err := v.LookupPath(cue.ParsePath(bundleInstances)).Fields()
	if err != nil {
		return nil, s.problems(err)
	}
	var all []object
	for instances.Next() {
		name, i := instances.Selector().Unquoted(), instances.Value()
		dir, err := s.moduleOf(inst, name, text(i, "module.url"))
		if err != nil {
			return nil, err
		}
		module := &source{
			options: options{Tags: []string{"name=" + name, "namespace=" + text(i, "namespace")}},
			root:    s.root, module: dir, dir: dir, packages: []string{"."}, registry: s.registry,
			given: map[string]any{},
		}
		if values := i.LookupPath(cue.ParsePath(valuesField)); values.Exists() {
			if module.given, err = s.plain(values); err != nil {
				return nil, err
			}
		}
		found, _, err := module.fromPackages(ctx, nil)
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			o.folder = path.Join(s.folderOf(inst), fileName(name))
			all = append(all, o)
		}
	}
	return all, nil
}

// moduleOf returns the folder of the module that an instance of a bundle names.
func (s *source) moduleOf(inst *build.Instance, instance, url string) (string, error) {
	local, ok := strings.CutPrefix(url, "file://")
	switch {
	case url == "":
		return "", problem("bundle: instance %s: module.url is not a concrete string", instance)
	case !ok:
		return "", problem("bundle: instance %s: %s is not supported: use a module in the tree (file://…); `timoni mod pull` puts one there", instance, url)
	case filepath.IsAbs(local):
		return "", problem("bundle: instance %s: %s is absolute: name the module relative to the bundle", instance, url)
	}
	dir := filepath.Join(inst.Dir, filepath.FromSlash(local))
	if folder, err := isFolder(dir); err != nil || !folder || !within(s.root, dir) {
		return "", problem("bundle: instance %s: there is no module at %s", instance, url)
	}
	return dir, nil
}

// bundled returns the folders of the modules that a file of a bundle names.
func bundled(f *ast.File) []string {
	var out []string
	ast.Walk(f, func(n ast.Node) bool {
		if field, ok := n.(*ast.Field); ok && label(field) == "url" {
			if lit, ok := field.Value.(*ast.BasicLit); ok {
				if dir, ok := strings.CutPrefix(strings.Trim(lit.Value, `"#`), "file://"); ok && !filepath.IsAbs(dir) {
					out = append(out, dir)
				}
			}
		}
		return true
	}, nil)
	return out
}
