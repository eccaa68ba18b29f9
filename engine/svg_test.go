// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

type drawn struct{}

func (drawn) Run(context.Context, *Task) (Outputs, error) { return nil, nil }

func TestSVG(t *testing.T) {
	g, err := NewGraph(
		Node{Name: "a<b>", Stage: drawn{}},
		Node{Name: "c", Stage: drawn{}, Inputs: map[string]Ref{"x": "a<b>.o"}},
		Node{Name: "d", Stage: drawn{}, Inputs: map[string]Ref{"x": "a<b>.o", "y": "c.o"}},
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
