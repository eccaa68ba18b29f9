// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/app"
)

// TestGraphInDocs compares the diagram in docs/architecture.md with the graph of the default
// pipeline.
func TestGraphInDocs(t *testing.T) {
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := app.Options{Sources: []app.Source{{Path: "examples/shop/manifests"}}}
	o.Registry = client
	expanded, err := app.Expand(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "```mermaid\n" + show.Mermaid(expanded.Graph) + "```\n"; !strings.Contains(string(doc), want) {
		t.Errorf("docs/architecture.md shows another graph; `tape pipeline graph ./examples/shop/manifests` prints\n%s", show.Mermaid(expanded.Graph))
	}
}
