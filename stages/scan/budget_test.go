// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// The limits of a document are not multiplied by the number of documents.
func TestBudget(t *testing.T) {
	grown := "---\napiVersion: x.io/v1\nkind: X\na: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
	many := strings.Repeat(grown, 120)
	embedded := "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    # image\n" + strings.ReplaceAll("    "+strings.TrimPrefix(grown, "---\n"), "\n", "\n    ")
	key := strings.Repeat("k", 1<<20)
	for _, c := range []struct {
		name, reason string
		in           []string
	}{
		{"growth of documents", "aliases and merge keys", []string{many}},
		{"growth of files", "aliases and merge keys", strings.SplitAfter(many, "---\n")[1:]},
		{"growth of documents in strings", "aliases and merge keys", []string{strings.Repeat("---\n"+embedded+"\n", 120)}},
		{"a long key above images", "the places of the images", []string{"apiVersion: x.io/v1\nkind: X\n? " + key + "\n: [" + strings.Repeat("{image: a/b:1},", 70) + "]\n"}},
		{"a long key above a split image", "the places of the images", []string{"apiVersion: x.io/v1\nkind: X\n? " + key + "\n: [" + strings.Repeat("{image: {repository: a/b, tag: v1}},", 40) + "]\n"}},
		{"a long key above placeholders", "the places of the images", []string{"apiVersion: x.io/v1\nkind: X\n? " + key + "\n: [" + strings.Repeat("{image: $(X)},", 70) + "]\n"}},
		{"a long name of images", "the places of the images", []string{"apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + key + "\nspec: {containers: [" + strings.Repeat("{image: a/b:1},", 70) + "]}\n"}},
		{"a long kind of items", "the places of the images", []string{"apiVersion: x.io/v1\nkind: " + key + "List\nitems: [" + strings.Repeat("{},", 70) + "]\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stage, err := New(Config{})
			if err != nil {
				t.Fatal(err)
			}
			var in []files.File
			for i, text := range c.in {
				in = append(in, files.File{Name: fmt.Sprintf("%d.yaml", i), Data: []byte(text)})
			}
			if _, err := stage.Scan(t.Context(), in); err == nil || !strings.Contains(err.Error(), c.reason) || !named(c.in).MatchString(err.Error()) {
				t.Errorf("Scan: %v", err)
			}
			if err := stage.ScanEach(t.Context(), in, func(*images.Report) {}); err == nil || !strings.Contains(err.Error(), c.reason) || !named(c.in).MatchString(err.Error()) {
				t.Errorf("ScanEach: %v", err)
			}
		})
	}
}

// named matches an error that names a file and, of several, not the first.
func named(in []string) *regexp.Regexp {
	if len(in) == 1 {
		return regexp.MustCompile(`^0\.yaml: with those of this file, `)
	}
	return regexp.MustCompile(`^[1-9]\d*\.yaml: with those of this file, `)
}

// Documents with the maximum number of values are not parsed concurrently.
func TestBudgetOfMemory(t *testing.T) {
	b := newBudget(nil)
	large := manifests.Open("x.yaml", []byte("a: ["+strings.Repeat("1,", manifests.MaxValues)+"]"))
	err := b.parse(t.Context(), large.Text.Split(), func() {
		if b.parsing.TryAcquire(1) {
			t.Error("there is memory for another one")
		}
	})
	if err != nil || !b.parsing.TryAcquire(manifests.MaxValues) {
		t.Errorf("parse: %v, or the memory is not given back", err)
	}
}

// Scanning allocates memory in proportion to its input, not to its square.
func TestScanIsLinear(t *testing.T) {
	for _, c := range []struct {
		name string
		in   func(n int) string
	}{
		{"keys that may complete each other", func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "  a%d-image: x/y\n", i)
			}
			return "apiVersion: v1\nkind: ConfigMap\ndata:\n" + b.String()
		}},
		{"variables that may complete each other", func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "  - {name: A%d_IMAGE, value: x/y}\n", i)
			}
			return "apiVersion: x.io/v1\nkind: X\nenv:\n" + b.String()
		}},
		{"pipelines in pipelines", func(n int) string {
			open := `{"apiVersion":"tekton.dev/v1","kind":"Task","p":"params.x","s":{"apiVersion":"argoproj.io/v1","kind":"X","p":"params.x","s":{"apiVersion":"x.io/v1","kind":"X","s":`
			return strings.Repeat(open, n/20) + "{}" + strings.Repeat("}}}", n/20)
		}},
		{"images that are spoken of", func(n int) string {
			return "apiVersion: x.io/v1\nkind: X\nspec:\n  outputImage: \"" + strings.Repeat("\\x78.io/a:1 ", n) + "\"\n"
		}},
		{"images that are filled in", func(n int) string {
			return "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: \"IMAGE_TAG=$X\\n" + strings.Repeat("IMAGE=\\x78.io/a\\n", n) + "\"\n"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			allocated := func(n int) uint64 {
				in := c.in(n)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				scan(t, Config{}, "f.yaml", in)
				runtime.ReadMemStats(&after)
				return after.TotalAlloc - before.TotalAlloc
			}
			allocated(1) // what is made once
			if few, many := allocated(500), allocated(4000); many > 16*few {
				t.Errorf("eight times as much allocates %d bytes instead of %d", many, few)
			}
		})
	}
}

// A position in a path is visited once, however many ways lead to it.
func TestPlaces(t *testing.T) {
	c := newCatalogue([]Field{{Groups: []string{"x.io"}, Kinds: []string{"X"}, Paths: []string{"/**/**/**/**/x"}}})
	places := c.begin("x.io", "X")
	for range 100 {
		places = enter(places, "a")
	}
	if len(places) != 5 {
		t.Errorf("%d places of a path of 5 keys", len(places))
	}
}

func TestFieldLimits(t *testing.T) {
	kinds := []string{"X"}
	for _, c := range []struct {
		name, reason string
		fields       []Field
	}{
		{"any depth", "has ** more than 4 times", []Field{{Kinds: kinds, Paths: []string{"/**/**/**/**/**/x"}}}},
		{"a long path", "more than 64 keys", []Field{{Kinds: kinds, Paths: []string{strings.Repeat("/a", 65)}}}},
		{"many paths", "more than 1024 keys", []Field{{Kinds: kinds, Paths: strings.Fields(strings.Repeat("/x ", 600))}}},
		{"many conditions", "more than 1024 keys", []Field{{Kinds: kinds, Paths: []string{"/x"}, When: map[string]string{"a": strings.Repeat("|", 1100)}}}},
		{"long ones", "or 64 KiB of them", []Field{{Kinds: kinds, Paths: []string{"/x"}, Reason: strings.Repeat("x", 70<<10)}}},
	} {
		if _, err := New(Config{Fields: c.fields}); err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Image fields cost as much as they are compared, and an error names the file that exceeded the
// limit.
func TestBudgetOfLooks(t *testing.T) {
	for _, c := range []struct {
		name  string
		field Field
		looks int64
	}{
		{"paths", Field{Paths: []string{"/**/a/x", "/**/a/y", "/**/a/z"}}, 300},
		{"conditions", Field{Paths: []string{"/**"}, When: map[string]string{"a": strings.Repeat("x|", 50)}}, 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.field.Groups, c.field.Kinds = []string{"x.io"}, []string{"X"}
			stage, err := New(Config{Fields: []Field{c.field}})
			if err != nil {
				t.Fatal(err)
			}
			in := []files.File{{Name: "a.yaml", Data: []byte("apiVersion: x.io/v1\nkind: X\na: [" + strings.Repeat("{a: b},", 100) + "]\n")}}
			b := newBudget(in)
			if _, err := stage.scan(t.Context(), in, b); err != nil {
				t.Error(err)
			}
			if used := maxLooks - b.looks.left.Load(); used < c.looks {
				t.Errorf("%d looks, less than %d", used, c.looks)
			}
			b.looks.left.Store(c.looks)
			if _, err := stage.scan(t.Context(), in, b); err == nil || !strings.HasPrefix(err.Error(), "a.yaml: with those of this file, the values of the manifests are compared with the image fields") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Documents with large texts take turns, whatever they contain.
func TestWeight(t *testing.T) {
	long := strings.Repeat("x", 32<<20)
	for _, text := range []string{"#" + long, "a: " + long, "a: |\n" + long} {
		if got := weight([]*manifests.Text{manifests.Open("a.yaml", []byte(text)).Text}); got < manifests.MaxValues {
			t.Errorf("%.10q… weighs %d, less than %d", text, got, manifests.MaxValues)
		}
	}
}
