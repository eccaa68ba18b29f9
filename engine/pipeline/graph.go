// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/nearest"
)

// Graph returns the graph of the targets and what they depend on. A target is the name of a
// node, or of the node that instances were made from; without targets the graph has all
// nodes. All given options must be valid; only the nodes in the graph must have their
// required options. [Expanded.Stages] runs the graph.
func (e *Expanded) Graph(targets ...string) (*engine.Graph, error) {
	var p document.Problems
	needed, err := e.needed(targets)
	if err != nil {
		return nil, err
	}
	for _, n := range e.nodes {
		e.checkOptions(n, needed[n.name], &p)
		for _, port := range n.kind.Inputs {
			given := slices.ContainsFunc(n.inputs, func(in input) bool { return in.name == port.Name })
			if needed[n.name] && !given && !port.Optional {
				p.Add(e.blame(n), "node %q needs input %q", n.name, port.Name)
			}
		}
	}
	var nodes []engine.Node
	for _, n := range e.nodes {
		if len(p) > 0 || !needed[n.name] {
			continue
		}
		with, err := raw(n.with)
		if err != nil {
			return nil, fmt.Errorf("options of node %q: %w", n.name, err)
		}
		_, err = n.kind.New(with)
		if mistakes, ok := errors.AsType[engine.OptionErrors](err); ok && e.placed(n, mistakes, "", &p) {
			continue
		}
		if err != nil {
			at := e.blame(n)
			if n.with != nil && n.with.At.File == e.at.File {
				at = n.with.At
			}
			p.Add(at, "node %q: %v", n.name, err)
			continue
		}
		told, err := raw(n.told)
		if err != nil {
			return nil, fmt.Errorf("options of node %q: %w", n.name, err)
		}
		nodes = append(nodes, n.engine(told))
	}
	if err := p.Err(); err != nil {
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
func (e *Expanded) blame(n expandedNode) document.Position {
	if n.at.File == defaultFile {
		return e.at
	}
	return n.at
}

// checkOptions validates the options of a node with the schema of its kind.
func (e *Expanded) checkOptions(n expandedNode, needed bool, p *document.Problems) {
	if n.kind.schema == nil {
		if n.with != nil {
			for _, f := range n.with.Fields {
				p.Add(f.At, "%s takes no options, got %q", n.uses, f.Key)
			}
		}
		return
	}
	with := cmp.Or(n.with, &document.Value{Kind: document.Mapping, At: e.blame(n)})
	for _, v := range n.kind.schema.Violations(with) {
		e.report(n, with, v, needed, p)
	}
}

// report adds a mistake for an invalid option, at its position.
func (e *Expanded) report(n expandedNode, with *document.Value, v document.Violation, needed bool, p *document.Problems) {
	at := v.At
	if at == (document.Position{}) || at.File == defaultFile {
		at = e.blame(n)
	}
	path := with.Name(v.Path...)
	short, filled := n.missing[v.Missing]
	switch {
	case v.Quotes && n.secret(v.Path):
		p.Add(at, "option %s of %s: its value is not allowed", path, n.uses)
	case v.Unknown != "":
		p.Add(at, "%s has no option %q%s", strings.TrimPrefix(path+" of "+n.uses, " of "), v.Unknown, nearest.HintOrAll(v.Unknown, v.Known))
	case v.Missing != "" && path != "":
		p.Add(at, "%s of %s needs %q", path, n.uses, v.Missing)
	case v.Missing != "" && !needed:
	case v.Missing != "" && filled:
		section, _, _ := strings.Cut(short, ".")
		where := e.at
		if v := e.root.Get(section); v != nil && v.At.Line > 0 {
			where = v.At
		}
		p.Add(where, "%s is missing", short)
	case v.Missing != "":
		p.Add(e.blame(n), "node %q needs option %q", n.name, v.Missing)
	default:
		p.Add(at, "option %s of %s%s", path, n.uses, v.Text)
	}
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
	var p document.Problems
	if !e.placed(*n, mistakes, failed.Node+": ", &p) {
		return err
	}
	return p.Err()
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
	at := position(n.with, event.Unused)
	if at.Line == 0 || at.File == defaultFile {
		return event.Message, true // it is not from a file
	}
	return (&document.Error{Position: at, Message: event.Message}).Error(), true
}

// position returns the position of the last key of a path, or else of its value.
func position(v *document.Value, path []string) document.Position {
	found, at := v.Find(path...)
	if found != nil {
		at = cmp.Or(at, found.At)
	}
	return at
}

// placed adds mistakes in the options of a node at their positions. It returns false if one
// of them has no position in a file.
func (e *Expanded) placed(n expandedNode, mistakes engine.OptionErrors, prefix string, p *document.Problems) bool {
	var all document.Problems
	for _, m := range mistakes {
		at := position(n.with, m.Path)
		if at.Line == 0 || at.File == defaultFile {
			return false
		}
		all.Cause(at, fmt.Errorf("%s%w", prefix, m))
	}
	*p = append(*p, all...)
	return true
}

// nearestKind returns a hint for the name of a kind.
func (t *Table) nearestKind(name string) string {
	return nearest.HintOrAll(name, slices.Collect(maps.Keys(t.kinds)))
}
