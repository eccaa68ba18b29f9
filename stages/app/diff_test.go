// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/vcs"
)

func TestDiffObjects(t *testing.T) {
	parse := func(docs ...string) *objectSet {
		t.Helper()
		out := newObjectSet(maxValues)
		for _, d := range docs {
			var m map[string]any
			if err := json.Unmarshal([]byte(d), &m); err != nil {
				t.Fatal(err)
			}
			out.add(m)
		}
		return out
	}
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	a := parse(
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":1,"containers":[{"name":"a","image":"x:1"},{"name":"b","image":"y:1"}]}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
	)
	b := parse(
		`{"apiVersion":"apps/v1beta1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":1,"containers":[{"name":"b","image":"y:1"},{"name":"c","image":"z"},{"name":"a","image":"x:2"}]}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"api"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
	)
	got, err := diffObjects(a, b)
	if err != nil {
		t.Fatal(err)
	}
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
	same, err := diffObjects(a, a)
	if err != nil || !same.empty() {
		t.Errorf("an application differs from itself: %+v, %v", same, err)
	}
}

// TestDiffFields compares lists as people read them: by what names their items,
// or else by what both have in common.
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
		{"a list that became a map", `{"x":[]}`, `{"x":{}}`, []FieldChange{{Pointer: "/x", Path: "x", From: raw(`[]`), To: raw(`{}`)}}},
		{"nothing", `{"x":[[1],[2]]}`, `{"x":[[1],[2]]}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var a, b any
			if err := errors.Join(json.Unmarshal([]byte(test.a), &a), json.Unmarshal([]byte(test.b), &b)); err != nil {
				t.Fatal(err)
			}
			cells := maxCells
			got, err := diffFields(a, b, &cells)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDiffMoved holds that an object in another namespace is the same object,
// where there is no doubt which, and that what a Secret holds is not shown.
func TestDiffMoved(t *testing.T) {
	object := func(namespace, name, value string) map[string]any {
		return map[string]any{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"namespace": namespace, "name": name},
			"data": map[string]any{"password": value},
		}
	}
	a, b := newObjectSet(maxValues), newObjectSet(maxValues)
	a.add(object("dev", "one", "aaa"))
	b.add(object("prod", "one", "bbb"))
	// Of these, nothing tells which of two the one before became.
	a.add(object("dev", "two", "x"))
	b.add(object("prod", "two", "x"))
	b.add(object("test", "two", "x"))
	got, err := diffObjects(a, b)
	if err != nil {
		t.Fatal(err)
	}
	hidden := json.RawMessage(`"` + Hidden + `"`)
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

// TestDiffImages holds that another version of an image is a change, where there
// is one before and one after.
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

// TestDiffSources holds that options and rendered files that differ are named.
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

// Many objects of one key take a step each, and values that aliases make are bounded.
func TestDiffBounds(t *testing.T) {
	many := newObjectSet(maxValues)
	const n = 10_000
	if err := many.addFile(files.File{Name: "a.yaml", Data: []byte(strings.Repeat("---\nkind: A\nmetadata: {name: x}\n", n))}); err != nil {
		t.Fatal(err)
	}
	if len(many.byKey) != n {
		t.Errorf("%d objects", len(many.byKey))
	}
	last := ObjectKey{Kind: "A", Name: fmt.Sprintf("x#%d", n)}
	if many.byKey[last] == nil {
		t.Errorf("no object %s", last)
	}
	err := newObjectSet(1000).addFile(files.File{Name: "a.yaml", Data: []byte("kind: A\na: [" + strings.Repeat("1,", 1000) + "1]\n")})
	if err == nil || !strings.Contains(err.Error(), "a.yaml: the manifests up to here have more than 2097152 values") {
		t.Errorf("error %v", err)
	}
}
