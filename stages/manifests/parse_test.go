// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// show prints a tree on one line.
func show(n *Node) string {
	var b strings.Builder
	var walk func(n *Node)
	walk = func(n *Node) {
		switch {
		case n.Kind == Map:
			b.WriteByte('{')
			for i := range n.Fields {
				if i > 0 {
					b.WriteByte(' ')
				}
				fmt.Fprintf(&b, "%s:", n.Fields[i].Key)
				walk(&n.Fields[i].Value)
			}
			b.WriteByte('}')
		case n.Kind == List:
			b.WriteByte('[')
			for i := range n.Items {
				if i > 0 {
					b.WriteByte(' ')
				}
				walk(&n.Items[i])
			}
			b.WriteByte(']')
		case n.Type == String:
			fmt.Fprintf(&b, "%q", n.Value)
		case n.Type == Null:
			b.WriteString("null")
		default:
			b.WriteString(n.Value)
		}
	}
	walk(n)
	return b.String()
}

// parseAll parses a file document by document.
func parseAll(data string) ([]Document, error) {
	var docs []Document
	for _, piece := range Open("f.yaml", []byte(data)).Text.Split() {
		some, err := Parse(piece)
		docs = append(docs, some...)
		if err != nil {
			return docs, err
		}
	}
	return docs, nil
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"comments", "# one\n# two\n", nil},
		{"markers", "---\n---\n# c\n---\na: 1\n---\n", []string{"null", "null", "{a:1}", "null"}},
		{"comment before the first marker", "# c\n---\na: 1\n", []string{"{a:1}"}},
		{"dots", "a: 1\n...\n---\nb: 2\n...\n", []string{"{a:1}", "{b:2}"}},
		{"directive", "%YAML 1.1\n---\na: 1\n", []string{"{a:1}"}},
		{"directives between", "a: 1\n...\n%YAML 1.1\n---\nb: 2\n", []string{"{a:1}", "{b:2}"}},
		{"text behind the marker", "--- # c\na: 1\n--- {b: 2}\n--- |\n  x\n", []string{"{a:1}", "{b:2}", `"x\n"`}},
		{"marker lookalikes", "a: |\n  ---\n  b\nc: ---d\n---e: 1\n", []string{`{a:"---\nb\n" c:"---d" ---e:1}`}},
		{"byte order mark", "\ufeffa: 1\n", []string{"{a:1}"}},
		{"CR LF", "a: 1\r\n---\r\nb: x\r\n", []string{"{a:1}", `{b:"x"}`}},
		{"CR", "a: 1\rb: x\r", []string{`{a:1 b:"x"}`}},
		{"types", "[s, '', ~, null, true, 1, 1.5, 2020-01-01, \"1\", !!str 2]", []string{`["s" "" null null true 1 1.5 "2020-01-01" "1" "2"]`}},
		{"the last of two", "a: 1\nb: 2\na: 3\n", []string{"{a:3 b:2}"}},
		{"merge", "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n", []string{"{x:{a:1 b:2} y:{a:1 b:3}}"}},
		{"merge of several", "x: &x {a: 1}\ny: &y {a: 2, b: 2}\nz:\n  <<: [*x, *y]\n", []string{"{x:{a:1} y:{a:2 b:2} z:{a:1 b:2}}"}},
		{"no merge", "'<<': 1\n", []string{"{<<:1}"}},
		{"alias", "x: &x 1\ny: *x\n*x : z\n", []string{`{x:1 y:1 1:"z"}`}},
		{"anchor twice", "x: &x 1\ny: *x\nz: &x 2\nw: *x\n", []string{"{x:1 y:1 z:2 w:2}"}},
		{"tabs between", "a:\t1\nb: {\tc: 2}\n", []string{"{a:1 b:{c:2}}"}},
		{"JSON", `{"a": [1, "x", null, true]}`, []string{`{a:[1 "x" null true]}`}},
		{"JSON lines", "{\"a\":1}\n{\"b\":2}{\"c\":3}\n", []string{"{a:1}", "{b:2}", "{c:3}"}},
		{"JSON with markers", "---\n{\"a\":1}\n---\n{\"b\":2}\n", []string{"{a:1}", "{b:2}"}},
		{"JSON twice", `{"a":1,"a":2}`, []string{"{a:2}"}},
		{"JSON that YAML refuses", "{\"\\ud83d\\ude00\": \"\\/\",\n\t\"" + strings.Repeat("k", 2000) + "\": 1}", []string{`{😀:"/" ` + strings.Repeat("k", 2000) + ":1}"}},
		{"flow that is no JSON", "{a: b, c: [d,]}", []string{`{a:"b" c:["d"]}`}},
		{"UTF-16, little end first", "\xff\xfea\x00:\x00 \x00\xe9\x00\n\x00", []string{`{a:"é"}`}},
		{"UTF-16, big end first", "\xfe\xff\x00a\x00:\x00 \xd8\x3d\xde\x00\x00\n", []string{`{a:"😀"}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, err := parseAll(c.in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range docs {
				got = append(got, show(&docs[i].Root))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseError(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 9; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	for _, c := range []struct {
		name, in, reason string
		line             int
	}{
		{"template", "a: 1\nb:\n  {{- x }}\n    {{ y }}: |\n", "did not find expected node content", 3},
		{"template in a value", "a: 1\nb: {{ x }}-y\nc: 2\n", "did not find expected key", 2},
		{"template as a value", "a: 1\nb: {{ x }}\n", "a map or list in place of a key", 2},
		{"quote without end", "a: 1\nb: \"x\nc: 2\n", "found unexpected end of stream", 2},
		{"tab", "a:\n\t- b\n", "found character that cannot start any token", 2},
		{"control character", "a: 1\nb: \x01\n", "control characters are not allowed", 2},
		{"no such anchor", "a: *x\n", "unknown anchor 'x' referenced", 1},
		{"anchor of another document", "a: &x 1\n---\na: *x\n", "unknown anchor 'x' referenced", 2},
		{"no marker behind dots", "a: 1\n...\nb: 2\n", "did not find expected <document start>", 3},
		{"anchor in itself", "a: &x [*x]\n", `anchor "x" contains itself`, 1},
		{"merge of a string", "a: 1\n<<: x\n", "a merge key", 2},
		{"aliases of aliases", bomb, "aliases and merge keys expand the document to more than 10 times what is written", 5},
		{"mark in the middle", "a: 1\n\ufeff---\nb: 2\n", "a byte order mark inside the file", 2},
		{"mark in the middle, without marker", "a: 1\n\ufeffb: 2\n", "a byte order mark inside the file", 2},
		{"a marker to kubectl alone", "~\n---\u00a0\n{\"a\":1}\n", "a space that YAML does not allow follows ---", 2},
		{"a marker to kubectl alone, with a comment", "~\n---\v# c\n{\"a\":1}\n", "a space that YAML does not allow follows ---", 2},
		{"binary key", "a:\n- !!binary aW1hZ2U=: x\n", "a key is !!binary", 2},
		{"merge key of another name", "a: 1\n!!merge b: {kind: A}\n", `the key "b" has the tag !!merge`, 2},
		{"conflict of a merge", "a: 1\nb:\n<<<<<<< HEAD\n  c: 1\n=======\n  c: 2\n>>>>>>> other\n", "a merge conflict is not resolved here", 3},
		{"JSON without end", "{\"a\": 1,\n\"b\": [1, 2\n", "did not find expected ',' or ']'", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseAll(c.in)
			var parse *ParseError
			if !errors.As(err, &parse) {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(parse.Reason, c.reason) || parse.Line != c.line {
				t.Errorf("got line %d: %s", parse.Line, parse.Reason)
			}
		})
	}
}

// YAML that readers disagree on is an error in a document that a cluster may get, and in no
// other.
func TestDispute(t *testing.T) {
	for _, c := range []struct {
		name, in, reason string
		line             int
	}{
		{"merge behind the key", "kind: A\na:\n  b: 1\n  <<: {b: 2}\n", `a merge key (<<) gives "b", which is written before it`, 4},
		{"merge behind the key, by an alias", "x: &x {b: 2}\nkind: A\na: {b: 1, <<: *x}\n", `a merge key (<<) gives "b"`, 3},
		{"merge behind the key, of several", "kind: A\nb: 1\n<<: [{a: 1}, {b: 2}]\n", `a merge key (<<) gives "b"`, 3},
		{"merge behind the key, in a flow", "{kind: A, <<: {kind: B}}\n", `a merge key (<<) gives "kind"`, 1},
		{"merge behind the key, of a merge", "kind: A\nb: 1\n<<: {<<: {b: 2}}\n", `a merge key (<<) gives "b"`, 3},
		{"merge before the key", "kind: A\n<<: {b: 2}\nb: 1\n", "", 0},
		{"merge of what is in no key", "kind: A\nb: 1\n<<: [{a: 1}, {a: 2}]\n", "", 0},
		{"two merges", "kind: A\n<<: {a: 1}\n<<: {b: 2}\n", "a second merge key (<<) in one map", 3},
		{"quoted merge", "kind: A\n\"<<\": {a: 1}\n", "a key is << in quotes", 2},
		{"tagged merge", "kind: A\n!!merge <<: {a: 1}\n", "a key is << in quotes, or with a tag", 2},
		{"merge with an anchor", "kind: A\n&a <<: {a: 1}\n", "a key is << in quotes, or with a tag or an anchor", 2},
		{"merge that is a string", "kind: A\n!!str <<: {a: 1}\n", "a key is << in quotes, or with a tag", 2},
		{"merge by an alias", "kind: A\nx: &x <<\n*x : {a: 1}\n", "a key is << in quotes", 3},
		{"merge in JSON", "{\"kind\": \"A\",\n\"a\": {\"<<\": {}}}", "a key is << in quotes", 2},
		{"null that is a string", "kind: A\na: ! null\n", `"null" has the tag !:`, 2},
		{"number that is a string", "kind: A\na: &x ! 1\n", `"1" has the tag !:`, 2},
		{"number that is a string, in another order", "kind: A\na: ! &x # why\n  1\n", `"1" has the tag !:`, 2},
		{"nothing that is a string", "kind: A\na: [! , x]\n", `"" has the tag !:`, 2},
		{"null that is a string, as a key", "kind: A\n! null : x\n", `"null" has the tag !:`, 2},
		{"string that is a string", "kind: A\na: ! x\nb: ! \"1\"\nc: '! null'\nd: !!null\n", "", 0},
		{"key that is null", "kind: A\n!!null a: 1\n", `the key "a" has the tag !!null`, 2},
		{"merge of a map that repeats itself", "kind: A\na:\n  <<: {b: 1, b: 2}\n", "a merge key (<<) takes a map in which a key appears twice", 3},
		{"merge of a map that repeats a merged key", "x: &x {<<: {b: 1}, b: 2}\nkind: A\na: {<<: *x}\n", "", 0},
		{"tag of one's own", "kind: A\n!x a: 1\n", `the key "a" has the tag !x`, 2},
		{"key that is a string", "kind: A\n!!str a: 1\n", "", 0},
		{"binary kind", "kind: !!binary QQ==\n", `the value of "kind" is !!binary`, 1},
		{"binary image", "kind: A\nspec:\n- image: !!binary QQ==\n", `the value of "image" is !!binary`, 3},
		{"binary data", "kind: A\ndata: {a: !!binary QQ==}\n", "", 0},
		{"binary data as an image", "kind: A\ndata: &d {image: !!binary QQ==}\nspec: [*d]\n", `the value of "image" is !!binary`, 2},
		{"in an item", "items:\n- b: 1\n  <<: {b: 2}\n", `a merge key (<<) gives "b"`, 3},
		{"a key twice", "kind: A\nspec:\n  a: 1\n  b: 2\n  a: 1\n", `the key "a" appears twice in one map: kustomize and Flux reject that, and others use the last`, 5},
		{"a key twice, in quotes and in a flow", "kind: A\nspec: {a: 1, \"a\": 2}\n", `the key "a" appears twice`, 2},
		{"a key twice, by an alias", "kind: A\nx: &x y\n*x : 1\ny: 2\n", `the key "y" appears twice`, 4},
		{"a key twice in JSON", "{\"kind\": \"A\",\n\"a\": {\"b\": 1,\n\"b\": 2}}", `the key "b" appears twice`, 3},
		{"a key twice in an item", "kind: List\nitems:\n- kind: A\n  b: 1\n  b: 2\n", `the key "b" appears twice`, 5},
		{"a key twice, before what is read in two ways", "kind: A\na: 1\na: 2\n\"<<\": {b: 1}\n", "a key is << in quotes", 4},
		{"a key in two maps", "kind: A\na: {b: 1}\nb: {b: 1}\n", "", 0},
		{"a key twice in no object", "a: 1\na: 2\n", "", 0},
		{"no object", "a:\n  b: 1\n  <<: {b: 2}\n", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, err := parseAll(c.in)
			if err != nil || len(docs) != 1 {
				t.Fatal(len(docs), err)
			}
			if c.reason == "" {
				if err := docs[0].Dispute(); err != nil {
					t.Error(err)
				}
				return
			}
			var parse *ParseError
			if !errors.As(docs[0].Dispute(), &parse) || !strings.HasPrefix(parse.Reason, c.reason) || parse.Line != c.line {
				t.Errorf("got %v", docs[0].Dispute())
			}
		})
	}
}

func TestLimits(t *testing.T) {
	embedded := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name, in, reason string
		line             int
	}{
		{"depth of YAML", "\n" + strings.Repeat("[", maxDepth+2) + "a: b" + strings.Repeat("]", maxDepth+2), "nested deeper than 1000 levels", 2},
		{"depth of JSON", "\n" + strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2), "nested deeper than 1000 levels", 2},
		{"values of YAML", "- a\n- &b b" + strings.Repeat("\n- a", MaxValues/2), "more than 2000000 values in one document", 1_000_001},
		{"values of JSON", "[\n0" + strings.Repeat(",0", MaxValues) + "]", "more than 2000000 values in one document", 2},
		{"a long value", "a: 1\nb: " + strings.Repeat("x", maxScalar+1), "a value of more than 16 MiB", 2},
		{"a long comment", "a: 1\n# b\n" + strings.Repeat("#"+strings.Repeat("x", 62)+"\n", MaxComment/64), "a comment of more than 16 MiB, or a line that is as long behind a #", MaxComment/64 + 2},
		{"a long comment behind a value", "a: 1\nb: 2 #" + strings.Repeat("x", MaxComment), "a comment of more than 16 MiB, or a line that is as long behind a #", 2},
		{"a long value in JSON", "{\"a\": 1,\n\"b\": \"" + strings.Repeat("x", maxScalar+1) + "\"}", "a value of more than 16 MiB", 2},
		{"a long key in JSON", "{\"a\": 1,\n\"" + strings.Repeat("x", maxScalar+1) + "\": 1}", "a value of more than 16 MiB", 2},
		{"merge keys", "x: &x {a: [" + strings.Repeat("1, ", 2000) + "]}\ny:\n" + strings.Repeat("- <<: *x\n", 200), "aliases and merge keys expand the document to more than 10 times", 63},
		{"a long List whose items grow", "kind: List\nitems:\n" + strings.Repeat("# "+strings.Repeat("x", 100)+"\n", longList/100) + strings.Repeat("- a: &a [x,x,x,x,x,x,x,x,x,x]\n  b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n  c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n  d: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n", 20),
			"aliases and merge keys expand the document to more than 10 times", longList/100 + 38},
		{"a long value in many places", "- &x " + embedded + strings.Repeat("\n- *x", 20), "aliases and merge keys expand the document to more than 10 times", 13},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseAll(c.in)
			var parse *ParseError
			if !errors.As(err, &parse) || !strings.HasPrefix(parse.Reason, c.reason) || parse.Line != c.line {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestParseList compares a List that is read item by item with the same List read as a whole:
// values and positions.
func TestParseList(t *testing.T) {
	for _, c := range []struct {
		name, in string
		ok       bool
	}{
		{"at the margin", "apiVersion: v1\nitems:\n- a: 1\n  b: |\n    - x\n\n    y\n# c\n- c: [2]\n-\n  d: *?\nkind: List\nmetadata: {x: y}\n", false},
		{"values", "apiVersion: v1\nitems:\n- a: 1\n  b: |\n    - x\n\n    y\n# c\n- c: [2]\n-\n  d: '*'\n- null\n-\nkind: List\nmetadata: {x: y}\n", true},
		{"indented", "kind: List\nitems:\n\n    - a: 1\n      b: 2\n    - c: \"x\n        y\"\napiVersion: v1\n", true},
		{"CR LF", "kind: List\r\nitems:\r\n- a: é\r\n\r\n- b: x\r\nz: 1\r\n", true},
		{"at the end", "kind: List\nitems:\n- a: 1\n- b: 2", true},
		{"an alias", "kind: List\nitems:\n- a: &x 1\n- b: *x\n", false},
		{"items twice", "kind: List\nitems:\n- a\nitems:\n- b\n", false},
		{"none", "kind: List\nitems:\nmetadata: {}\n", false},
		{"in flow", "kind: List\nitems: [a]\n", false},
		{"a quote over the margin", "kind: List\nitems:\n- \"a\n- b\"\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := Open("f.yaml", []byte(c.in)).Text
			got, ok := parseList(text)
			if ok != c.ok {
				t.Fatalf("got %v", ok)
			}
			if !ok {
				return
			}
			want, err := parseYAML(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(show(&want[0].Root), show(&got.Root)); diff != "" {
				t.Error(diff)
			}
			var compare func(a, b *Node)
			compare = func(a, b *Node) {
				if a.at != b.at && a.Type != Null && a.Kind != List {
					t.Errorf("%s is at %d, want %d", show(b), b.at, a.at)
				}
				for i := range a.Fields {
					compare(&a.Fields[i].Value, &b.Fields[i].Value)
				}
				for i := range a.Items {
					compare(&a.Items[i], &b.Items[i])
				}
			}
			compare(&want[0].Root, &got.Root)
		})
	}
}

func TestErrorSparesNeighbours(t *testing.T) {
	var good, bad int
	for _, piece := range Open("f.yaml", []byte("a: 1\n---\nb: {{ x }}-y\n---\nc: 3\n")).Text.Split() {
		docs, err := Parse(piece)
		good += len(docs)
		if err != nil {
			bad++
		}
	}
	if good != 2 || bad != 1 {
		t.Errorf("%d good, %d bad", good, bad)
	}
}

func TestObjects(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string // pointer, group and name
		reason   string
	}{
		{"object", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: b}\n", []string{" apps apps/v1 Deployment a"}, ""},
		{"generated name", "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n", []string{"  v1 Pod a-"}, ""},
		{"no name", "apiVersion: v1\nkind: Pod\n", []string{"  v1 Pod"}, ""},
		{"list", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n- null\n- {apiVersion: v1, kind: List, items: [{apiVersion: a/v1, kind: B}]}\n",
			[]string{"/items/0  v1 Pod", "/items/2/items/0 a a/v1 B"}, ""},
		{"typed list", "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: a}\n- {apiVersion: v1, kind: ConfigMap}\n",
			[]string{"/items/0  v1 ConfigMap a", "/items/1  v1 ConfigMap"}, ""},
		{"empty list", "apiVersion: v1\nkind: ConfigMapList\nitems:\n", nil, ""},
		{"a kind that ends in List", "apiVersion: x.io/v1\nkind: AllowList\nspec: {}\n", []string{" x.io x.io/v1 AllowList"}, ""},
		{"items of any object", "apiVersion: v1\nkind: ConfigMap\nitems:\n- {apiVersion: v1, kind: Pod, items: [{apiVersion: a/v1, kind: B}]}\n- {name: x}\n",
			[]string{"  v1 ConfigMap", "/items/0  v1 Pod", "/items/0/items/0 a a/v1 B"}, ""},
		{"items of a tool's configuration", "apiVersion: kpt.dev/v1\nkind: Kptfile\nitems:\n- {apiVersion: v1, kind: Pod}\n", []string{"/items/0  v1 Pod"}, ""},
		{"items of a kubeconfig", "apiVersion: v1\nkind: Config\nitems:\n- {apiVersion: v1, kind: Pod}\n- {name: x}\n", []string{"/items/0  v1 Pod"}, ""},
		{"items without a version", "kind: A\nitems:\n- {apiVersion: v1, kind: Pod}\n", []string{"/items/0  v1 Pod"}, ""},
		{"no version", "kind: A\nitems: [{name: x}]\n", nil, "not a Kubernetes object"},
		{"values", "image:\n  tag: x\n", nil, "not a Kubernetes object"},
		{"patch", "- op: add\n", nil, "not a Kubernetes object"},
		{"kind that is no string", "apiVersion: v1\nkind: 1\n", nil, "not a Kubernetes object"},
		{"kustomization", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n", nil, "read by kustomize, not by a cluster"},
		{"kubeconfig", "apiVersion: v1\nkind: Config\n", nil, "read by kubectl, not by a cluster"},
		{"Flux's Kustomization", "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n", []string{" kustomize.toolkit.fluxcd.io kustomize.toolkit.fluxcd.io/v1 Kustomization"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, err := parseAll(c.in)
			if err != nil || len(docs) != 1 {
				t.Fatal(len(docs), err)
			}
			objects, reason := docs[0].Objects()
			var got []string
			for _, o := range objects {
				got = append(got, o.Pointer()+" "+o.Group()+" "+o.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" || reason != c.reason {
				t.Error(reason, diff)
			}
		})
	}
}

func TestInner(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"app:\n- {apiVersion: v1, kind: A}\n- {apiVersion: v1, kind: B}\nt/x: [{apiVersion: v1, kind: C}]\n", []string{"/app/0 v1 A", "/app/1 v1 B", "/t~1x/0 v1 C"}},
		{"- {apiVersion: v1, kind: A}\n", []string{"/0 v1 A"}},
		{"extra:\n- {apiVersion: v1, kind: A}\nreplicas: 1\n", nil},
		{"apiVersion: v1\nkind: A\n", nil},
		{"[]", nil},
	} {
		docs, err := parseAll(c.in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range docs[0].Inner() {
			got = append(got, o.Pointer()+" "+o.String())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.in, diff)
		}
	}
}

func TestIngredients(t *testing.T) {
	patches, contents := Ingredients([]byte(`
patches:
- path: a.yaml
  target: {kind: Deployment}
- patch: |-
    - op: add
patchesStrategicMerge: [b.yaml, "kind: Deployment\nmetadata: {name: x}\n"]
patchesJson6902: [{path: ../c.json}]
configMapGenerator:
- name: x
  files: [d.yaml, key=e.yaml]
secretGenerator: [{literals: [a=b]}]
`))
	if diff := cmp.Diff([]string{"a.yaml", "b.yaml", "../c.json"}, patches); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"d.yaml", "e.yaml"}, contents); diff != "" {
		t.Error(diff)
	}
}
