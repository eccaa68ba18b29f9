// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	violation "github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/internal/nearest"
)

// Graph returns the graph of the targets and what they depend on. A target is the name of a
// node, or of the node that instances were made from; without targets the graph has all
// nodes. All given options must be valid; only the nodes in the graph must have their
// required options. [Expanded.Stages] runs the graph.
func (e *Expanded) Graph(targets ...string) (*engine.Graph, error) {
	var p problems
	needed, err := e.needed(targets)
	if err != nil {
		return nil, err
	}
	for _, n := range e.nodes {
		e.checkOptions(n, needed[n.name], &p)
		for _, port := range n.kind.Inputs {
			given := slices.ContainsFunc(n.inputs, func(in input) bool { return in.name == port.Name })
			if needed[n.name] && !given && !port.Optional {
				p.add(e.blame(n), "node %q needs input %q", n.name, port.Name)
			}
		}
	}
	var nodes []engine.Node
	for _, n := range e.nodes {
		if len(p) > 0 || !needed[n.name] {
			continue
		}
		with, err := n.with.raw()
		if err != nil {
			return nil, fmt.Errorf("options of node %q: %w", n.name, err)
		}
		_, err = n.kind.New(with)
		if mistakes, ok := errors.AsType[engine.OptionErrors](err); ok && e.placed(n, mistakes, "", &p) {
			continue
		}
		if err != nil {
			at := e.blame(n)
			if n.with != nil && n.with.at.file == e.at.file {
				at = n.with.at
			}
			p.add(at, "node %q: %v", n.name, err)
			continue
		}
		told, err := n.told.raw()
		if err != nil {
			return nil, fmt.Errorf("options of node %q: %w", n.name, err)
		}
		nodes = append(nodes, n.engine(told))
	}
	if err := p.sorted(); err != nil {
		return nil, err
	}
	return engine.NewGraph(nodes...)
}

// needed returns the targets and the nodes that they depend on.
func (e *Expanded) needed(targets []string) (map[string]bool, error) {
	needed := map[string]bool{}
	var mark func(name string)
	mark = func(name string) {
		if needed[name] {
			return
		}
		needed[name] = true
		for _, in := range e.node(name).inputs {
			for _, r := range in.refs {
				mark(r.node)
			}
		}
	}
	for _, n := range e.nodes {
		if len(targets) == 0 || slices.Contains(targets, n.name) || slices.Contains(targets, n.base) {
			mark(n.name)
		}
	}
	names := e.names()
	for _, target := range targets {
		if !names[target] && !e.madeForNone(target) {
			return nil, fmt.Errorf("the pipeline has no node %q%s", target, nearest.Hint(target, maps.Keys(names)))
		}
	}
	return needed, nil
}

// blame returns the position of a node in the file, or of the file if it has none.
func (e *Expanded) blame(n expandedNode) position {
	if n.at.file == defaultFile {
		return e.at
	}
	return n.at
}

// checkOptions validates the options of a node with the schema of its kind.
func (e *Expanded) checkOptions(n expandedNode, needed bool, p *problems) {
	if n.kind.compiled == nil {
		if n.with != nil {
			for _, f := range n.with.fields {
				p.add(f.at, "%s takes no options, got %q", n.uses, f.key)
			}
		}
		return
	}
	with := cmp.Or(n.with, &value{kind: mapping, at: e.blame(n)})
	invalid, ok := errors.AsType[*jsonschema.ValidationError](n.kind.compiled.Validate(with.json()))
	if !ok {
		return
	}
	for _, leaf := range leaves(invalid) {
		e.report(n, with, leaf, needed, p)
	}
}

// leaves returns the innermost causes of a validation error.
func leaves(err *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(err.Causes) == 0 {
		return []*jsonschema.ValidationError{err}
	}
	var out []*jsonschema.ValidationError
	for _, cause := range err.Causes {
		out = append(out, leaves(cause)...)
	}
	return out
}

// report adds a problem for an invalid option, at its position.
func (e *Expanded) report(n expandedNode, with *value, err *jsonschema.ValidationError, needed bool, p *problems) {
	at, _, path := locate(with, err.InstanceLocation)
	if at == (position{}) || at.file == defaultFile {
		at = e.blame(n)
	}
	if _, known := err.ErrorKind.(*violation.Type); !known && n.secret(err.InstanceLocation) {
		p.add(at, "option %s of %s: its value is not allowed", path, n.uses)
		return
	}
	switch k := err.ErrorKind.(type) {
	case *violation.AdditionalProperties:
		names := properties(n.kind.schema, err.InstanceLocation)
		for _, name := range k.Properties {
			_, keyAt, _ := locate(with, append(slices.Clone(err.InstanceLocation), name))
			what := n.uses
			if path != "" {
				what = path + " of " + n.uses
			}
			p.add(cmp.Or(keyAt, at), "%s has no option %q%s", what, name, hintOrList(name, names))
		}
	case *violation.Required:
		for _, name := range k.Missing {
			switch short, ok := n.missing[name]; {
			case path != "":
				p.add(at, "%s of %s needs %q", path, n.uses, name)
			case !needed:
			case ok:
				section, _, _ := strings.Cut(short, ".")
				where := e.at
				if v := e.root.get(section); v != nil && v.at.line > 0 {
					where = v.at
				}
				p.add(where, "%s is missing", short)
			default:
				p.add(e.blame(n), "node %q needs option %q", n.name, name)
			}
		}
	case *violation.Type:
		var wanted []string
		for _, w := range k.Want {
			wanted = append(wanted, kind(w).an())
		}
		p.add(at, "option %s of %s is %s, want %s", path, n.uses, kind(k.Got).an(), strings.Join(wanted, " or "))
	case *violation.Enum:
		var wanted []string
		for _, w := range k.Want {
			wanted = append(wanted, fmt.Sprint(w))
		}
		p.add(at, "option %s of %s is %q, want %s%s", path, n.uses, fmt.Sprint(k.Got), strings.Join(wanted, " or "), nearest.Hint(fmt.Sprint(k.Got), slices.Values(wanted)))
	default:
		p.add(at, "option %s of %s: %s", path, n.uses, k.LocalizedString(message.NewPrinter(language.English)))
	}
}

// locate returns the position of a value by its path, that of the last key of the path, and the
// path in readable form: fields[0].path.
func locate(v *value, path []string) (at, key position, name string) {
	for _, step := range path {
		key = position{}
		if v != nil && v.kind == list {
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v.items) {
				return position{}, key, name
			}
			v = v.items[i]
			name += "[" + step + "]"
			continue
		}
		f := v.field(step)
		v, key = f.value, f.at
		if name != "" {
			name += "."
		}
		name += step
	}
	if v != nil {
		at = v.at
	}
	return at, key, name
}

// Placed adds the positions in the file to mistakes in options ([engine.OptionErrors]) that
// a run or a check reported. It returns other errors unchanged.
func (e *Expanded) Placed(err error) error {
	failed, ok := errors.AsType[*engine.StageError](err)
	if !ok {
		return err
	}
	mistakes, ok := errors.AsType[engine.OptionErrors](failed.Err)
	if !ok {
		return err
	}
	n := e.node(failed.Node)
	if n == nil {
		return err
	}
	var p problems
	if !e.placed(*n, mistakes, failed.Node+": ", &p) {
		return err
	}
	return p.sorted()
}

// Unused adds the position in the file to the message of an event about a part of a node's
// options that matched nothing. It returns false if the event must be ignored: an entry that
// only applies to an excluded environment matches nothing in the others.
func (e *Expanded) Unused(event engine.Event) (message string, ok bool) {
	if e.partial {
		return "", false
	}
	n := e.node(event.Node)
	if n == nil {
		return event.Message, true
	}
	at, key, _ := locate(n.with, event.Unused)
	if at = cmp.Or(key, at); at.line == 0 || at.file == defaultFile {
		return event.Message, true // it is not from a file
	}
	return newError(at, errors.New(event.Message)).Error(), true
}

// placed adds mistakes in the options of a node at their positions. It returns false if one
// of them has no position in a file.
func (e *Expanded) placed(n expandedNode, mistakes engine.OptionErrors, prefix string, p *problems) bool {
	var all problems
	for _, m := range mistakes {
		at, key, _ := locate(n.with, m.Path)
		if at = cmp.Or(key, at); at.line == 0 || at.file == defaultFile {
			return false
		}
		all.cause(at, fmt.Errorf("%s%w", prefix, m))
	}
	*p = append(*p, all...)
	return true
}

// properties returns the names of the properties in a schema at a path.
func properties(schema map[string]any, path []string) []string {
	for _, step := range path {
		if below, ok := schema["properties"].(map[string]any); ok {
			if next, ok := below[step].(map[string]any); ok {
				schema = next
				continue
			}
		}
		if next, ok := schema["items"].(map[string]any); ok {
			schema = next
			continue
		}
		next, ok := schema["additionalProperties"].(map[string]any)
		if !ok {
			return nil
		}
		schema = next
	}
	below, _ := schema["properties"].(map[string]any)
	return slices.Sorted(maps.Keys(below))
}

// nearestKind returns a hint for the name of a kind.
func (t *Table) nearestKind(name string) string {
	return hintOrList(name, slices.Collect(maps.Keys(t.kinds)))
}
