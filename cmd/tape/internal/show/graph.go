// SPDX-License-Identifier: Apache-2.0

// Package show presents to people what the library returns as data: the view of an
// application as text and as a page, and the graph of a pipeline as a drawing.
package show

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
)

// Mermaid draws a graph as a Mermaid flowchart. An edge has the name of the output that it
// carries.
func Mermaid(g *engine.Graph) string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i, n := range g.Nodes() {
		fmt.Fprintf(&b, "    n%d[%q]\n", i, label(n, "<br/>"))
	}
	for _, e := range edges(g) {
		fmt.Fprintf(&b, "    n%d -->|%s| n%d\n", e.from, e.output, e.to)
	}
	return b.String()
}

// DOT draws a graph in the language of Graphviz.
func DOT(g *engine.Graph) string {
	var b strings.Builder
	b.WriteString("digraph {\n    rankdir=LR\n    node [shape=box]\n")
	for i, n := range g.Nodes() {
		fmt.Fprintf(&b, "    n%d [label=%q]\n", i, label(n, "\n"))
	}
	for _, e := range edges(g) {
		fmt.Fprintf(&b, "    n%d -> n%d [label=%q]\n", e.from, e.to, e.output)
	}
	b.WriteString("}\n")
	return b.String()
}

// label returns the node's name, followed by its kind if that differs.
func label(n engine.Node, newline string) string {
	if base, _, _ := strings.Cut(n.Name, "/"); n.Kind == "" || n.Kind == base {
		return n.Name
	}
	return n.Name + newline + "(" + n.Kind + ")"
}

type edge struct {
	from   int
	output string
	to     int
}

// edges returns the inputs of nodes, each output of a node once for each of its readers, in
// graph order.
func edges(g *engine.Graph) []edge {
	var edges []edge
	index := map[string]int{}
	for to, n := range g.Nodes() { // dependencies come first
		index[n.Name] = to
		var refs []engine.Ref
		for _, input := range slices.Sorted(maps.Keys(n.Inputs)) {
			if ref := n.Inputs[input]; !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
		for _, ref := range refs {
			node, output, _ := ref.Split()
			edges = append(edges, edge{index[node], output, to})
		}
	}
	return edges
}
