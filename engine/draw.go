// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mermaid draws the graph as a Mermaid flowchart. An edge is named after the
// output it carries.
func (g *Graph) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i, n := range g.nodes {
		fmt.Fprintf(&b, "    n%d[%q]\n", i, n.label("<br/>"))
	}
	for _, e := range g.edges() {
		fmt.Fprintf(&b, "    n%d -->|%s| n%d\n", e.from, e.output, e.to)
	}
	return b.String()
}

// DOT draws the graph in the language of Graphviz.
func (g *Graph) DOT() string {
	var b strings.Builder
	b.WriteString("digraph {\n    rankdir=LR\n    node [shape=box]\n")
	for i, n := range g.nodes {
		fmt.Fprintf(&b, "    n%d [label=%q]\n", i, n.label("\n"))
	}
	for _, e := range g.edges() {
		fmt.Fprintf(&b, "    n%d -> n%d [label=%q]\n", e.from, e.to, e.output)
	}
	b.WriteString("}\n")
	return b.String()
}

// JSON describes the graph, and how its nodes fared where a run's result is
// given. Nodes are in the order of the graph.
func (g *Graph) JSON(r *Result) ([]byte, error) {
	type node struct {
		Name    string         `json:"name"`
		Uses    string         `json:"uses,omitempty"`
		Inputs  map[string]Ref `json:"inputs,omitempty"`
		Needs   []string       `json:"needs,omitempty"`
		State   State          `json:"state,omitempty"`
		Seconds float64        `json:"seconds,omitempty"`
		Outputs Outputs        `json:"outputs,omitempty"`
	}
	fared := map[string]NodeResult{}
	if r != nil {
		for _, n := range r.Nodes {
			fared[n.Name] = n
		}
	}
	doc := struct {
		Nodes []node `json:"nodes"`
	}{Nodes: []node{}}
	for i, n := range g.nodes {
		f := fared[n.Name]
		out := node{Name: n.Name, Uses: n.Kind, Inputs: n.Inputs, State: f.State, Seconds: f.Seconds, Outputs: f.Outputs}
		for _, from := range g.needs[i] {
			out.Needs = append(out.Needs, g.nodes[from].Name)
		}
		doc.Nodes = append(doc.Nodes, out)
	}
	return MarshalJSON(doc)
}

// label is the node's name, and its kind where that says more.
func (n Node) label(newline string) string {
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

// edges are what flows, each output of a node once a taker, in graph order.
func (g *Graph) edges() []edge {
	var edges []edge
	for to, n := range g.nodes {
		var refs []Ref
		for _, input := range slices.Sorted(maps.Keys(n.Inputs)) {
			if ref := n.Inputs[input]; !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
		for _, ref := range refs {
			node, output, _ := ref.Split()
			edges = append(edges, edge{g.index[node], output, to})
		}
	}
	return edges
}
