// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine/document"
)

// node is a node as written in a file.
type node struct {
	name string
	at   document.Position
	// uses is the kind; given reports whether the file names it.
	uses   string
	usesAt document.Position
	given  bool
	each   bool
	inputs []input
	with   *document.Value // mapping, or nil
	// source is the source that the node was instantiated for, base the original node.
	source, base string
}

// input is an input of a node.
type input struct {
	name string
	at   document.Position
	refs []ref // one, or several by key; none: the input is removed
	keys bool  // refs have keys
}

// ref is a reference to an output.
type ref struct {
	key          string
	at           document.Position
	node, output string
}

func (r ref) String() string { return r.node + "." + r.output }

// readNodes reads the mapping of nodes; v may be nil.
func readNodes(v *document.Value) []node {
	if v == nil {
		return nil
	}
	nodes := make([]node, len(v.Fields))
	for i, f := range v.Fields {
		nodes[i] = readNode(f)
	}
	return nodes
}

func readNode(f document.Field) node {
	n := node{name: f.Key, at: f.At, uses: f.Key, usesAt: f.At, each: f.Value.Get("each") != nil}
	if uses := f.Value.Get("uses"); uses != nil {
		n.uses, n.usesAt, n.given = uses.Scalar, uses.At, true
	}
	if with := f.Value.Get("with"); with != nil && with.Kind == document.Mapping {
		n.with = with
	}
	if inputs := f.Value.Get("inputs"); inputs != nil {
		for _, in := range inputs.Fields {
			n.inputs = append(n.inputs, readInput(in))
		}
	}
	return n
}

func readInput(f document.Field) input {
	in := input{name: f.Key, at: f.At, keys: f.Value.Kind == document.Mapping}
	add := func(key string, v *document.Value) {
		i := strings.LastIndexByte(v.Scalar, '.')
		in.refs = append(in.refs, ref{key: key, at: v.At, node: v.Scalar[:i], output: v.Scalar[i+1:]})
	}
	for _, r := range f.Value.Fields {
		add(r.Key, r.Value)
	}
	if f.Value.Kind == document.Text {
		add("", f.Value)
	}
	return in
}

// merge returns n changed by over: inputs and options of over replace those of n
// individually. If over is of another kind, it replaces n.
func (n node) merge(over node) node {
	if over.given && over.uses != n.uses {
		over.base, over.source = n.base, n.source
		return over
	}
	n.at, n.each = over.at, n.each || over.each
	if over.given {
		n.usesAt = over.usesAt
	}
	n.inputs = slices.Clone(n.inputs)
	for _, in := range over.inputs {
		i := slices.IndexFunc(n.inputs, func(have input) bool { return have.name == in.name })
		switch {
		case i < 0 && len(in.refs) > 0:
			n.inputs = append(n.inputs, in)
		case i >= 0 && len(in.refs) > 0:
			n.inputs[i] = in
		case i >= 0:
			n.inputs = slices.Delete(n.inputs, i, i+1)
		}
	}
	if over.with != nil {
		for _, f := range over.with.Fields {
			n.with = n.with.With(f)
		}
	}
	return n
}

// mergeNodes merges nodes over others by name, and appends new ones.
func mergeNodes(nodes, over []node) []node {
	nodes = slices.Clone(nodes)
	for _, o := range over {
		i := slices.IndexFunc(nodes, func(n node) bool { return n.name == o.name })
		if i < 0 {
			nodes = append(nodes, o)
		} else {
			nodes[i] = nodes[i].merge(o)
		}
	}
	return nodes
}

// known adds a mistake for every key of a mapping that is not in keys.
func known(v *document.Value, p *document.Problems, keys ...string) {
	for _, f := range v.Fields {
		if !slices.Contains(keys, f.Key) {
			p.Unknown(f.At, f.Key, keys)
		}
	}
}
