// SPDX-License-Identifier: Apache-2.0

package show

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine"
)

func TestSVG(t *testing.T) {
	g, err := engine.NewGraph(
		engine.Node{Name: "a<b>", Kind: "a<b>"},
		engine.Node{Name: "c", Kind: "c", Inputs: map[string]engine.Ref{"x": "a<b>.o"}},
		engine.Node{Name: "d", Kind: "d", Inputs: map[string]engine.Ref{"x": "a<b>.o", "y": "c.o"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	dec := xml.NewDecoder(strings.NewReader(SVG(g)))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			counts[e.Name.Local]++
		}
	}
	if counts["rect"] != 3 || counts["path"] != 3 || counts["text"] != 3 {
		t.Errorf("elements: %v", counts)
	}
}
