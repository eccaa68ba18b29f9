// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine"
)

// stage adapts a function to a stage.
type stage func(ctx context.Context, t *engine.Task) (engine.Outputs, error)

func (s stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) { return s(ctx, t) }

var idle = stage(func(context.Context, *engine.Task) (engine.Outputs, error) { return nil, nil })

// node returns a node with the inputs a=node.output….
func node(name string, inputs ...string) engine.Node {
	n := engine.Node{Name: name, Kind: "idle"}
	for _, input := range inputs {
		if n.Inputs == nil {
			n.Inputs = map[string]engine.Ref{}
		}
		key, ref, _ := strings.Cut(input, "=")
		n.Inputs[key] = engine.Ref(ref)
	}
	return n
}

func names(g *engine.Graph) []string {
	var out []string
	for _, n := range g.Nodes() {
		out = append(out, n.Name)
	}
	return out
}

func TestRefSplit(t *testing.T) {
	tests := []struct {
		ref          engine.Ref
		node, output string
		ok           bool
	}{
		{"scan.references", "scan", "references", true},
		{"render/podinfo-6.4.1.manifests", "render/podinfo-6.4.1", "manifests", true},
		{"scan", "", "", false},
		{"scan.", "scan", "", false},
		{".out", "", "out", false},
		{"", "", "", false},
	}
	for _, tt := range tests {
		node, output, ok := tt.ref.Split()
		if node != tt.node || output != tt.output || ok != tt.ok {
			t.Errorf("%q.Split() = %q, %q, %v", tt.ref, node, output, ok)
		}
	}
}

func TestNewGraphRefuses(t *testing.T) {
	declared := node("scan")
	declared.Outputs = []string{"references", "manifests"}
	silent := node("push")
	silent.Outputs = []string{}
	tests := []struct {
		name  string
		nodes []engine.Node
		want  string
	}{
		{"no name", []engine.Node{node("")}, `a node has no name`},
		{"odd name", []engine.Node{node("a b")}, `node name "a b" has a space, a quote or a control character`},
		{"duplicate", []engine.Node{node("a"), node("b"), node("a")}, `two nodes are named "a"`},
		{"no stage", []engine.Node{{Name: "a"}}, `node "a" has no kind of stage`},
		{"no ref", []engine.Node{node("a", "x=b")}, `node "a": input "x" is "b", not node.output`},
		{"dangling", []engine.Node{node("scan"), node("pin", "x=scam.y")}, `node "pin": input "x" comes from node "scam", which does not exist (did you mean "scan"?)`},
		{"far", []engine.Node{node("scan"), node("pin", "x=render.y")}, `node "pin": input "x" comes from node "render", which does not exist`},
		{"output", []engine.Node{declared, node("pin", "x=scan.images")}, `node "pin": input "x" comes from output "images" of node "scan", which has manifests, references`},
		{"no outputs", []engine.Node{silent, node("pin", "x=push.y")}, `node "pin": input "x" comes from output "y" of node "push", which has none`},
		{"itself", []engine.Node{node("a", "x=a.y")}, `nodes depend on each other in a cycle: a → a`},
		{"cycle", []engine.Node{node("z", "x=a.y"), node("a", "x=b.y"), node("b", "x=c.y"), node("c", "w=z0.y", "x=a.y"), node("z0")}, `nodes depend on each other in a cycle: a → b → c → a`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := engine.NewGraph(tt.nodes...)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	var cycle *engine.CycleError
	if _, err := engine.NewGraph(node("a", "x=b.y"), node("b", "x=a.y")); !errors.As(err, &cycle) || len(cycle.Nodes) != 2 {
		t.Errorf("error of a cycle is %#v", err)
	}
}

func TestOrderIsDepthFirst(t *testing.T) {
	g, err := engine.NewGraph(
		node("push", "root=index.root", "moved=mirror.moved"),
		node("index", "content=content.manifest"),
		node("mirror", "images=resolve.images"),
		node("resolve", "references=scan.references"),
		node("content", "manifests=scan.manifests"),
		node("scan"),
		node("alone"),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"scan", "resolve", "mirror", "content", "index", "push", "alone"}
	if diff := cmp.Diff(want, names(g)); diff != "" {
		t.Errorf("order differs (-want +got):\n%s", diff)
	}
}
