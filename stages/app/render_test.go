// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/taped-dev/tape/engine"
)

// pieces rejects a write that ends in the middle of a character.
type pieces struct {
	*testing.T
	bytes.Buffer
}

func (p *pieces) Write(data []byte) (int, error) {
	if !utf8.Valid(data) {
		p.Errorf("a write ends with %q", data[max(0, len(data)-4):])
	}
	return p.Buffer.Write(data)
}

// Writing in pieces gives the same result as encoding at once.
func TestRenderJSON(t *testing.T) {
	const long = 64 << 10
	for _, data := range []string{
		"", "a: \"b\"\n<&>\x00\u2028", strings.Repeat("x", long), strings.Repeat("é", long), "x" + strings.Repeat("é", long),
		strings.Repeat("x", long-1) + "\U0001f600", strings.Repeat("x", long-3) + "\xff\xff\x80\x80\x80\x80\x80", strings.Repeat("\x80", 2*long),
	} {
		for _, r := range []*RenderResult{
			{Files: []RenderedFile{}, Nodes: []NodeResult{}},
			{Files: []RenderedFile{{Name: "a\"b", Data: Text(data)}, {Name: "c", Data: Text("d")}}, Nodes: []NodeResult{{Name: "scan"}}},
		} {
			want, err := engine.MarshalJSON(r)
			if err != nil {
				t.Fatal(err)
			}
			got := &pieces{T: t}
			if err := r.WriteJSON(got); err != nil || got.String() != string(want) {
				t.Errorf("%.20q: error %v, %d bytes, not %d", data, err, got.Len(), len(want))
			}
		}
	}
}

// A pipeline holds text, so it cannot name every folder.
func TestSourceNotUTF8(t *testing.T) {
	o := &Options{Sources: []Source{{Path: "n\xffdir"}}}
	if err := o.setSources(nil); err == nil || !strings.Contains(err.Error(), `source "n\xffdir": its name is not UTF-8`) {
		t.Errorf("error %v", err)
	}
}
