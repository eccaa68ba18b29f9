// SPDX-License-Identifier: Apache-2.0

package cue

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/parser"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// render evaluates the packages and returns their objects as files.
func (s *source) render() ([]interpreter.File, []interpreter.Diagnostic, error) {
	var expression ast.Expr
	if s.Expression != "" {
		var err error
		if expression, err = parser.ParseExpr("expression", s.Expression); err != nil {
			return nil, nil, s.problems(err)
		}
	}
	ctx := cuecontext.New()
	all, remarks, err := s.fromPackages(ctx, expression)
	if err != nil || len(all) == 0 {
		fromTools, toolErr := s.fromTools(ctx, expression)
		switch {
		case toolErr == nil && len(fromTools) > 0:
			all = fromTools
		case err != nil:
			return nil, nil, err
		case toolErr != nil:
			return nil, nil, toolErr
		}
	}
	if len(all) == 0 {
		what := strings.Join(s.packages, " ")
		if s.Expression != "" {
			what = s.Expression + " of " + what
		}
		return nil, nil, problem("there is no Kubernetes object in %s: name other packages with 'packages' (./... for all below the source), or the value that contains the objects with 'expression'", what)
	}
	return files(all), remarks, nil
}

// fromPackages returns the objects in the values of the packages.
func (s *source) fromPackages(ctx *cue.Context, expression ast.Expr) ([]object, []interpreter.Diagnostic, error) {
	instances, remarks, err := s.load(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	var all []object
	for _, inst := range instances {
		found, err := s.objects(ctx, inst, expression)
		if err != nil {
			return nil, remarks, err
		}
		all = union(all, found...)
	}
	return all, remarks, nil
}

// load reads the packages, with their _tool.cue files if tools is set.
func (s *source) load(ctx *cue.Context, tools bool) ([]*build.Instance, []interpreter.Diagnostic, error) {
	config := &load.Config{
		Dir:        s.dir,
		ModuleRoot: s.module,
		Tags:       s.Tags,
		Tools:      tools,
		Registry:   s.registry,
	}
	instances := load.Instances(s.packages, config)
	remarks := s.timoniTags(instances, config)
	overlay, err := s.overlaid(ctx, instances)
	if err != nil {
		return nil, nil, err
	}
	if config.Overlay = overlay; remarks != nil || overlay != nil {
		instances = load.Instances(s.packages, config)
	}
	s.unset = unset(instances, config.Tags)
	for _, inst := range instances {
		if inst.Err != nil {
			return nil, nil, s.problems(inst.Err)
		}
	}
	return instances, remarks, nil
}

// given reports whether tags contains one with this name.
func given(tags []string, name string) bool {
	return slices.ContainsFunc(tags, func(t string) bool { key, _, _ := strings.Cut(t, "="); return key == name })
}

// unset returns the tags of the packages that need a value but have none. A tag that only selects
// files (@if) needs none.
func unset(instances []*build.Instance, tags []string) []string {
	var out []string
	for _, inst := range instances {
		for _, name := range tagNames(inst) {
			if !given(tags, name) && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// timoniTags sets the tags that Timoni sets when it builds an unpublished module, unless
// the source sets them.
func (s *source) timoniTags(instances []*build.Instance, config *load.Config) []interpreter.Diagnostic {
	var remarks []interpreter.Diagnostic
	for _, inst := range instances {
		if !isTimoni(inst) {
			continue
		}
		name := path.Base(filepath.ToSlash(s.module))
		if m := ast.ParseImportPath(inst.Module).Path; m != "" {
			name = path.Base(m)
		}
		defaults := map[string]string{"name": name, "namespace": "default", "mv": "0.0.0-devel", "kv": "1.34.0"}
		for _, tag := range tagNames(inst) {
			value, known := defaults[tag]
			if !known || given(config.Tags, tag) {
				continue
			}
			config.Tags = append(slices.Clip(config.Tags), tag+"="+value)
			remarks = append(remarks, interpreter.Diagnostic{
				Severity: interpreter.Info,
				Summary:  fmt.Sprintf("the Timoni tag %s is not set; using %s", tag, value),
			})
		}
	}
	return remarks
}

// isTimoni reports whether a package belongs to a Timoni module.
func isTimoni(inst *build.Instance) bool { return hasField(inst, "timoni", "apply") }

// hasField reports whether a package has a field with a field in it.
func hasField(inst *build.Instance, outer, inner string) bool {
	is := func(name string) func(ast.Decl) bool {
		return func(d ast.Decl) bool {
			f, ok := d.(*ast.Field)
			return ok && label(f) == name
		}
	}
	return slices.ContainsFunc(inst.Files, func(f *ast.File) bool {
		return slices.ContainsFunc(f.Decls, func(d ast.Decl) bool {
			if !is(outer)(d) {
				return false
			}
			body, ok := d.(*ast.Field).Value.(*ast.StructLit)
			return ok && slices.ContainsFunc(body.Elts, is(inner))
		})
	})
}

func label(f *ast.Field) string {
	name, _, _ := ast.LabelName(f.Label)
	return name
}

// tagNames returns the names of a package's @tag attributes, in order of appearance.
func tagNames(inst *build.Instance) []string {
	var out []string
	for _, f := range inst.Files {
		ast.Walk(f, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok {
				return true
			}
			for _, a := range field.Attrs {
				if key, body := a.Split(); key == "tag" {
					name, _, _ := strings.Cut(body, ",")
					if name = strings.TrimSpace(name); !slices.Contains(out, name) {
						out = append(out, name)
					}
				}
			}
			return true
		}, nil)
	}
	return out
}

// objects returns the objects of one package.
func (s *source) objects(ctx *cue.Context, inst *build.Instance, expression ast.Expr) ([]object, error) {
	v := ctx.BuildInstance(inst)
	if err := v.Err(); err != nil {
		return nil, s.problems(err)
	}
	c := collector{source: s, ctx: ctx, folder: s.folderOf(inst)}
	switch apply := v.LookupPath(cue.ParsePath(timoniApply)); {
	case expression == nil && hasField(inst, "bundle", "instances"):
		return s.bundle(ctx, inst, v)
	case expression != nil:
		result := ctx.BuildExpr(expression, cue.Scope(v), cue.ImportPath(inst.ID()), cue.InferBuiltins(true))
		if err := result.Validate(cue.Concrete(true)); err != nil {
			return nil, s.problems(err)
		}
		v = result
		c.streams = true
	case isTimoni(inst) && apply.Exists():
		v = apply
	}
	c.collect(v)
	return c.result()
}

// folderOf returns the folder for the objects of a package: the package's folder if it is
// below the source.
func (s *source) folderOf(inst *build.Instance) string {
	rel, err := filepath.Rel(s.dir, inst.Dir)
	if err != nil || !filepath.IsLocal(rel) {
		return "."
	}
	return filepath.ToSlash(rel)
}
