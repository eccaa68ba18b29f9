// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// edit describes the n-th occurrence of text in data.
func edit(t *testing.T, file, data, text string, n int) images.Edit {
	t.Helper()
	at := -1
	for range n {
		next := strings.Index(data[at+1:], text)
		if next < 0 {
			t.Fatalf("%q is not in %q %d times", text, data, n)
		}
		at += 1 + next
	}
	return images.Edit{File: file, Line: 1, Offset: at, Replaced: text}
}

func TestRewrite(t *testing.T) {
	const (
		from = "old.example.com/team/shop"
		a    = "kind: A\r\n# old.example.com/team/shop:x is not touched\r\nimage: \"old.example.com/team/shop:a.1.92d4@sha256:92d4\"\r\nother: old.example.com/team/shop@sha256:92d4 # é\r\n"
		b    = `{"registry":"old.example.com","repository":"team/shop","tag":"b.1.92d4","image":"shop","path":"old.example.com/team"}`
		c    = "kind: C\n"
	)
	list := []files.File{{Name: "a.yaml", Data: []byte(a)}, {Name: "b.json.yaml", Data: []byte(b)}, {Name: "c.yaml", Data: []byte(c)}}
	transform := Transform{Kind: TransformImageRef, Repository: from, Edits: []images.Edit{
		edit(t, "a.yaml", a, "old.example.com/team/shop@sha256:92d4", 1), // not in order
		edit(t, "a.yaml", a, "old.example.com/team/shop:a.1.92d4@sha256:92d4", 1),
		edit(t, "b.json.yaml", b, "old.example.com", 1),
		edit(t, "b.json.yaml", b, "team/shop", 1),
		edit(t, "b.json.yaml", b, "b.1.92d4", 1),
		edit(t, "b.json.yaml", b, "shop", 2),
		edit(t, "b.json.yaml", b, "old.example.com/team", 1),
	}}
	got, changed, err := Rewrite(list, transform, "new.example.com:5000/mirror/of/tapes")
	if err != nil {
		t.Fatal(err)
	}
	want := []files.File{
		{Name: "a.yaml", Data: []byte("kind: A\r\n# old.example.com/team/shop:x is not touched\r\nimage: \"new.example.com:5000/mirror/of/tapes:a.1.92d4@sha256:92d4\"\r\nother: new.example.com:5000/mirror/of/tapes@sha256:92d4 # é\r\n")},
		{Name: "b.json.yaml", Data: []byte(`{"registry":"new.example.com:5000","repository":"mirror/of/tapes","tag":"b.1.92d4","image":"tapes","path":"new.example.com:5000/mirror/of"}`)},
		{Name: "c.yaml", Data: []byte(c)},
	}
	if diff := cmp.Diff(want, got); diff != "" || changed != 2 {
		t.Errorf("%d changed: %s", changed, diff)
	}
	if string(list[0].Data) != a {
		t.Error("the files that were given were changed")
	}
	same, changed, err := Rewrite(list, transform, from)
	if diff := cmp.Diff(list, same); err != nil || diff != "" || changed != 0 {
		t.Errorf("to where it is: %d changed, %v %s", changed, err, diff)
	}

	transform.Edits[0].Offset++
	if _, _, err := Rewrite(list, transform, "new.example.com/x"); err == nil || !strings.Contains(err.Error(), "rewrite a.yaml: line 1 does not hold") {
		t.Errorf("statements that do not fit: %v", err)
	}
	if _, _, err := Rewrite(list, Transform{}, "new.example.com/x:tag"); err == nil {
		t.Error("a repository with a tag: no error")
	}
}

func TestRewriteRefuses(t *testing.T) {
	list := []files.File{{Name: "a", Data: []byte("0123456789")}}
	for name, edits := range map[string][]images.Edit{
		"beyond the end": {{File: "a", Offset: 8, Replaced: "89x"}},
		"far beyond":     {{File: "a", Offset: 1 << 40, Replaced: "x"}},
		"overflowing":    {{File: "a", Offset: 1<<63 - 1, Replaced: "x"}},
		"before":         {{File: "a", Offset: -1, Replaced: "0"}},
		"overlapping":    {{File: "a", Offset: 1, Replaced: "123"}, {File: "a", Offset: 2, Replaced: "2"}},
	} {
		if _, _, err := Rewrite(list, Transform{Edits: edits}, "example.com/x"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRewriteParts checks that a part with two possible meanings is rejected.
func TestRewriteParts(t *testing.T) {
	for _, c := range []struct{ text, from, to, want string }{
		{"old.example.com", "old.example.com/team/shop", "new.example.com/x", "new.example.com"},
		{"team", "old.example.com/team/shop", "new.example.com/x", ""}, // x has no folder
		{"team", "old.example.com/team/shop", "new.example.com/a/b/c", "a/b"},
		{"shop", "old.example.com/shop", "new.example.com/x", "x"},
		{"shop", "old.example.com/shop", "new.example.com/x/y", ""}, // x/y or y
		{"team/shop:v1", "old.example.com/team/shop", "new.example.com/x", "x:v1"},
		{"old.example.com:5000", "old.example.com:5000/team/shop", "new.example.com/x", "new.example.com"},
		{"1.0@sha256:92d4", "old.example.com/1.0", "new.example.com/x", "1.0@sha256:92d4"},
		{"v1.92d43edf", "old.example.com/shop", "new.example.com/x/y", "v1.92d43edf"},
		{"old.example.com/shopping:v1", "old.example.com/shop", "new.example.com/x", "old.example.com/shopping:v1"},
	} {
		got, err := repoint(c.text, c.from, c.to)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("repoint(%q, %q, %q) = %q, %v, want %q", c.text, c.from, c.to, got, err, c.want)
		}
	}
}

func TestRewriteUTF16(t *testing.T) {
	data := []byte("\xff\xfe")
	encode := func(text string) []byte { return manifests.Encode(data, text) }
	replaced := encode("old.example.com/shop:a@sha256:92d4")
	data = append(data, encode("image: ")...)
	offset := len(data)
	data = append(append(data, replaced...), encode(" # é\n")...)
	got, _, err := Rewrite([]files.File{{Name: "a.yaml", Data: data}},
		Transform{Repository: "old.example.com/shop", Edits: []images.Edit{{File: "a.yaml", Offset: offset, Replaced: string(replaced)}}}, "new.example.com/x")
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]byte("\xff\xfe"), encode("image: new.example.com/x:a@sha256:92d4 # é\n")...); string(got[0].Data) != string(want) {
		t.Errorf("%q, want %q", got[0].Data, want)
	}
}

func TestImageRefs(t *testing.T) {
	statement := func(predicateType string, predicate any) Statement {
		data, err := json.Marshal(predicate)
		if err != nil {
			t.Fatal(err)
		}
		return Statement{PredicateType: predicateType, Predicate: data}
	}
	list := []Statement{
		statement(PredicateProvenance, Provenance{}),
		statement(PredicateTransform, Transform{Kind: TransformRender}),
		statement(PredicateTransform, Transform{Kind: TransformImageRef, Repository: "r"}),
	}
	if got, ok := ImageRefs(list); !ok || got.Repository != "r" {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := ImageRefs(list[:2]); ok {
		t.Error("found what is not there")
	}
}
