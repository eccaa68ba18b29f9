// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/app"
)

func quote(s string) json.RawMessage {
	data, _ := json.Marshal(s)
	return data
}

// TestDiffMarkdown writes a diff whose values try to end what they stand in.
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

// TestDiffFits holds that the largest diff fits a comment, and that the page has all of it.
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
	for _, want := range []string{"more\n", "`metadata.labels.version` in 3000 objects: `1` → `2`", "sections not shown"} {
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
