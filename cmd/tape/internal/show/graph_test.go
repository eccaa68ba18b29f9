// SPDX-License-Identifier: Apache-2.0

package show

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine"
)

func TestDraw(t *testing.T) {
	g, err := engine.NewGraph(
		engine.Node{Name: "source/web", Kind: "source"},
		engine.Node{Name: "render/web", Kind: "render", Inputs: map[string]engine.Ref{"files": "source/web.files", "request": "source/web.request", "again": "source/web.files"}},
		engine.Node{Name: "check", Kind: "policy", Inputs: map[string]engine.Ref{"manifests/web": "render/web.manifests"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	mermaid := `flowchart LR
    n0["source/web"]
    n1["render/web"]
    n2["check<br/>(policy)"]
    n0 -->|files| n1
    n0 -->|request| n1
    n1 -->|manifests| n2
`
	if diff := cmp.Diff(mermaid, Mermaid(g)); diff != "" {
		t.Errorf("Mermaid differs (-want +got):\n%s", diff)
	}
	dot := `digraph {
    rankdir=LR
    node [shape=box]
    n0 [label="source/web"]
    n1 [label="render/web"]
    n2 [label="check\n(policy)"]
    n0 -> n1 [label="files"]
    n0 -> n1 [label="request"]
    n1 -> n2 [label="manifests"]
}
`
	if diff := cmp.Diff(dot, DOT(g)); diff != "" {
		t.Errorf("DOT differs (-want +got):\n%s", diff)
	}
}
