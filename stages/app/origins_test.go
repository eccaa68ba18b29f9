// SPDX-License-Identifier: Apache-2.0

package app

import (
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/images"
)

func TestRename(t *testing.T) {
	files := map[string]images.Source{
		"a.yaml":          {Origin: "src/a.yaml", OriginLine: -1},
		"b.yaml":          {Origin: "src/base/b.yaml"},
		"b.yaml, c.yaml":  {Origin: "src/b.yaml, c.yaml", OriginLine: -1},
		"made.yaml":       {Origin: "src/"},
		"with space.yaml": {Origin: "src/with space.yaml", OriginLine: -1},
		"é.yaml":          {Origin: "src/é.yaml", OriginLine: -1},
	}
	first, looked := words{}, 0
	for name := range files {
		first.add(name)
	}
	from := func(name string, line int) (images.Source, bool) {
		looked++
		s, ok := files[name]
		if s.OriginLine < 0 {
			s.OriginLine = line
		}
		return s, ok
	}
	for text, want := range map[string]string{
		"":                       "",
		"no file":                "no file",
		"a.yaml":                 "src/a.yaml",
		"a.yaml: wrong":          "src/a.yaml: wrong",
		"a.yaml:3: wrong":        "src/a.yaml:3: wrong",
		"a.yaml:3:14: wrong":     "src/a.yaml:3:14: wrong",
		"image x:1 (a.yaml:3:5)": "image x:1 (src/a.yaml:3:5)",
		"x (a.yaml:3:5, b.yaml:7:16 and 2 more): y": "x (src/a.yaml:3:5, src/base/b.yaml (rendered: b.yaml:7:16) and 2 more): y",
		"b.yaml: wrong":                  "src/base/b.yaml: wrong",
		"made.yaml:1: wrong":             "src/ (rendered: made.yaml:1): wrong",
		"made.yaml: wrong":               "src/ (rendered: made.yaml): wrong",
		"with space.yaml:2 is left out":  "src/with space.yaml:2 is left out",
		"b.yaml, c.yaml:2: the longest":  "src/b.yaml, c.yaml:2: the longest",
		"é.yaml:1:2: a; é.yaml:3: b":     "src/é.yaml:1:2: a; src/é.yaml:3: b",
		"cannot read \"a.yaml\"":         "cannot read \"src/a.yaml\"",
		"another's/a.yaml:1 and ba.yaml": "another's/a.yaml:1 and ba.yaml",
		"a.yaml.bak: a.yamls":            "a.yaml.bak: a.yamls",
		"a.yaml:0 a.yaml:x a.yaml:":      "src/a.yaml:0 src/a.yaml:x src/a.yaml:",
		"a.yaml:99999999999999999999:1":  "src/a.yaml:99999999999999999999:1",
	} {
		if got := rename(text, first, from); got != want {
			t.Errorf("%q\ngot  %q\nwant %q", text, got, want)
		}
	}
	// Output of templates is often long: few words are looked up, and only the beginning is searched.
	long, rest := strings.Repeat("a: ", maxMessage/3), strings.Repeat("x ", maxMessage/2)+"a.yaml"
	for text, want := range map[string]string{long: long, "a.yaml: " + rest: "src/a.yaml: " + rest} {
		looked = 0
		if got := rename(text, first, from); got != want || looked > 2 {
			t.Errorf("%.10q… is changed to %.14q…, after %d looks for a name", text, got, looked)
		}
	}
}
