// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/nearest"
)

// Expanded is a pipeline in full form: nodes with all their inputs and options.
type Expanded struct {
	table    *Table
	at       document.Position // of the file
	root     *document.Value
	argument lookup
	sources  []source
	nodes    []expandedNode
	secrets  map[string]string // by name: the values of references in nodes
	// partial is set if there are environments in the file that are left out.
	partial bool
}

type expandedNode struct {
	node
	kind *kindOf
	// told holds the options of with, but references in the place of secrets.
	told *document.Value
	// missing maps options without a value to the placeholder that would set them.
	missing map[string]string
}

// expand merges the nodes of the file over the default pipeline, instantiates nodes for
// the sources, fills in options and resolves inputs.
func (e *Expanded) expand(own []node, overrides []override) error {
	var p document.Problems
	own, single := e.splitSingle(e.table.defaults, own)
	nodes := mergeNodes(e.table.defaults, own)
	var flat []node
	for _, n := range nodes {
		if !n.each {
			flat = append(flat, n)
			continue
		}
		for _, s := range e.sources {
			made := n
			made.name, made.base, made.source = n.name+"/"+s.name, n.name, s.name
			flat = append(flat, made)
		}
	}
	flat = mergeNodes(flat, single)
	for _, n := range flat {
		kind, ok := e.table.kinds[n.uses]
		if !ok {
			p.Add(n.usesAt, "node %q uses %q, which is not a kind of stage%s", n.name, n.uses, e.table.nearestKind(n.uses))
			continue
		}
		e.nodes = append(e.nodes, e.fill(n, kind, &p))
	}
	for _, o := range overrides {
		e.override(o, &p)
	}
	if len(p) == 0 {
		for i := range e.nodes {
			e.resolve(&e.nodes[i], &p)
		}
	}
	if len(p) == 0 {
		e.checkCycles(&p)
	}
	return p.Err()
}

// splitSingle separates the nodes of a layer that change a single instance, such as
// render/web, from the rest.
func (e *Expanded) splitSingle(nodes, layer []node) (rest, single []node) {
	for _, n := range layer {
		of, made := e.instances(n.name, nodes)
		if len(made) == 0 {
			rest = append(rest, n)
			continue
		}
		if !n.given {
			// Its kind is that of the other instances, not its own name.
			n.uses = of.uses
		}
		for _, s := range made {
			n.name = of.name + "/" + s.name
			single = append(single, n)
		}
	}
	return rest, single
}

// fill substitutes the placeholders in a node's options.
func (e *Expanded) fill(n node, kind *kindOf, p *document.Problems) expandedNode {
	out := expandedNode{node: n, kind: kind, missing: map[string]string{}}
	if n.with == nil {
		return out
	}
	with := *n.with
	with.Fields = nil
	for _, f := range n.with.Fields {
		filled := substitute(f.Value, e.lookup(n), p)
		if filled == nil {
			if m := placeholder.FindStringSubmatch(f.Value.Scalar); m != nil {
				out.missing[f.Key] = m[1]
			}
			continue
		}
		if filled.Kind == document.Null {
			continue // removed
		}
		f.Value = filled
		if f.At.File == defaultFile {
			f.At = filled.At // show the user's file, not the default pipeline
		}
		with.Fields = append(with.Fields, f)
	}
	out.with = &with
	return out
}

// lookup returns the lookup for placeholders in the options of a node.
func (e *Expanded) lookup(n node) lookup {
	return func(name string) (*document.Value, string, bool) {
		section, key, dotted := strings.Cut(name, ".")
		var v *document.Value
		switch {
		case !dotted:
			return e.argument(name)
		case section == sourceSection:
			i := slices.IndexFunc(e.sources, func(s source) bool { return s.name == n.source })
			if i < 0 {
				return nil, ": the node has no source", false
			}
			if !slices.Contains(sourceKeys, key) {
				return nil, nearest.Hint(key, slices.Values(sourceKeys)), false
			}
			v = e.sources[i].values[key]
		default:
			if _, ok := e.table.sections[section][key]; !ok {
				return nil, "", false
			}
			v = e.root.Get(section).Get(key)
		}
		if v != nil && v.Kind == document.Null {
			v = nil
		}
		return v, "", true
	}
}

// override sets an option from outside the file.
func (e *Expanded) override(o override, p *document.Problems) {
	found := false
	for i := range e.nodes {
		if n := &e.nodes[i]; n.name == o.node || n.base == o.node {
			found = true
			n.with = n.with.Set(o.option, o.value)
		}
	}
	if !found && !e.madeForNone(o.node) {
		p.Add(document.Position{}, "no node %q to set option %q of", o.node, o.option)
	}
}

// madeForNone reports whether a node has no instances because there are no sources.
func (e *Expanded) madeForNone(name string) bool {
	return len(e.sources) == 0 && slices.ContainsFunc(e.table.defaults, func(n node) bool { return n.each && n.name == name })
}

// resolve resolves the inputs of a node and checks them against the ports of the kinds on
// both ends.
func (e *Expanded) resolve(n *expandedNode, p *document.Problems) {
	var inputs []input
	for _, in := range n.inputs {
		i := slices.IndexFunc(n.kind.Inputs, func(port Port) bool { return port.Name == in.name })
		if i < 0 {
			var names []string
			for _, port := range n.kind.Inputs {
				names = append(names, port.Name)
			}
			p.Add(in.at, "node %q has no input %q%s", n.name, in.name, nearest.HintOrAll(in.name, names))
			continue
		}
		port := n.kind.Inputs[i]
		if in.keys && !port.Many {
			p.Add(in.at, "input %q of node %q takes one output, not several", in.name, n.name)
			continue
		}
		var refs []ref
		for _, r := range in.refs {
			refs = append(refs, e.resolveRef(*n, port, r, p)...)
		}
		slices.SortFunc(refs, func(a, b ref) int { return strings.Compare(a.key, b.key) })
		if len(refs) > 0 {
			inputs = append(inputs, input{name: in.name, at: in.at, refs: refs, keys: port.Many})
		}
	}
	n.inputs = inputs
}

// resolveRef returns the node, or the instances, that a reference means.
func (e *Expanded) resolveRef(n expandedNode, port Port, r ref, p *document.Problems) []ref {
	var found []ref
	var base bool
	if from := e.node(r.node); from != nil {
		if port.Many && r.key == "" {
			r.key = cmp.Or(from.source, r.node[strings.LastIndexByte(r.node, '/')+1:])
		}
		found = []ref{r}
	} else {
		for _, made := range e.nodes {
			if made.base != r.node {
				continue
			}
			base = true
			if n.source != "" && made.source != n.source {
				continue
			}
			one := r
			one.node = made.name
			if port.Many && r.key == "" {
				one.key = made.source
			}
			found = append(found, one)
		}
	}
	switch {
	case len(found) == 0 && (base || e.madeForNone(r.node)):
		return nil
	case len(found) == 0:
		names := slices.Collect(maps.Keys(e.names()))
		p.Add(r.at, "input %q of node %q refers to node %q, which does not exist%s", port.Name, n.name, r.node, nearest.Hint(r.node, slices.Values(names)))
		return nil
	case len(found) > 1 && (!port.Many || r.key != ""):
		p.Add(r.at, "input %q of node %q takes one output, but node %q exists for %d sources: name one of them, such as %s", port.Name, n.name, r.node, len(found), found[0])
		return nil
	}
	for _, f := range found {
		if outputs := e.node(f.node).kind.Outputs; !slices.Contains(outputs, f.output) {
			p.Add(r.at, "input %q of node %q refers to output %q of node %q, which does not exist%s", port.Name, n.name, f.output, f.node, nearest.HintOrAll(f.output, outputs))
			return nil
		}
	}
	return found
}

// node returns the node of a name, or nil.
func (e *Expanded) node(name string) *expandedNode {
	for i := range e.nodes {
		if e.nodes[i].name == name {
			return &e.nodes[i]
		}
	}
	return nil
}

// names returns the names of the nodes, and of the nodes that they are instances of.
func (e *Expanded) names() map[string]bool {
	names := map[string]bool{}
	for _, n := range e.nodes {
		names[n.name] = true
		if n.base != "" {
			names[n.base] = true
		}
	}
	return names
}

// Stages returns the executor of the kinds that the pipeline may use.
func (e *Expanded) Stages() engine.Stages {
	stages := engine.Stages{}
	for name, kind := range e.table.kinds {
		stages[name] = kind.New
	}
	return stages
}

// Outline returns the graph of all nodes without their options, for drawing. No option
// needs a value.
func (e *Expanded) Outline() (*engine.Graph, error) {
	var nodes []engine.Node
	for _, n := range e.nodes {
		nodes = append(nodes, n.engine(nil))
	}
	return engine.NewGraph(nodes...)
}

// checkCycles reports a cycle at the position of a node in the file that is part of it.
func (e *Expanded) checkCycles(p *document.Problems) {
	_, err := e.Outline()
	if err == nil {
		return
	}
	at := e.at
	if cycle, ok := errors.AsType[*engine.CycleError](err); ok {
		if i := slices.IndexFunc(e.nodes, func(n expandedNode) bool {
			return slices.Contains(cycle.Nodes, n.name) && n.at.File == e.at.File
		}); i >= 0 {
			at = e.nodes[i].at
		}
	}
	p.Add(at, "%v", err)
}

// engine returns the engine's form of the node.
func (n expandedNode) engine(config json.RawMessage) engine.Node {
	out := engine.Node{
		Name: n.name, Kind: n.uses, Config: config, Inputs: map[string]engine.Ref{}, Outputs: append([]string{}, n.kind.Outputs...),
		Effects: n.kind.Effects, Needs: n.kind.Needs,
	}
	for _, in := range n.inputs {
		for _, r := range in.refs {
			name := in.name
			if in.keys {
				name += "/" + r.key
			}
			out.Inputs[name] = engine.Ref(r.String())
		}
	}
	return out
}

// YAML returns the pipeline in full form. [Table.Parse] can read it.
func (e *Expanded) YAML() ([]byte, error) {
	nodes := &document.Value{Kind: document.Mapping}
	for _, n := range e.nodes {
		var inputs *document.Value
		for _, in := range n.inputs {
			refs := document.Of(in.refs[0].String())
			if in.keys {
				refs = nil
				for _, r := range in.refs {
					refs = refs.Set(r.key, document.Of(r.String()))
				}
			}
			inputs = inputs.Set(in.name, refs)
		}
		out := (*document.Value)(nil).Set("uses", document.Of(n.uses))
		if inputs != nil {
			out = out.Set("inputs", inputs)
		}
		if n.told != nil && len(n.told.Fields) > 0 {
			out = out.Set("with", escaped(n.told))
		}
		nodes = nodes.Set(n.name, out)
	}
	return header().Set("nodes", nodes).YAML()
}

// escaped returns the value with everything that looks like a placeholder escaped.
func escaped(v *document.Value) *document.Value {
	out := v.Mapped(escaped)
	if v.Kind == document.Text {
		out.Scalar = strings.ReplaceAll(v.Scalar, "${", "$${")
	}
	return out
}
