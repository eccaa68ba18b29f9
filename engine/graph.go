// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/taped-dev/tape/internal/nearest"
)

// Ref names an output of a node: "node.output".
type Ref string

// Split returns the two parts. The name of a node may contain dots, but the name of an output may
// not. ok is false if either part is empty.
func (r Ref) Split() (node, output string, ok bool) {
	i := strings.LastIndexByte(string(r), '.')
	if i < 0 {
		return "", "", false
	}
	node, output = string(r[:i]), string(r[i+1:])
	return node, output, node != "" && output != ""
}

// Node is one use of a stage in a graph. It is data: an [Executor] may serialize it and run it
// elsewhere.
type Node struct {
	Name string `json:"name"`
	// Kind is the kind of the stage. Config is its configuration, with references ([Secret])
	// instead of secrets.
	Kind   string          `json:"kind"`
	Config json.RawMessage `json:"config,omitempty"`
	// Inputs maps the names of inputs to outputs. An input that takes several has one entry for
	// each, named name/<key>.
	Inputs map[string]Ref `json:"inputs,omitempty"`
	// Outputs are the names that the stage declares; nil allows any.
	Outputs []string `json:"outputs,omitempty"`
	// Effects reports whether running the node changes anything but the store. A dry run leaves
	// such nodes out.
	Effects bool `json:"effects,omitempty"`
	// Needs lists what a process must have to run the node.
	Needs []Need `json:"needs,omitempty"`
}

// Need is something outside the store that a stage depends on.
type Need string

// The needs of stages.
const (
	NeedFiles        Need = "files"        // the files of the source on this machine
	NeedInterpreters Need = "interpreters" // installed programs that render
	NeedRegistries   Need = "registries"   // a network and credentials
	NeedLocalImages  Need = "local images" // images in Docker, containerd or a layout on this machine
	NeedKey          Need = "key"          // private keys
)

// Graph is a valid set of nodes: names are unique, every reference names an existing node, and
// there are no cycles. It is immutable.
type Graph struct {
	nodes []Node // each after its dependencies, depth first
	index map[string]int
	needs [][]int // for each node the indexes of its dependencies, unique and sorted
}

// NewGraph validates the nodes and orders them. The order is depth first, so that a run follows
// the order of the arguments as far as the inputs allow.
func NewGraph(nodes ...Node) (*Graph, error) {
	given := make(map[string]int, len(nodes))
	for i, n := range nodes {
		if err := checkName(n.Name); err != nil {
			return nil, err
		}
		if _, twice := given[n.Name]; twice {
			return nil, fmt.Errorf("two nodes are named %q", n.Name)
		}
		if n.Kind == "" {
			return nil, fmt.Errorf("node %q has no kind of stage", n.Name)
		}
		given[n.Name] = i
	}
	needs := make([][]int, len(nodes))
	for i, n := range nodes {
		for _, input := range slices.Sorted(maps.Keys(n.Inputs)) {
			from, err := n.resolve(input, nodes, given)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(needs[i], from) {
				needs[i] = append(needs[i], from)
			}
		}
	}
	order, err := depthFirst(nodes, needs)
	if err != nil {
		return nil, err
	}

	g := &Graph{index: make(map[string]int, len(nodes))}
	for _, i := range order {
		g.index[nodes[i].Name] = len(g.nodes)
		g.nodes = append(g.nodes, nodes[i])
	}
	for _, i := range order {
		var moved []int
		for _, from := range needs[i] {
			moved = append(moved, g.index[nodes[from].Name])
		}
		slices.Sort(moved)
		g.needs = append(g.needs, moved)
	}
	return g, nil
}

// resolve returns the node that an input comes from.
func (n Node) resolve(input string, nodes []Node, given map[string]int) (int, error) {
	ref := n.Inputs[input]
	name, output, ok := ref.Split()
	if !ok {
		return 0, fmt.Errorf("node %q: input %q is %q, not node.output", n.Name, input, ref)
	}
	from, ok := given[name]
	if !ok {
		return 0, fmt.Errorf("node %q: input %q comes from node %q, which does not exist%s", n.Name, input, name, nearest.Hint(name, maps.Keys(given)))
	}
	if outputs := nodes[from].Outputs; outputs != nil && !slices.Contains(outputs, output) {
		return 0, fmt.Errorf("node %q: input %q comes from output %q of node %q, which has %s", n.Name, input, output, name, cmp.Or(strings.Join(slices.Sorted(slices.Values(outputs)), ", "), "none"))
	}
	return from, nil
}

// depthFirst orders nodes so that each comes after its dependencies.
func depthFirst(nodes []Node, needs [][]int) ([]int, error) {
	const (
		unseen = iota
		open
		done
	)
	state := make([]int, len(nodes))
	var order, path []int
	var visit func(i int) error
	visit = func(i int) error {
		switch state[i] {
		case done:
			return nil
		case open:
			var cycle CycleError
			for _, at := range path[slices.Index(path, i):] {
				cycle.Nodes = append(cycle.Nodes, nodes[at].Name)
			}
			return &cycle
		}
		state[i] = open
		path = append(path, i)
		for _, from := range needs[i] {
			if err := visit(from); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		state[i] = done
		order = append(order, i)
		return nil
	}
	for i := range nodes {
		if err := visit(i); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// WithoutEffects returns the names of the nodes that only change the store, and do not depend on
// a node that changes anything else. Stages in harmless are taken to only change the store.
func (g *Graph) WithoutEffects(harmless ...string) []string {
	effects := make([]bool, len(g.nodes))
	var names []string
	for i, n := range g.nodes { // dependencies come first
		effects[i] = n.Effects && !slices.Contains(harmless, n.Kind) || slices.ContainsFunc(g.needs[i], func(from int) bool { return effects[from] })
		if !effects[i] {
			names = append(names, n.Name)
		}
	}
	return names
}

// Nodes returns the nodes in the order in which a single worker would run them. The slice must
// not be changed.
func (g *Graph) Nodes() []Node { return g.nodes }

// wanted returns the outputs of a node that other nodes read, sorted.
func (g *Graph) wanted(node string) []string {
	var names []string
	for _, n := range g.nodes {
		for _, ref := range n.Inputs {
			if from, output, _ := ref.Split(); from == node {
				names = append(names, output)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// checkName restricts names to those that fit a Ref, an event and one line of output.
func checkName(name string) error {
	if name == "" {
		return errors.New("a node has no name")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' }) {
		return fmt.Errorf("node name %q has a space, a quote or a control character", name)
	}
	return nil
}
