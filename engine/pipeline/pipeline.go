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
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/nearest"
)

// Pipeline is a pipeline file and the changes made to it by code. It is not safe for
// concurrent use.
type Pipeline struct {
	table     *Table
	file      string
	root      *document.Value // mapping
	args      map[string]arg
	overrides []override
	// environments are those to take; none means all.
	environments []string
}

// override is an option set by With.
type override struct {
	node, option string
	value        *document.Value
}

// New returns a pipeline without a file.
func (t *Table) New() *Pipeline {
	return &Pipeline{table: t, root: header(), args: map[string]arg{}}
}

// Parse reads a pipeline file. file is the name for errors. The error is [Errors], with all
// mistakes in the form of the file; those in its values are found by Expand.
func (t *Table) Parse(file string, data []byte) (*Pipeline, error) {
	root, err := document.Parse(file, data)
	if err != nil {
		return nil, err
	}
	var p document.Problems
	if root == nil {
		p.Cause(document.Position{File: file}, advice.Add(errors.New("the file is empty"), advice.WritePipeline))
		return nil, p.Err()
	}
	// Check the form, which does not depend on arguments. Expand checks it again once the
	// arguments are known.
	form().Check(root, &p)
	known(root, &p, append(slices.Collect(maps.Keys(t.sections)), "apiVersion", "kind", "args", "sources", "environments", "nodes")...)
	for section, keys := range t.sections {
		if v := root.Get(section); v != nil && v.Kind != document.Mapping && v.Kind != document.Null {
			p.Add(v.At, "%s must be a mapping, not %s", section, v.Kind.An())
		} else if v != nil {
			known(v, &p, slices.Collect(maps.Keys(keys))...)
		}
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	pl := &Pipeline{table: t, file: file, root: root, args: readArgs(root.Get("args"), &p)}
	readEnvironments(root.Get("environments"), &p)
	return pl, p.Err()
}

// SetSources replaces the sources of the file.
func (p *Pipeline) SetSources(sources ...Source) error {
	v, err := document.FromGo(sources)
	if err != nil {
		return fmt.Errorf("set sources: %w", err)
	}
	p.root = p.root.Set("sources", v)
	return nil
}

// Set sets a value of the short form, such as "images.platform", in place of the file's. If
// both values are mappings, their keys are merged.
func (p *Pipeline) Set(path string, v any) error {
	section, key, _ := strings.Cut(path, ".")
	if _, ok := p.table.sections[section][key]; !ok {
		return fmt.Errorf("%q is not a setting of a pipeline", path)
	}
	set, err := document.FromGo(v)
	if err != nil {
		return fmt.Errorf("set %s: %w", path, err)
	}
	in := p.root.Get(section)
	if in != nil && in.Kind != document.Mapping {
		in = nil
	}
	if have := in.Get(key); have != nil && have.Kind == document.Mapping && set.Kind == document.Mapping {
		for _, f := range set.Fields {
			have = have.With(f)
		}
		set = have
	}
	p.root = p.root.Set(section, in.Set(key, set))
	return nil
}

// With sets an option of a node, or of all instances of a node, in place of the file's.
func (p *Pipeline) With(node, option string, v any) error {
	set, err := document.FromGo(v)
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
	var problems document.Problems
	values := resolveArgs(p.args, args, &problems)
	if err := problems.Err(); err != nil {
		return nil, err // uses of them would only repeat the problems
	}
	argument := func(name string) (*document.Value, string, bool) {
		v, ok := values[name]
		return v, nearest.Hint(name, maps.Keys(values)), ok
	}
	root := *p.root
	root.Fields = slices.Clone(root.Fields)
	for i, f := range root.Fields {
		switch f.Key {
		case "apiVersion", "kind", "args", "nodes": // nodes are filled in for each source
			continue
		}
		if root.Fields[i].Value = substitute(f.Value, argument, &problems); root.Fields[i].Value == nil {
			root.Fields[i].Value = &document.Value{At: f.At, Kind: document.Null}
		}
	}
	if len(problems) == 0 {
		form().Check(&root, &problems)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	e := &Expanded{table: p.table, at: root.At, root: &root, argument: argument}
	e.sources = readSources(root.Get("sources"), &problems)
	environments := readEnvironments(root.Get("environments"), &problems)
	e.sources = inEnvironments(e.sources, environments, p.environments, &problems)
	e.partial = len(p.environments) > 0 && slices.ContainsFunc(environments, func(one environment) bool { return !slices.Contains(p.environments, one.name) })
	own := readNodes(root.Get("nodes"))
	if len(problems) == 0 && len(e.sources) == 0 && len(own) == 0 {
		at := e.at
		if v := root.Get("sources"); v != nil {
			at = v.At
		}
		problems.Add(at, "the pipeline has no sources")
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if err := e.expand(own, p.overrides); err != nil {
		return nil, err
	}
	return e, e.conceal(ctx)
}
