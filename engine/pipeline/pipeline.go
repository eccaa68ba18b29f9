// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/internal/nearest"
)

// Pipeline is a pipeline file and the changes made to it by code. It is not safe for
// concurrent use.
type Pipeline struct {
	table     *Table
	file      string
	root      *value // mapping
	args      map[string]arg
	overrides []override
	// environments are those to take; none means all.
	environments []string
}

// override is an option set by With.
type override struct {
	node, option string
	value        *value
}

// New returns a pipeline without a file.
func (t *Table) New() *Pipeline {
	return &Pipeline{table: t, root: &value{kind: mapping}, args: map[string]arg{}}
}

// Parse reads a pipeline file. file is the name for errors. The error is [Errors], with all
// mistakes in the form of the file; those in its values are found by Expand.
func (t *Table) Parse(file string, data []byte) (*Pipeline, error) {
	root, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, Errors{newError(position{file: file}, advice.Add(errors.New("the file is empty"), advice.WritePipeline))}
	}
	if root.kind != mapping {
		return nil, Errors{{File: file, Line: root.at.line, Column: root.at.column, Message: "a pipeline must be a mapping, not " + root.kind.an()}}
	}
	var p problems
	for _, header := range []struct{ key, want string }{{"apiVersion", APIVersion}, {"kind", FileKind}} {
		got := root.get(header.key)
		switch {
		case got == nil:
			p.add(root.at, "%s is missing; want %s: %s", header.key, header.key, header.want)
		case got.scalar != header.want:
			p.add(got.at, "%s is %q, want %s", header.key, got.scalar, header.want)
		}
	}
	known(root, &p, slices.Concat([]string{"apiVersion", "kind", "args", "sources", "environments"}, slices.Sorted(maps.Keys(t.sections)), []string{"nodes"})...)
	for section, keys := range t.sections {
		if v := root.get(section); v != nil && v.kind != null && want(v, mapping, fmt.Sprintf("%q", section), &p) {
			known(v, &p, slices.Sorted(maps.Keys(keys))...)
		}
	}
	pl := &Pipeline{table: t, file: file, root: root, args: readArgs(root.get("args"), &p)}
	// Check their form, which does not depend on arguments. Expand reads the values again
	// once the arguments are known.
	readNodes(root.get("nodes"), &p)
	if v := root.get("sources"); v != nil && want(v, list, `"sources"`, &p) {
		for _, item := range v.items {
			if want(item, mapping, "a source", &p) {
				known(item, &p, "name", "path", "interpreter", "options")
			}
		}
	}
	readEnvironments(root.get("environments"), &p)
	if err := p.sorted(); err != nil {
		return nil, err
	}
	return pl, nil
}

// SetSources replaces the sources of the file.
func (p *Pipeline) SetSources(sources ...Source) error {
	v, err := fromGo(sources)
	if err != nil {
		return fmt.Errorf("set sources: %w", err)
	}
	p.root = p.root.with(field{key: "sources", value: v})
	return nil
}

// Set sets a value of the short form, such as "images.platform", in place of the file's. If
// both values are mappings, their keys are merged.
func (p *Pipeline) Set(path string, v any) error {
	section, key, _ := strings.Cut(path, ".")
	if _, ok := p.table.sections[section][key]; !ok {
		return fmt.Errorf("%q is not a setting of a pipeline", path)
	}
	set, err := fromGo(v)
	if err != nil {
		return fmt.Errorf("set %s: %w", path, err)
	}
	in := p.root.get(section)
	if in != nil && in.kind != mapping {
		in = nil
	}
	if have := in.get(key); have != nil && have.kind == mapping && set.kind == mapping {
		for _, f := range set.fields {
			have = have.with(f)
		}
		set = have
	}
	p.root = p.root.with(field{key: section, value: in.with(field{key: key, value: set})})
	return nil
}

// With sets an option of a node, or of all instances of a node, in place of the file's.
func (p *Pipeline) With(node, option string, v any) error {
	set, err := fromGo(v)
	if err != nil {
		return fmt.Errorf("set option %s of %s: %w", option, node, err)
	}
	p.overrides = append(p.overrides, override{node, option, set})
	return nil
}

// Build expands the pipeline and returns its graph, or that of the targets.
func (p *Pipeline) Build(ctx context.Context, args map[string]string, targets ...string) (*engine.Graph, error) {
	e, err := p.Expand(ctx, args)
	if err != nil {
		return nil, err
	}
	return e.Graph(targets...)
}

// Expand fills the short form into the default pipeline, merges the nodes of the file over
// it, and instantiates nodes for every source. args are the values of arguments by name.
// Secrets in options are replaced by references. The error is [Errors].
func (p *Pipeline) Expand(ctx context.Context, args map[string]string) (*Expanded, error) {
	var problems problems
	values := resolveArgs(p.args, args, &problems)
	if err := problems.sorted(); err != nil {
		return nil, err // uses of them would only repeat the problems
	}
	argument := func(name string) (*value, string, bool) {
		v, ok := values[name]
		return v, nearest.Hint(name, maps.Keys(values)), ok
	}
	root := *p.root
	root.fields = slices.Clone(root.fields)
	for i, f := range root.fields {
		switch f.key {
		case "apiVersion", "kind", "args", "nodes": // nodes are filled in for each source
			continue
		}
		if root.fields[i].value = substitute(f.value, argument, &problems); root.fields[i].value == nil {
			root.fields[i].value = &value{at: f.at, kind: null}
		}
	}
	if err := problems.sorted(); err != nil {
		return nil, err
	}
	e := &Expanded{table: p.table, at: root.at, root: &root, argument: argument}
	e.sources = readSources(root.get("sources"), &problems)
	environments := readEnvironments(root.get("environments"), &problems)
	e.sources = inEnvironments(e.sources, environments, p.environments, &problems)
	e.partial = len(p.environments) > 0 && slices.ContainsFunc(environments, func(one environment) bool { return !slices.Contains(p.environments, one.name) })
	own := readNodes(root.get("nodes"), &problems)
	if len(problems) == 0 && len(e.sources) == 0 && len(own) == 0 {
		at := e.at
		if v := root.get("sources"); v != nil {
			at = v.at
		}
		problems.add(at, "the pipeline has no sources")
	}
	if err := problems.sorted(); err != nil {
		return nil, err
	}
	if err := e.expand(own, p.overrides); err != nil {
		return nil, err
	}
	return e, e.conceal(ctx)
}
