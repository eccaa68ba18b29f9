// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/taped-dev/tape/internal/nearest"
)

// nodeName matches the name of a node. The part after a slash is the source that the node
// was instantiated for.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)

// inputKey matches a key of an input: the name of a source, or environment/source.
var inputKey = regexp.MustCompile(`^([a-z0-9][a-z0-9-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*$`)

// node is a node as written in a file.
type node struct {
	name string
	at   position
	// uses is the kind; given reports whether the file names it.
	uses   string
	usesAt position
	given  bool
	each   bool
	inputs []input
	with   *value // mapping, or nil
	// source is the source that the node was instantiated for, base the original node.
	source, base string
}

// input is an input of a node.
type input struct {
	name string
	at   position
	refs []ref // one, or several by key; none: the input is removed
	keys bool  // refs have keys
}

// ref is a reference to an output.
type ref struct {
	key          string
	at           position
	node, output string
}

func (r ref) String() string { return r.node + "." + r.output }

// readNodes reads the mapping of nodes.
func readNodes(v *value, p *problems) []node {
	if v == nil || !want(v, mapping, `"nodes"`, p) {
		return nil
	}
	var nodes []node
	for _, f := range v.fields {
		if !nodeName.MatchString(f.key) {
			p.add(f.at, "node name %q must consist of letters, digits, -, _, / and dots", f.key)
			continue
		}
		nodes = append(nodes, readNode(f, p))
	}
	return nodes
}

func readNode(f field, p *problems) node {
	n := node{name: f.key, at: f.at, uses: f.key, usesAt: f.at}
	if f.value.kind == null || !want(f.value, mapping, fmt.Sprintf("node %q", f.key), p) {
		return n
	}
	known(f.value, p, "uses", "each", "inputs", "with")
	if uses := f.value.get("uses"); uses != nil && want(uses, text, `"uses"`, p) {
		n.uses, n.usesAt, n.given = uses.scalar, uses.at, true
	}
	if each := f.value.get("each"); each != nil {
		if n.each = each.kind == text && each.scalar == sourceSection; !n.each {
			p.add(each.at, `"each" must be source`)
		}
	}
	if with := f.value.get("with"); with != nil && with.kind != null && want(with, mapping, `"with"`, p) {
		n.with = with
	}
	if inputs := f.value.get("inputs"); inputs != nil && inputs.kind != null && want(inputs, mapping, `"inputs"`, p) {
		for _, in := range inputs.fields {
			n.inputs = append(n.inputs, readInput(in, p))
		}
	}
	return n
}

func readInput(f field, p *problems) input {
	in := input{name: f.key, at: f.at}
	one := func(key string, v *value) {
		i := strings.LastIndexByte(v.scalar, '.')
		if v.kind != text || i < 1 || i == len(v.scalar)-1 {
			p.add(v.at, "input %q must have the form node.output", f.key)
			return
		}
		in.refs = append(in.refs, ref{key: key, at: v.at, node: v.scalar[:i], output: v.scalar[i+1:]})
	}
	switch f.value.kind {
	case null:
	case mapping:
		in.keys = true
		for _, r := range f.value.fields {
			if !inputKey.MatchString(r.key) {
				p.add(r.at, "key %q of input %q must consist of letters, digits, -, _, / and dots", r.key, f.key)
				continue
			}
			one(r.key, r.value)
		}
	default:
		one("", f.value)
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
		for _, f := range over.with.fields {
			n.with = n.with.with(f)
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

// want reports whether a value is of a kind, and adds a problem if it is not.
func want(v *value, k kind, what string, p *problems) bool {
	if v.kind != k {
		p.add(v.at, "%s must be %s, not %s", what, k.an(), v.kind.an())
	}
	return v.kind == k
}

// known adds a problem for every key of a mapping that is not in keys.
func known(v *value, p *problems, keys ...string) {
	for _, f := range v.fields {
		if slices.Contains(keys, f.key) {
			continue
		}
		p.add(f.at, "unknown key %q%s", f.key, cmp.Or(nearest.Hint(f.key, slices.Values(keys)), "; want "+strings.Join(keys, ", ")))
	}
}
