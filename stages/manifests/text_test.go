// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"strings"
	"testing"
)

// at returns the node at a JSON pointer.
func at(n *Node, pointer string) *Node {
	for _, key := range strings.Split(pointer, "/")[1:] {
		if n.Kind == List {
			var i int
			for _, c := range key {
				i = i*10 + int(c-'0')
			}
			n = &n.Items[i]
			continue
		}
		n = n.Get(UnescapePointer(key))
	}
	return n
}

// TestSpan looks for the word a/b:1 in a value, and checks which bytes of the file it is and
// their position.
func TestSpan(t *testing.T) {
	const word = "a/b:1"
	wide := func(order string, s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			if order == "\xff\xfe" {
				b.WriteString(string([]byte{c, 0}))
			} else {
				b.WriteString(string([]byte{0, c}))
			}
		}
		return b.String()
	}
	for _, c := range []struct {
		name, in, pointer string
		raw               string // "" means word
		line, column      int
	}{
		{"plain", "x: a/b:1\n", "/x", "", 1, 4},
		{"plain with a comment", "x: a/b:1 # c\n", "/x", "", 1, 4},
		{"plain behind other characters", "é😀: a/b:1\n", "/é😀", "", 1, 5},
		{"plain over two lines", "x: one\n  a/b:1 two\n", "/x", "", 2, 3},
		{"plain on the next line", "x:\n  # c\n\n  a/b:1\n", "/x", "", 4, 3},
		{"single", "x: 'a/b:1'\n", "/x", "", 1, 5},
		{"single with quotes", "x: 'it''s a/b:1'\n", "/x", "", 1, 11},
		{"double", "x: \"a/b:1\"\n", "/x", "", 1, 5},
		{"double with escapes", `x: "\ta\x2fb\u003a1"` + "\n", "/x", `a\x2fb\u003a1`, 1, 7},
		{"double with wide escapes", `x: "😀 \U00000061/b:1"` + "\n", "/x", `\U00000061/b:1`, 1, 7},
		{"double over lines", "x: \"one\n\n  a/b:1\"\n", "/x", "", 3, 3},
		{"double broken in the word", "x: \"a/\\\n   b:1\"\n", "/x", "a/\\\n   b:1", 1, 5},
		{"literal", "x: |\n  one\n  a/b:1\n", "/x", "", 3, 3},
		{"literal with an indent and a comment", "x: |2- # c\n    one\n   a/b:1\n", "/x", "", 3, 4},
		{"folded", "x: >-\n  one\n\n  two\n  a/b:1\n", "/x", "", 5, 3},
		{"anchor and tag", "x: &y !!str # c\n  a/b:1\nz: *y\n", "/z", "", 2, 3},
		{"anchor alone", "x: &y a/b:1\nz: *y\n", "/z", "", 1, 7},
		{"verbatim tag", "x: !<tag:yaml.org,2002:str> a/b:1\n", "/x", "", 1, 29},
		{"merged", "x: &y {z: a/b:1}\nw: {<<: *y}\n", "/w/z", "", 1, 11},
		{"flow", "{x: [one, a/b:1, two]}\n", "/x/1", "", 1, 11},
		{"flow in quotes", "{x: ['a/b:1',\"b\"]}\n", "/x/0", "", 1, 7},
		{"second document", "a: 1\n---\n\nx: a/b:1\n", "/x", "", 4, 4},
		{"byte order mark", "\ufeffx: a/b:1\n", "/x", "", 1, 4},
		{"CR LF", "a: 1\r\nx: >\r\n  one\r\n  a/b:1\r\n", "/x", "", 4, 3},
		{"CR", "a: 1\rx: a/b:1\r", "/x", "", 2, 4},
		{"NEL counts for YAML, not for editors", "a: \"\u0085\"\nx: a/b:1\n", "/x", "", 2, 4},
		{"JSON", `{"y": 1, "x": "a/b:1"}`, "/x", "", 1, 16},
		{"JSON with escapes", `{"x": "\u0061\/b:1"}`, "/x", `\u0061\/b:1`, 1, 8},
		{"JSON with a pair", `{"😀": "\ud83d\ude00a/b:1"}`, "/😀", "", 1, 20},
		{"JSON lines", "{\"a\":1}\n{\"x\":\"a/b:1\"}\n", "/x", "", 2, 7},
		{"JSON that is no UTF-8", "{\"x\":\"\xff a/b:1\"}", "/x", "", 1, 9},
		{"UTF-16, little end first", "\xff\xfe" + wide("\xff\xfe", "y: 1\r\nx: 'a/b:1'\r\n"), "/x", wide("\xff\xfe", word), 2, 5},
		{"UTF-16, big end first", "\xfe\xff" + wide("\xfe\xff", "x: a/b:1\n"), "/x", wide("\xfe\xff", word), 1, 4},
		{"UTF-16 with a pair", "\xfe\xff" + wide("\xfe\xff", "x: ") + "\xd8\x3d\xde\x00" + wide("\xfe\xff", " a/b:1\n"), "/x", wide("\xfe\xff", word), 1, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Open("f.yaml", []byte(c.in))
			docs, err := parseAll(c.in)
			if err != nil {
				t.Fatal(err)
			}
			doc := docs[len(docs)-1]
			text := doc.Scalar(at(&doc.Root, c.pointer))
			from := strings.Index(text.String, word)
			if from < 0 {
				t.Fatalf("value is %q", text.String)
			}
			span := text.Span(from, from+len(word))
			want := c.raw
			if want == "" {
				want = word
			}
			if raw := c.in[span.Offset : span.Offset+span.Length]; !span.Exact || raw != want {
				t.Errorf("got %q at %+v", raw, span)
			}
			if line, column := f.Positions().At(span.Offset); line != c.line || column != c.column {
				t.Errorf("got %d:%d", line, column)
			}
		})
	}
}

// TestSpanOfEmbedded descends into strings that are documents.
func TestSpanOfEmbedded(t *testing.T) {
	in := "data:\n  x: |\n    y: \"{\\\"z\\\": \\\"\\\\u0061\\\\/b:1\\\"}\"\n"
	docs, err := parseAll(in)
	if err != nil {
		t.Fatal(err)
	}
	text := docs[0].Scalar(at(&docs[0].Root, "/data/x"))
	for _, pointer := range []string{"/y", "/z"} {
		docs, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		text = docs[0].Scalar(at(&docs[0].Root, pointer))
	}
	if text.String != "a/b:1" {
		t.Fatalf("got %q", text.String)
	}
	span := text.Span(0, len(text.String))
	if raw := in[span.Offset : span.Offset+span.Length]; !span.Exact || raw != `\\u0061\\/b:1` {
		t.Errorf("got %q, %+v", raw, span)
	}
}

func TestSpanThatIsNot(t *testing.T) {
	docs, err := parseAll("x: YS9iOjE=\ny: \"\"\nz:\n")
	if err != nil {
		t.Fatal(err)
	}
	d := &docs[0]
	if got, want := d.Scalar(d.Root.Get("x")).Decoded("a/b:1").Span(0, 5), (Span{Offset: 3}); got != want {
		t.Errorf("decoded: %+v", got)
	}
	if got, want := d.Scalar(d.Root.Get("y")).Span(0, 0), (Span{Offset: 16, Exact: true}); got != want {
		t.Errorf("nothing between quotes: %+v", got)
	}
	if got := d.Scalar(d.Root.Get("z")).Span(0, 0); got.Exact {
		t.Errorf("nothing at all: %+v", got)
	}
}

func TestPositions(t *testing.T) {
	in := "\ufeffab\r\ncé\rd\n\ne"
	p := Open("f", []byte(in)).Positions()
	for _, c := range []struct{ offset, line, column int }{
		{3, 1, 1}, {5, 1, 3}, {7, 2, 1}, {8, 2, 2}, {10, 2, 3}, {11, 3, 1}, {13, 4, 1}, {14, 5, 1}, {15, 5, 2}, {99, 5, 2}, {3, 1, 1},
	} {
		if line, column := p.At(c.offset); line != c.line || column != c.column {
			t.Errorf("byte %d: got %d:%d, want %d:%d", c.offset, line, column, c.line, c.column)
		}
	}
}

// FuzzParse compares each scalar with its bytes: every scalar has a position.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"a: b\n---\n- c\n", "x: &a 'y'\nz: *a\n", "x: |2-\n   y\n\n  z\n", "x: >+\n a\n\n  b\n c\n\n", "x: \"a\\\n  b\\tc\\u00e9\\/\"\n",
		"{\"a\":[1,\"\\ud83d\\ude00\",null]}\n{}", "? a\n: b\n", "%TAG ! tag:x,2000:\n---\n!y z\n", "\ufeffa: b\r\nc: 'd''e\r\n  f'\r\n",
		"a: \u0085b\nc: d\u2028e\n", "<<: [{a: b}]\n", "- - - a\n  - b: {c: d, e}\n", "a: 1\nitems:\n- b: c\n  d: |\n   e\n\n# f\n-\n  g: 'h\n   i'\nj: k\n", "x: # c\n  y\n  z # d\n", "&0?0", "\xff\xfea\x00:\x00 \x00b\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file := Open("f.yaml", data)
		for _, piece := range file.Text.Split() {
			if list, ok := parseList(piece); ok {
				whole, err := parseYAML(piece)
				if err != nil || len(whole) != 1 || show(&whole[0].Root) != show(&list.Root) {
					t.Fatalf("item by item it is %s, whole %v", show(&list.Root), err)
				}
			}
			docs, _ := Parse(piece)
			for i := range docs {
				d := &docs[i]
				d.Objects()
				d.Inner()
				var walk func(n *Node, depth int)
				walk = func(n *Node, depth int) {
					if depth > 100 {
						return
					}
					for i := range n.Fields {
						walk(&n.Fields[i].Value, depth+1)
					}
					for i := range n.Items {
						walk(&n.Items[i], depth+1)
					}
					text := d.Scalar(n)
					word := strings.Trim(text.String, " \t\r\n\u0085\u2028\u2029")
					if word == "" {
						return
					}
					from := strings.Index(text.String, word)
					span := text.Span(from, from+len(word))
					if !span.Exact || span.Offset < 0 || span.Length <= 0 || span.Offset+span.Length > len(data) {
						t.Fatalf("%q stands at %+v", text.String, span)
					}
					file.Positions().At(span.Offset)
				}
				walk(&d.Root, 0)
			}
		}
	})
}
