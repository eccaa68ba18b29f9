// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSVG(t *testing.T) {
	g, err := NewGraph(
		Node{Name: "a<b>", Kind: "a<b>"},
		Node{Name: "c", Kind: "c", Inputs: map[string]Ref{"x": "a<b>.o"}},
		Node{Name: "d", Kind: "d", Inputs: map[string]Ref{"x": "a<b>.o", "y": "c.o"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	dec := xml.NewDecoder(strings.NewReader(string(g.SVG())))
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
