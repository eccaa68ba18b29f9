// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/stages/app"
)

func quote(s string) json.RawMessage {
	data, _ := json.Marshal(s)
	return data
}

// TestDiffMarkdown writes a diff whose values try to break out of the Markdown around them.
func TestDiffMarkdown(t *testing.T) {
	key := app.ObjectKey{Group: "apps", Kind: "Deployment", Name: "web"}
	d := &app.DiffResult{
		Matters: []app.Matter{{What: app.Access, Object: &key, Text: "mounts /<b>`x`|*y* of its node"}},
		Objects: app.ObjectsDiff{Changed: []app.ObjectChange{{ObjectKey: key, Fields: []app.FieldChange{
			{Path: "spec.replicas", From: json.RawMessage("1"), To: json.RawMessage("null")},
			{Path: "a`b", From: quote("x`</details>"), To: quote("``")},
			{Path: "data", From: quote("one\ntwo\nthree\n"), To: quote("one\n```\nthree\n")},
			{Path: "gone", From: quote(strings.Repeat("ab", 32))},
		}}}},
	}
	var b strings.Builder
	if err := DiffMarkdown(&b, d, Sides{"old", "./new"}); err != nil {
		t.Fatal(err)
	}
	want := "### What changes from `old` to `./new`\n\n1 object changed.\n\n" +
		"**Access to the node**\n- `Deployment web` mounts /&lt;b&gt;\\`x\\`\\|\\*y\\* of its node\n\n" +
		"<details><summary>Deployment web: 4 fields</summary>\n\n" +
		"- `spec.replicas`: `1` → `null`\n" +
		"- ``a`b``: ``x`</details>`` → ``` `` ```\n" +
		"- `data`\n  ````diff\n   one\n  -two\n  +```\n   three\n  ````\n" +
		"- `gone`: ~~`abababababab…`~~ is gone\n\n</details>\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// TestDiffFits checks that the largest diff fits into a comment, and that the page contains all
// of it.
func TestDiffFits(t *testing.T) {
	d := &app.DiffResult{}
	for i := range 3000 {
		key := app.ObjectKey{Kind: "ConfigMap", Name: fmt.Sprintf("c%d", i)}
		d.Matters = append(d.Matters, app.Matter{What: app.Removed, Object: &key, Text: "is gone"})
		d.Objects.Changed = append(d.Objects.Changed, app.ObjectChange{ObjectKey: key, Fields: []app.FieldChange{
			{Path: "data.x", From: quote(fmt.Sprint(i)), To: quote(strings.Repeat("<script>", 20))},
			{Path: "metadata.labels.version", From: quote("1"), To: quote("2")},
		}})
	}
	var b strings.Builder
	if err := DiffMarkdown(&b, d, Sides{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if len(text) > 65536 {
		t.Errorf("%d bytes", len(text))
	}
	for _, want := range []string{"`ConfigMap c19` and 2980 more\n", "`metadata.labels.version` in 3000 objects: `1` → `2`", "sections not shown"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if open, closed := strings.Count(text, "<details>"), strings.Count(text, "</details>"); open != closed || open < 10 {
		t.Errorf("%d details, %d ends", open, closed)
	}
	b.Reset()
	if err := DiffPage(&b, d, Sides{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "<details>"); n != 3001 {
		t.Errorf("%d sections in the page", n)
	}
	if n := strings.Count(b.String(), "<script>"); n != 1 {
		t.Errorf("%d scripts in the page", n)
	}
}

// TestDiffReads compares the rendered texts of changes that real charts make.
func TestDiffReads(t *testing.T) {
	image := func(tag, digit string) string {
		return "registry.example.com/team/shop:web." + tag + "@sha256:" + strings.Repeat(digit, 64)
	}
	object := func(kind, name string, fields ...app.FieldChange) app.ObjectChange {
		fields = append(fields, app.FieldChange{Path: "metadata.labels[helm.sh/chart]", From: quote("web-1"), To: quote("web-2")})
		return app.ObjectChange{ObjectKey: app.ObjectKey{Kind: kind, Name: name}, Fields: fields}
	}
	sum := func(digit string) json.RawMessage { return quote(strings.Repeat(digit, 64)) }
	crd := "spec.versions[%s].schema.openAPIV3Schema.properties.spec.properties.%s"
	schema := json.RawMessage(`{"description":"of a field","type":"object","properties":{"x":{"type":"string"}}}`)
	d := &app.DiffResult{
		Matters: []app.Matter{
			{What: app.Version, Image: "a.io/web:2", Text: "was 1, and is 2"},
			{What: app.Version, Image: "a.io/worker:2", Text: "was 1, and is 2"},
		},
		Images: app.ImagesDiff{Changed: []app.ImageChange{{Name: "a.io/web:2", Was: "a.io/web:1", From: digest.Digest("sha256:" + strings.Repeat("1", 64)), To: digest.Digest("sha256:" + strings.Repeat("2", 64))}}},
		Objects: app.ObjectsDiff{Changed: []app.ObjectChange{
			object("Service", "web"),
			object("Secret", "web", app.FieldChange{Path: "data.password", From: quote("(hidden)"), To: quote("(hidden)")}),
			object("Deployment", "web",
				app.FieldChange{Path: "spec.template.metadata.annotations.checksum/config", From: sum("a"), To: sum("b")},
				app.FieldChange{Path: "spec.template.metadata.annotations.checksum/secret", From: sum("c"), To: sum("d")},
				app.FieldChange{Path: "spec.template.metadata.labels[helm.sh/chart]", From: quote("web-1"), To: quote("web-2")},
				app.FieldChange{Path: "spec.containers[web].image", From: quote(image("1", "1")), To: quote(image("2", "2"))},
				app.FieldChange{Path: "spec.containers[web].args[0]", From: quote("--old")},
				app.FieldChange{Path: "spec.containers[web].args[3]", To: quote("--new")},
				app.FieldChange{Path: "spec.containers[web].args[4]", To: quote("--more")},
				app.FieldChange{Path: "spec.containers[web].env[LIST].value", From: quote("aaa," + strings.Repeat("b,c,d,", 30) + "e"), To: quote("aaa," + strings.Repeat("b,c,d,", 30) + "f")},
				app.FieldChange{Path: "spec.containers[more]", To: json.RawMessage(`{"name":"more","command":["sh","-c","a && b"],"image":"` + image("2", "2") + `"}`)},
			),
			object("CustomResourceDefinition", "a.ex.io",
				app.FieldChange{Path: fmt.Sprintf(crd, "v1", "a"), To: schema}, app.FieldChange{Path: fmt.Sprintf(crd, "v2", "a"), To: schema},
				app.FieldChange{Path: fmt.Sprintf(crd, "v1", "b.maxLength"), From: json.RawMessage("9")}),
			object("CustomResourceDefinition", "b.ex.io", app.FieldChange{Path: fmt.Sprintf(crd, "v1", "a.description"), From: quote("x"), To: quote("y")}),
		}},
		Source: app.SourceDiff{Changed: []app.SourceChange{{Fact: "file a.yaml", From: "sha256:1", To: "sha256:2"}, {Fact: "file b.yaml", From: "sha256:1", To: "sha256:2"}, {Fact: "file c.yaml", To: "sha256:2"}}},
	}
	var b strings.Builder
	if err := DiffMarkdown(&b, d, Sides{"old", "./new"}); err != nil {
		t.Fatal(err)
	}
	const want = "### What changes from `old` to `./new`\n\n5 objects changed, 1 image changed.\n\n" +
		"**Version**\n- each was 1, and is 2: `a.io/web:2`, `a.io/worker:2`\n\n" +
		"<details><summary>Versions, checksums, and what changed the same way in several objects; 1 object has no other change</summary>\n\n" +
		"- `metadata.labels[helm.sh/chart]` in 5 objects: `web-1` → `web-2`\n" +
		"- `checksums` in Deployment web: what its pods read at their start changed, so they start anew\n\n</details>\n\n" +
		"<details><summary>Secret web: 1 field</summary>\n\n- `data.password` has another value, which is not shown\n\n</details>\n\n" +
		"<details><summary>Deployment web: 4 fields</summary>\n\n" +
		"- `spec.containers[web].image`: `a.io/web:1` → `a.io/web:2`\n" +
		"- `spec.containers[web].args`\n  ```diff\n  ---old\n  +--new\n  +--more\n  ```\n" +
		"- `spec.containers[web].env[LIST].value` in the list of 92 values: `e` → `f`\n" +
		"- `spec.containers[more]`\n  ```diff\n  +name: more\n  +command:\n  +  - sh\n  +  - -c\n  +  - a && b\n  +image: a.io/web:2\n  ```\n\n</details>\n\n" +
		"<details><summary>CustomResourceDefinition a.ex.io: fields 1 gone, 1 new</summary>\n\n" +
		"- `spec.versions[v1].spec.b.maxLength`: ~~`9`~~ is gone\n- `spec.versions[v1, v2].spec.a` is new\n\n</details>\n\n" +
		"<details><summary>1 CustomResourceDefinition of which only descriptions changed</summary>\n\n- `b.ex.io`\n\n</details>\n\n" +
		"<details><summary>Origin</summary>\n\n- `files` 2 changed: a.yaml, b.yaml\n- `files` 1 new: c.yaml\n\n</details>\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	if err := DiffText(&b, d, 0); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"! version: each was 1, and is 2:\n    a.io/web:2\n    a.io/worker:2\n\n",
		"\n~ source files 2 changed: a.yaml, b.yaml\n",
		"\n    ~ metadata.labels[helm.sh/chart] in 5 objects: web-1 → web-2\n",
		"\n~ Deployment web\n    ~ spec.containers[web].image: a.io/web:1 → a.io/web:2\n    ~ spec.containers[web].args\n        - --old\n        + --new\n",
		"\n    - spec.versions[v1].spec.b.maxLength: 9\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestDiffTellsOnce checks that what several objects, or several places of a schema, have in
// common is reported once, and that long values are shortened.
func TestDiffTellsOnce(t *testing.T) {
	object := func(group, kind, name string, fields ...app.FieldChange) app.ObjectChange {
		return app.ObjectChange{ObjectKey: app.ObjectKey{Group: group, Kind: kind, Name: name}, Fields: fields}
	}
	stateful := func(name, container string) app.ObjectChange {
		return object("apps", "StatefulSet", name,
			app.FieldChange{Path: "spec.template.spec.containers[" + container + "].image", From: quote("a.io/db:1"), To: quote("a.io/db:2")},
			app.FieldChange{Path: "spec.args[0]", From: quote("-c"), To: quote("-ec")})
	}
	var fields []app.FieldChange
	for _, at := range []string{"spec.properties.a", "spec.properties.b.items.properties.c", "status"} {
		schema := "spec.versions[v1].schema.openAPIV3Schema.properties." + at + ".properties.template.properties."
		fields = append(fields,
			app.FieldChange{Path: schema + "mode.enum[2]", To: quote("x")}, app.FieldChange{Path: schema + "mode.enum[3]", To: quote("y")},
			app.FieldChange{Path: schema + "retry", To: json.RawMessage(`{"type":"object","description":"of ` + at + ` and a bit more text","properties":{"n":{"type":"integer"}}}`)})
	}
	fields = append(fields, app.FieldChange{Path: "spec.versions[v1].schema.openAPIV3Schema.properties.spec.properties.d.minimum", To: json.RawMessage("1")},
		app.FieldChange{Path: "spec.versions[v1].schema.openAPIV3Schema.properties.spec.properties.e.minimum", To: json.RawMessage("1")})
	for _, at := range []string{"f", "g", "h"} {
		fields = append(fields, app.FieldChange{Path: "spec.versions[v1].schema.openAPIV3Schema.properties." + at + ".x-kubernetes-list-type", To: quote("atomic")})
	}
	long := func(end string) json.RawMessage {
		return quote(strings.Repeat("A", 3000) + end + strings.Repeat("B", 3000))
	}
	group := "apiextensions.k8s.io"
	d := &app.DiffResult{
		Matters: []app.Matter{{What: app.Removed, Object: &app.ObjectKey{Kind: "Service", Name: "old"}, Text: "is gone"}},
		Objects: app.ObjectsDiff{
			Removed: []app.ObjectKey{{Kind: "Service", Name: "old"}},
			Changed: []app.ObjectChange{
				stateful("db-0", "db"), stateful("db-1", "database"),
				object("", "ConfigMap", "c",
					app.FieldChange{Path: "data.ca", From: long("x"), To: long("y")},
					app.FieldChange{Path: "data.key", To: long("z")},
					app.FieldChange{Path: "data.rule", From: quote("[" + strings.Repeat("has(a), ", 12) + "has(b)].all()"), To: quote("[" + strings.Repeat("has(a), ", 12) + "has(c)].all()")},
					app.FieldChange{Path: "data.json", From: quote(`{"first": ["a", "b", "c"], "second": {"third": "a value that is long enough"}}`), To: quote(`{"first": ["a", "b", "c"], "second": {"third": "another value that is long enough"}}`)}),
				object(group, definition, "a.ex.io", fields...), object(group, definition, "b.ex.io", fields...),
			},
		},
		Source: app.SourceDiff{Changed: []app.SourceChange{
			{Source: "dev/web", Fact: "file a.yaml", From: "1", To: "2"}, {Source: "dev/web", Fact: "file b.yaml", To: "2"},
			{Source: "prod/web", Fact: "file a.yaml", From: "1", To: "2"}, {Source: "prod/web", Fact: "file c.yaml", To: "2"},
		}},
	}
	var b strings.Builder
	if err := DiffMarkdown(&b, d, Sides{"old", "new"}); err != nil {
		t.Fatal(err)
	}
	want := "### What changes from `old` to `new`\n\n5 objects changed, 1 object removed.\n\n**Removed**\n- `Service old` is gone\n\n" +
		"<details><summary>Versions, checksums, and what changed the same way in several objects</summary>\n\n" +
		"- `image` in StatefulSet db-0, StatefulSet db-1: `a.io/db:1` → `a.io/db:2`\n\n</details>\n\n" +
		"<details><summary>StatefulSet db-0, StatefulSet db-1: 1 field</summary>\n\n- `spec.args`: `-c` → `-ec`\n\n</details>\n\n" +
		"<details><summary>ConfigMap c: 4 fields</summary>\n\n" +
		"- `data.ca`\n  ```diff\n  -…" + strings.Repeat("A", 20) + "x" + strings.Repeat("B", 279) + "… (6001 characters)\n  +…" + strings.Repeat("A", 20) + "y" + strings.Repeat("B", 279) + "… (6001 characters)\n  ```\n" +
		"- `data.key`\n  ```diff\n  +" + strings.Repeat("A", 300) + "… (6001 characters)\n  ```\n" +
		"- `data.rule`\n  ```diff\n  -[" + strings.Repeat("has(a), ", 12) + "has(b)].all()\n  +[" + strings.Repeat("has(a), ", 12) + "has(c)].all()\n  ```\n" +
		"- `data.json`\n  ```diff\n   second:\n  -  third: a value that is long enough\n  +  third: another value that is long enough\n  ```\n\n</details>\n\n" +
		"<details><summary>CustomResourceDefinition a.ex.io, CustomResourceDefinition b.ex.io: fields 11 new</summary>\n\n" +
		"- `…template.mode.enum` in 3 places: new, `x`, `y`\n- `…template.retry` in 3 places is new\n" +
		"- `spec.versions[v1].spec.d.minimum`: new, `1`\n- `spec.versions[v1].spec.e.minimum`: new, `1`\n- `…x-kubernetes-list-type` in 3 places: new, `atomic`\n\n</details>\n\n" +
		"<details><summary>Origin</summary>\n\n- `dev/web, prod/web files` 1 changed: a.yaml\n- `dev/web files` 1 new: b.yaml\n- `prod/web files` 1 new: c.yaml\n\n</details>\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// TestDiffForged uses names that contain lines of a diff. They must stay on the line of the name.
func TestDiffForged(t *testing.T) {
	const forged = "x\n! removed: forged"
	key := app.ObjectKey{Kind: "Secret\n- Forged", Namespace: forged, Name: forged}
	d := &app.DiffResult{
		Matters: []app.Matter{{What: app.Removed, Object: &key, Text: "is gone"}},
		Objects: app.ObjectsDiff{
			Added: []app.ObjectKey{key}, Removed: []app.ObjectKey{key},
			Changed: []app.ObjectChange{{ObjectKey: key, Fields: []app.FieldChange{{Path: "data[" + forged + "]", From: []byte(`"a"`), To: []byte(`"b\n~ forged"`)}}}},
		},
	}
	var b strings.Builder
	if err := DiffText(&b, d, 0); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "! removed: forged") || strings.HasPrefix(line, "- Forged") || strings.HasPrefix(line, "~ forged") {
			t.Errorf("a line is forged:\n%s", b.String())
		}
	}
	if !strings.Contains(b.String(), `x\n! removed: forged`) {
		t.Errorf("no name:\n%s", b.String())
	}
}
