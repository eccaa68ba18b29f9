// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/manifests"
	"github.com/taped-dev/tape/stages/vcs"
)

// parseObjects returns the objects of YAML documents, as JSON.
func parseObjects(t *testing.T, docs ...string) map[ObjectKey][]byte {
	t.Helper()
	out := map[ObjectKey][]byte{}
	found := newObjects(func(key ObjectKey, n *manifests.Node) error {
		var data bytes.Buffer
		err := writeJSON(&data, n)
		out[key] = data.Bytes()
		return err
	})
	if err := found.file(files.File{Name: "a.yaml", Data: []byte(strings.Join(docs, "\n---\n"))}); err != nil {
		t.Fatal(err)
	}
	return out
}

// diffParsed compares objects like Diff.
func diffParsed(t *testing.T, a, b map[ObjectKey][]byte) ObjectsDiff {
	t.Helper()
	sums := func(of map[ObjectKey][]byte) map[ObjectKey]digest.Digest {
		out := map[ObjectKey]digest.Digest{}
		for key, data := range of {
			out[key] = digest.FromBytes(data)
		}
		return out
	}
	d, pairs := diffObjects(sums(a), sums(b))
	c := changes{cells: maxCells, room: maxText}
	for _, p := range pairs {
		changed, _, err := c.object(p, a[p.from], b[p.to])
		if err != nil {
			t.Fatal(err)
		}
		d.Changed = append(d.Changed, changed)
	}
	return d
}

func TestDiffObjects(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	a := parseObjects(t,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":1,"containers":[{"name":"a","image":"x:1"},{"name":"b","image":"y:1"}]}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
	)
	b := parseObjects(t,
		`{"apiVersion":"apps/v1beta1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":1,"containers":[{"name":"b","image":"y:1"},{"name":"c","image":"z"},{"name":"a","image":"x:2"}]}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"api"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
	)
	got := diffParsed(t, a, b)
	want := ObjectsDiff{
		Added:   []ObjectKey{{Kind: "Service", Name: "api"}},
		Removed: []ObjectKey{{Kind: "Service", Name: "web"}, {Group: "batch", Kind: "Job", Name: "j-*#2"}},
		Changed: []ObjectChange{{
			ObjectKey: ObjectKey{Group: "apps", Kind: "Deployment", Name: "web"},
			Fields: []FieldChange{
				{Pointer: "/apiVersion", Path: "apiVersion", From: raw(`"apps/v1"`), To: raw(`"apps/v1beta1"`)},
				{Pointer: "/spec/containers/0/image", Path: "spec.containers[a].image", From: raw(`"x:1"`), To: raw(`"x:2"`)},
				{Pointer: "/spec/containers/1", Path: "spec.containers[c]", To: raw(`{"image":"z","name":"c"}`)},
			},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if same := diffParsed(t, a, a); !same.empty() {
		t.Errorf("an application differs from itself: %+v", same)
	}
}

// TestDiffFields compares lists as people read them: by the names of items, or by what both have
// in common.
func TestDiffFields(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, test := range []struct {
		name, a, b string
		want       []FieldChange
	}{
		{
			"an argument that was put in", `{"args":["-a","-b","-c"]}`, `{"args":["-z","-a","-b","-c"]}`,
			[]FieldChange{{Pointer: "/args/0", Path: "args[0]", To: raw(`"-z"`)}},
		},
		{
			"an argument that changed among others", `{"args":["-a","-b=1","-c"]}`, `{"args":["-a","-b=2","-c"]}`,
			[]FieldChange{{Pointer: "/args/1", Path: "args[1]", From: raw(`"-b=1"`), To: raw(`"-b=2"`)}},
		},
		{
			"arguments that went", `{"args":["-a","-b","-c"]}`, `{"args":["-c"]}`,
			[]FieldChange{
				{Pointer: "/args/0", Path: "args[0]", From: raw(`"-a"`)},
				{Pointer: "/args/1", Path: "args[1]", From: raw(`"-b"`)},
			},
		},
		{
			"a variable, by its name", `{"env":[{"name":"A","value":"1"},{"name":"B","value":"1"}]}`, `{"env":[{"name":"B","value":"2"},{"name":"A","value":"1"}]}`,
			[]FieldChange{{Pointer: "/env/1/value", Path: "env[B].value", From: raw(`"1"`), To: raw(`"2"`)}},
		},
		{
			"a port, by its number", `{"ports":[{"containerPort":80},{"containerPort":443}]}`, `{"ports":[{"containerPort":443,"protocol":"UDP"}]}`,
			[]FieldChange{
				{Pointer: "/ports/0", Path: "ports[80]", From: raw(`{"containerPort":80}`)},
				{Pointer: "/ports/1/protocol", Path: "ports[443].protocol", To: raw(`"UDP"`)},
			},
		},
		{
			"rules that nothing names, in their order", `{"rules":[{"verbs":["get"]},{"verbs":["list"]}]}`, `{"rules":[{"verbs":["list"]}]}`,
			[]FieldChange{{Pointer: "/rules/0", Path: "rules[0]", From: raw(`{"verbs":["get"]}`)}},
		},
		{
			"a key with dots and slashes", `{"labels":{"a.b/c":"1"}}`, `{"labels":{}}`,
			[]FieldChange{{Pointer: "/labels/a.b~1c", Path: "labels[a.b/c]", From: raw(`"1"`)}},
		},
		{
			"a container that was renamed", `{"containers":[{"name":"kubectl","image":"a:1","args":["1","2","3"],"env":"e","stdin":true,"tty":false,"x":1,"y":2}]}`,
			`{"containers":[{"name":"cli","image":"a:2","args":["1","2","3"],"env":"e","stdin":true,"tty":false,"x":1,"y":2}]}`,
			[]FieldChange{
				{Pointer: "/containers/0/image", Path: "containers[kubectl].image", From: raw(`"a:1"`), To: raw(`"a:2"`)},
				{Pointer: "/containers/0/name", Path: "containers[kubectl].name", From: raw(`"kubectl"`), To: raw(`"cli"`)},
			},
		},
		{
			"a container in place of another", `{"containers":[{"name":"a","image":"a:1"}]}`, `{"containers":[{"name":"b","image":"a:1"}]}`,
			[]FieldChange{
				{Pointer: "/containers/0", Path: "containers[a]", From: raw(`{"image":"a:1","name":"a"}`)},
				{Pointer: "/containers/0", Path: "containers[b]", To: raw(`{"image":"a:1","name":"b"}`)},
			},
		},
		{
			"a rule of a role, by what it is about", `{"rules":[{"resources":["pods","jobs","nodes"],"verbs":["get","list"]}]}`, `{"rules":[{"resources":["pods","jobs","nodes"],"verbs":["get"]},{"nonResourceURLs":["/x"],"verbs":["get"]}]}`,
			[]FieldChange{
				{Pointer: "/rules/0/verbs/1", Path: "rules[pods, jobs, …].verbs[1]", From: raw(`"list"`)},
				{Pointer: "/rules/1", Path: "rules[/x]", To: raw(`{"nonResourceURLs":["/x"],"verbs":["get"]}`)},
			},
		},
		{"null, which a cluster drops", `{"a":null,"b":1,"c":{"d":null}}`, `{"b":1,"c":{}}`, nil},
		{"a value that became null", `{"a":1}`, `{"a":null}`, []FieldChange{{Pointer: "/a", Path: "a", From: raw(`1`)}}},
		{"a list that became a map", `{"x":[]}`, `{"x":{}}`, []FieldChange{{Pointer: "/x", Path: "x", From: raw(`[]`), To: raw(`{}`)}}},
		{"nothing", `{"x":[[1],[2]]}`, `{"x":[[1],[2]]}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var a, b any
			if err := errors.Join(decodeJSON([]byte(test.a), &a), decodeJSON([]byte(test.b), &b)); err != nil {
				t.Fatal(err)
			}
			cells, room := maxCells, maxText
			got, err := diffFields(a, b, &cells, &room)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDiffMoved checks that an object in another namespace is the same object if that is
// unambiguous, and that values of a Secret are not shown.
func TestDiffMoved(t *testing.T) {
	object := func(namespace, name, value string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"namespace":%q,"name":%q},"data":{"password":%q}}`, namespace, name, value)
	}
	// It is ambiguous which of the new objects replaced the old one.
	got := diffParsed(t,
		parseObjects(t, object("dev", "one", "aaa"), object("dev", "two", "x")),
		parseObjects(t, object("prod", "one", "bbb"), object("prod", "two", "x"), object("test", "two", "x")))
	hidden := json.RawMessage(`"` + hiddenValue + `"`)
	want := ObjectsDiff{
		Added:   []ObjectKey{{Kind: "Secret", Namespace: "prod", Name: "two"}, {Kind: "Secret", Namespace: "test", Name: "two"}},
		Removed: []ObjectKey{{Kind: "Secret", Namespace: "dev", Name: "two"}},
		Changed: []ObjectChange{{
			ObjectKey: ObjectKey{Kind: "Secret", Namespace: "prod", Name: "one"},
			Fields: []FieldChange{
				{Pointer: "/data/password", Path: "data.password", From: hidden, To: hidden},
				{Pointer: "/metadata/namespace", Path: "metadata.namespace", From: json.RawMessage(`"dev"`), To: json.RawMessage(`"prod"`)},
			},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestDiffHidesCredentials checks that a value that looks like a credential is not shown if it
// changed, and does not count if it did not, wherever it is. In a longer text, the changed one is
// marked.
func TestDiffHidesCredentials(t *testing.T) {
	object := func(password string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","annotations":{"config":"user = me\npassword = %[1]s"}},
			"spec":{"containers":[{"name":"c","args":["--password","%[1]s"],"env":[{"name":"PASSWORD","value":"%[1]s"},{"name":"TOKEN","value":"$(T)"}]}],
			"url":"http://u:%[1]s@db","same":{"password":"hunter4"}}}`, password)
	}
	got := diffParsed(t, parseObjects(t, object("hunter2")), parseObjects(t, object("hunter3")))
	hidden := json.RawMessage(`"` + hiddenValue + `"`)
	change := func(pointer, path string) FieldChange {
		return FieldChange{Pointer: pointer, Path: path, From: hidden, To: hidden}
	}
	config := change("/metadata/annotations/config", "metadata.annotations.config")
	config.From = json.RawMessage(`"user = me\npassword = ` + hiddenValue + `"`)
	config.To = json.RawMessage(`"user = me\npassword = ` + changedValue + `"`)
	url := change("/spec/url", "spec.url")
	url.From = json.RawMessage(`"http://u:` + hiddenValue + `@db"`)
	url.To = json.RawMessage(`"http://u:` + changedValue + `@db"`)
	want := []FieldChange{
		config,
		change("/spec/containers/0/args/1", "spec.containers[c].args[1]"),
		change("/spec/containers/0/env/0/value", "spec.containers[c].env[PASSWORD].value"),
		url,
	}
	if len(got.Changed) != 1 {
		t.Fatalf("%+v", got)
	}
	if diff := cmp.Diff(want, got.Changed[0].Fields); diff != "" {
		t.Error(diff)
	}
}

// TestDiffImages checks that another version of an image is a change, if there is one before
// and one after.
func TestDiffImages(t *testing.T) {
	digestOf := func(s string) digest.Digest { return digest.FromString(s) }
	image := func(name string) artifact.ViewImage { return artifact.ViewImage{Name: name, Digest: digestOf(name)} }
	got := diffImages(
		[]artifact.ViewImage{image("a.io/web:1"), image("a.io:5000/db"), image("a.io/job:1"), image("a.io/job:2"), image("a.io/gone:1")},
		[]artifact.ViewImage{image("a.io/web:2"), image("a.io:5000/db:9"), image("a.io/job:3"), image("a.io/new:1")},
	)
	change := func(was, name string) ImageChange {
		return ImageChange{Name: name, Was: was, From: digestOf(was), To: digestOf(name)}
	}
	want := ImagesDiff{
		Added:   []DiffImage{{"a.io/job:3", digestOf("a.io/job:3")}, {"a.io/new:1", digestOf("a.io/new:1")}},
		Removed: []DiffImage{{"a.io/gone:1", digestOf("a.io/gone:1")}, {"a.io/job:1", digestOf("a.io/job:1")}, {"a.io/job:2", digestOf("a.io/job:2")}},
		Changed: []ImageChange{change("a.io/web:1", "a.io/web:2"), change("a.io:5000/db", "a.io:5000/db:9")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestDiffSources checks that options and rendered files that differ are listed.
func TestDiffSources(t *testing.T) {
	source := func(options, values string) artifact.ViewSource {
		return artifact.ViewSource{
			Name: "shop", Commit: "c", Interpreter: "helm 3.22.0", Options: json.RawMessage(options),
			Files: []vcs.File{{Path: "values.yaml", Digest: digest.FromString(values)}},
		}
	}
	got := diffSources(
		[]artifact.ViewSource{source(`{"namespace":"dev","release":"shop"}`, "a")},
		[]artifact.ViewSource{source(`{"namespace":"prod","release":"shop","values":["prod.yaml"]}`, "b")},
	)
	want := SourceDiff{Changed: []SourceChange{
		{"shop", "options.namespace", `"dev"`, `"prod"`},
		{"shop", "file values.yaml", digest.FromString("a").String(), digest.FromString("b").String()},
		{"shop", "options.values", "", `["prod.yaml"]`},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Values are equal however they are written; values that JSON cannot represent are kept as they
// are.
func TestDiffSpellings(t *testing.T) {
	const same = "kind: A\na: 16\nb: [1.5, true, null, .inf]\nc: 2020-01-01\n"
	for _, other := range []string{
		"# a comment\nkind: 'A'\nc: \"2020-01-01\"\na: 0x10\nb:\n- 15e-1\n- true\n-\n- .inf\n",
		"\xff\xfe" + strings.Join(strings.Split(same, ""), "\x00") + "\x00",
		"kind: List\nitems:\n- {b: [1.5, true, ~, .inf], c: 2020-01-01, a: 16, kind: A}\n",
	} {
		if d := diffParsed(t, parseObjects(t, same), parseObjects(t, other)); !d.empty() {
			t.Errorf("%q differs: %+v", other, d)
		}
	}
	got := diffParsed(t, parseObjects(t, same), parseObjects(t, strings.Replace(same, ".inf", "-.inf", 1)))
	want := []FieldChange{{Pointer: "/b/3", Path: "b[3]", From: json.RawMessage(`".inf"`), To: json.RawMessage(`"-.inf"`)}}
	if len(got.Changed) != 1 || cmp.Diff(want, got.Changed[0].Fields) != "" {
		t.Errorf("changed: %+v", got.Changed)
	}
}

// Many objects of one key take a step each, and lists that are mostly equal need no tables.
func TestDiffBounds(t *testing.T) {
	const n = 10_000
	many := parseObjects(t, strings.Repeat("---\nkind: A\nmetadata: {name: x}\n", n))
	if len(many) != n {
		t.Errorf("%d objects", len(many))
	}
	last := ObjectKey{Kind: "A", Name: fmt.Sprintf("x#%d", n)}
	if many[last] == nil {
		t.Errorf("no object %s", last)
	}

	long := make([]any, 1000)
	for i := range long {
		long[i] = fmt.Sprint(i)
	}
	changed := slices.Clone(long)
	changed[500] = "other"
	for _, test := range []struct {
		name  string
		b     any
		cells int
	}{{"equal", slices.Clone(long), 0}, {"one item", changed, 1}, {"one more", append(slices.Clone(long), "end"), 0}} {
		cells, room := maxCells, maxText
		if _, err := diffFields(long, test.b, &cells, &room); err != nil {
			t.Fatal(err)
		}
		if used := maxCells - cells; used != test.cells {
			t.Errorf("%s: the tables have %d cells, not %d", test.name, used, test.cells)
		}
	}

	// Aliases repeat a value that is written once.
	repeated := "kind: A\na: &a " + strings.Repeat("x", 1000) + "\nb: [" + strings.Repeat("*a,", 8) + "]\n"
	found := newObjects(func(_ ObjectKey, n *manifests.Node) error { return writeJSON(&limited{room: 8000}, n) })
	if err := found.file(files.File{Name: "a.yaml", Data: []byte(repeated)}); err == nil || !strings.HasPrefix(err.Error(), "a.yaml: the objects that differ have more than 64 MiB") {
		t.Errorf("error %v", err)
	}
	found = newObjects(func(ObjectKey, *manifests.Node) error { return nil })
	found.room = 10
	if err := found.file(files.File{Name: "a.yaml", Data: []byte("kind: A\nmetadata: {name: longer than that}\n")}); err == nil || !strings.HasPrefix(err.Error(), "a.yaml: the names of the objects") {
		t.Errorf("error %v", err)
	}

	// Long keys above many values that differ.
	cells, room := maxCells, maxText
	key := strings.Repeat("k", 1<<20)
	of := func(value string) any {
		below := map[string]any{}
		for i := range 100 {
			below[fmt.Sprint(i)] = value
		}
		return map[string]any{key: below}
	}
	if _, err := diffFields(of("a"), of("b"), &cells, &room); !errors.Is(err, errTooMuch) {
		t.Errorf("error %v", err)
	}
}
