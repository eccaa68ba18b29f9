// SPDX-License-Identifier: Apache-2.0

package pin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/provider"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/scan"
)

// readers are the deployers of content. Each is represented by its parser, and returns
// the objects that it sends to an API server.
var readers = []struct {
	name string
	read func(data []byte) ([]map[string]any, error)
}{
	{"kubectl", kubectl}, // and Argo CD
	{"kustomize", kustomize},
}

func kubectl(data []byte) (objects []map[string]any, err error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var raw runtime.RawExtension
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return objects, err
		}
		raw.Raw = bytes.TrimSpace(raw.Raw)
		if len(raw.Raw) == 0 || string(raw.Raw) == "null" {
			continue
		}
		o, _, err := unstructured.UnstructuredJSONScheme.Decode(raw.Raw, nil, nil)
		if err != nil {
			return objects, err
		}
		objects = unfold(objects, o)
	}
}

// unfold flattens lists like kubectl's FlattenListVisitor.
func unfold(out []map[string]any, o runtime.Object) []map[string]any {
	switch o := o.(type) {
	case *unstructured.UnstructuredList:
		for i := range o.Items {
			out = unfold(out, &o.Items[i])
		}
	case *unstructured.Unstructured:
		list, err := o.ToList()
		if !o.IsList() || err != nil {
			return append(out, o.Object)
		}
		return unfold(out, list)
	}
	return out
}

// kustomize reads like Flux, which parses and applies what kustomize prints.
func kustomize(data []byte) (objects []map[string]any, err error) {
	resources, err := provider.NewDefaultDepProvider().GetResourceFactory().SliceFromBytes(data)
	if err != nil {
		return nil, err
	}
	for _, r := range resources {
		text, err := r.AsYAML()
		if err != nil {
			return objects, err
		}
		some, err := kubectl(text)
		if err != nil {
			return objects, err
		}
		objects = append(objects, some...)
	}
	return objects, nil
}

var (
	word    = regexp.MustCompile(`^[A-Za-z0-9]+$`)
	grouped = regexp.MustCompile(`^[a-z0-9.-]+/v[a-z0-9]+$`)
)

// served reports whether a cluster could accept an object: it has a kind, and is not
// the configuration of a tool or a definition.
func served(o map[string]any) bool {
	delete(o, "status")
	delete(o, "metadata")
	kind, _ := o["kind"].(string)
	version, text := o["apiVersion"].(string)
	if o["apiVersion"] != nil && !text {
		return false // apiVersion: yes is true to kubectl, and no API server decodes that
	}
	group, _, _ := strings.Cut(version, "/")
	delete(o, "apiVersion")
	switch {
	case !word.MatchString(kind), version != "" && version != "v1" && !grouped.MatchString(version):
		return false
	case group == "v1" || group == "":
		return !strings.HasSuffix(kind, "List") && kind != "Config"
	}
	return group != "kpt.dev" && group != "kustomize.config.k8s.io" && group != "apiextensions.k8s.io"
}

// run lists the images of all PodSpecs, in objects of any kind.
func run(out []string, v any) []string {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			out = run(out, item)
		}
	case map[string]any:
		for key, value := range v {
			switch key {
			case "containers", "initContainers", "ephemeralContainers":
				list, _ := value.([]any)
				for _, item := range list {
					if c, ok := item.(map[string]any); ok {
						if image, ok := c["image"].(string); ok {
							out = append(out, image)
						}
					}
				}
			case "volumes":
				list, _ := value.([]any)
				for _, item := range list {
					c, _ := item.(map[string]any)
					image, _ := c["image"].(map[string]any)
					if reference, ok := image["reference"].(string); ok {
						out = append(out, reference)
					}
				}
			}
			out = run(out, value)
		}
	}
	return out
}

// disagree pins a file and describes an image that a reader runs but that is not
// pinned. It returns "" if there is none, or if tape rejects the file.
func disagree(data []byte) string {
	stage, err := scan.New(scan.Config{})
	if err != nil {
		return err.Error()
	}
	in := []files.File{{Name: "f.yaml", Data: data}}
	report, err := stage.Scan(context.Background(), in)
	if err != nil {
		return err.Error()
	}
	if slices.ContainsFunc(report.Skipped, func(s images.Skipped) bool { return s.Invalid }) {
		return ""
	}
	if len(report.Objects) == 0 {
		return "" // the file is not content
	}
	list := &images.List{}
	for _, r := range report.References {
		list.Images = append(list.Images, images.Image{Source: r.Source, Name: r.Name, Digest: digest.FromString(r.Name)})
	}
	pinner, err := New(Config{Repository: "pinned.example/app"})
	if err != nil {
		return err.Error()
	}
	out, edits, err := pinner.Pin(in, report, list)
	if err != nil {
		return "" // packing fails
	}
	listed := map[string]bool{}
	for _, p := range report.Placeholders {
		listed[p.Value] = true
	}
	for _, u := range edits.Unpinned {
		for _, l := range u.Locations {
			listed[l.Value] = true
		}
	}
	for _, reader := range readers {
		objects, _ := reader.read(out[0].Data) // it may apply what precedes an error
		for _, o := range objects {
			if !served(o) {
				continue
			}
			for _, image := range run(nil, o) {
				_, invalid := reference.ParseNormalizedNamed(image)
				if invalid == nil && !strings.HasPrefix(image, "pinned.example/app") && !listed[image] {
					return fmt.Sprintf("%s runs %q of\n%s", reader.name, image, out[0].Data)
				}
			}
		}
	}
	return ""
}

// writer writes documents that use every feature of YAML.
type writer struct {
	*rand.Rand
	strings.Builder
	anchors  []string // of nodes that are complete
	anchored int
	images   int
}

func (w *writer) one(of ...string) string { return of[w.IntN(len(of))] }

// sometimes reports true once in n times.
func (w *writer) sometimes(n int) bool { return w.IntN(n) == 0 }

// stream writes a file.
func (w *writer) stream() string {
	if w.sometimes(20) {
		w.WriteString(w.one("\ufeff", "%YAML 1.1\n---\n", "%TAG ! tag:yaml.org,2002:\n---\n", "---\n", "# c\n", "\n"))
	}
	for n := 1 + w.IntN(3); n > 0; n-- {
		w.anchors, w.anchored = nil, 0
		w.object(0, 2)
		w.WriteByte('\n')
		if n > 1 {
			if w.sometimes(30) {
				w.WriteString(w.one("---\u00a0\n", "---\v\n", "\ufeff---\n", "--- |\n", "~\n---\u00a0\n", "---x: 1\n", "x: \"\n---\n\"\n---\n", "\u2028---\n", "...\n", ""))
			} else {
				w.WriteString(w.one("---\n", "---\n", "---\n", "--- \n", "--- # c\n", "---\t\n", "---\r\n", "...\n---\n", "\n---\n# c\n", "---\n---\n", "---\n~\n---\n"))
			}
		}
	}
	text := w.String()
	if w.sometimes(6) { // unusual beginnings
		b := []byte(text)
		for n := 1 + w.IntN(3); n > 0 && len(b) > 0; n-- {
			at := w.IntN(len(b))
			piece := w.one("\n", " ", "  ", "\t", "\"", "'", ": ", "- ", "? ", "&a ", "*a ", "*a1 ", "!!str ", "!x ", "<<: ", "#", " #", "{", "}", "[", "]", ",", "|", ">", "\r", "\u0085", "\u2028", "\ufeff", "%", "---\n", "\\", "~", "items: ", "0")
			switch w.IntN(3) {
			case 0:
				b = slices.Insert(b, at, []byte(piece)...)
			case 1:
				b = slices.Delete(b, at, min(len(b), at+1+w.IntN(4)))
			default:
				copy(b[at:], piece)
			}
		}
		text = string(b)
	}
	if w.sometimes(30) {
		text = strings.ReplaceAll(text, "\n", w.one("\r\n", "\r"))
	}
	return text
}

type entry struct {
	key   string
	value func(indent, depth int)
}

// object writes anything that a cluster or a tool might read.
func (w *writer) object(indent, depth int) {
	entries := []entry{
		{w.one("kind", "kind", "kind", "kind", "kind", "Kind"), func(int, int) {
			w.scalar(w.one("Pod", "Pod", "Deployment", "List", "PodList", "ConfigMap", "Secret", "CustomResourceDefinition", "CustomResourceDefinitionList", "Config", "Kptfile", "Foo", "FooList"))
		}},
		{"metadata", func(i, d int) { w.mapping(i, d, []entry{{"name", func(int, int) { w.scalar(w.one("a", "b")) }}}) }},
	}
	if !w.sometimes(8) {
		entries = append(entries, entry{"apiVersion", func(int, int) {
			w.scalar(w.one("v1", "v1", "apps/v1", "example.com/v1", "apiextensions.k8s.io/v1", "kpt.dev/v1", "kustomize.config.k8s.io/v1beta1"))
		}})
	}
	if !w.sometimes(4) {
		entries = append(entries, entry{w.one("spec", "spec", "spec", "template", "data", "description", "labels", "openAPIV3Schema"), w.podSpec})
	}
	if depth > 0 && w.sometimes(3) {
		entries = append(entries, entry{w.one("items", "items", "items", "Items", "status", "objects"), func(i, d int) {
			w.list(i, d, 1+w.IntN(2), func(i, d int) {
				if w.sometimes(8) {
					w.podSpec(i, d)
				} else {
					w.object(i, d)
				}
			})
		}})
	}
	w.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	w.mapping(indent, depth, entries)
}

func (w *writer) podSpec(indent, depth int) {
	var entries []entry
	if w.sometimes(6) {
		entries = append(entries, entry{"template", w.podSpec}, entry{w.one("apiVersion", "x"), func(int, int) { w.scalar("v1") }}, entry{w.one("kind", "x"), func(int, int) { w.scalar(w.one("Secret", "CustomResourceDefinition")) }})
	}
	entries = append(entries, entry{w.one("containers", "containers", "containers", "initContainers", "ephemeralContainers", "Containers"), func(i, d int) { w.list(i, d, 1+w.IntN(2), w.container) }})
	if w.sometimes(6) {
		entries = append(entries, entry{"volumes", func(i, d int) {
			w.list(i, d, 1, func(i, d int) {
				w.mapping(i, d, []entry{{"name", func(int, int) { w.scalar("v") }}, {"image", func(i, d int) { w.mapping(i, d, []entry{{"reference", func(int, int) { w.image() }}}) }}})
			})
		}})
	}
	w.mapping(indent, depth, entries)
}

func (w *writer) container(indent, depth int) {
	entries := []entry{{"name", func(int, int) { w.scalar(w.one("a", "b")) }}, {w.one("image", "image", "image", "image", "Image"), func(int, int) { w.image() }}}
	if w.sometimes(8) {
		entries = append(entries, entry{"kind", func(int, int) { w.scalar("A") }}, entry{"apiVersion", func(int, int) { w.scalar("v1") }})
	}
	if w.sometimes(8) {
		entries = append(entries, entry{"image", func(int, int) { w.image() }})
	}
	w.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	w.mapping(indent, depth, entries)
}

func (w *writer) image() {
	w.images++
	w.scalar(w.one(fmt.Sprintf("ex.io/a/b%d:1", w.images), fmt.Sprintf("ex.io/a/b%d:1", w.images), fmt.Sprintf("b%d", w.images), "0o14", "1_000", "0x1f", "1.5", "yes", "null", "~", "1e3", "0b1", "2001-01-01", "EX.IO/a:1", "EX/a:1", "auto"))
}

// before writes what may precede any node, such as an anchor or a tag.
func (w *writer) before() (after func()) {
	if !w.sometimes(12) || w.anchored > 5 {
		return func() {}
	}
	name := fmt.Sprintf("a%d", w.anchored)
	w.anchored++
	w.WriteString("&" + name + " ")
	return func() { w.anchors = append(w.anchors, name) }
}

// alias sometimes writes an alias instead of a node, and reports whether it did.
func (w *writer) alias() bool {
	if len(w.anchors) == 0 || !w.sometimes(8) {
		return false
	}
	w.WriteString("*" + w.one(w.anchors...) + " ")
	return true
}

func (w *writer) scalar(s string) {
	if w.alias() {
		return
	}
	defer w.before()()
	if w.sometimes(40) {
		w.WriteString(w.one("!!str ", "!!binary ", "!x ", "! ", "!!null ", "!!int ", "!!timestamp ", "!!float ", "!<tag:yaml.org,2002:str> "))
	}
	w.text(s)
}

func (w *writer) text(s string) {
	switch w.IntN(16) {
	case 0, 1:
		w.WriteString("'" + s + "'")
	case 2, 3:
		w.WriteString(`"` + s + `"`)
	case 4:
		at := w.IntN(len(s))
		fmt.Fprintf(w, `"%s%s%s"`, s[:at], fmt.Sprintf(w.one(`\x%02x`, `\u%04x`), s[at]), s[at+1:])
	case 5:
		at := w.IntN(len(s))
		fmt.Fprintf(w, "\"%s\\\n        %s\"", s[:at], s[at:])
	case 6:
		fmt.Fprintf(w, "\"%s\n        \"", s)
	default:
		w.WriteString(s)
	}
}

func (w *writer) key(s string) {
	if w.sometimes(60) {
		w.WriteString(w.one("!!str ", "!!null ", "!!merge ", "!x ", "!!binary ", "! ", "&k "))
	}
	switch w.IntN(8) {
	case 0:
		w.WriteString("'" + s + "'")
	case 1:
		w.WriteString(`"` + s + `"`)
	case 2:
		at := w.IntN(len(s))
		fmt.Fprintf(w, `"%s%s%s"`, s[:at], fmt.Sprintf(w.one(`\x%02x`, `\u%04x`), s[at]), s[at+1:])
	default:
		w.WriteString(s)
	}
}

// merge writes the value of a merge key.
func (w *writer) merge(indent, depth int) {
	if w.alias() {
		return
	}
	give := func() {
		w.WriteString("{")
		for n := w.IntN(3); n >= 0; n-- {
			w.WriteString(w.one("image: ", "name: ", "kind: ", "apiVersion: ", "x: ", "containers: ", "items: "))
			switch w.IntN(4) {
			case 0:
				w.WriteString("[{name: m, image: ")
				w.image()
				w.WriteString(" }]")
			case 1:
				w.WriteString(w.one("Pod", "v1"))
			default:
				w.image()
			}
			w.WriteString(" , ")
		}
		w.WriteString("}")
	}
	if w.sometimes(4) {
		w.WriteString("[")
		for n := w.IntN(3); n >= 0; n-- {
			if !w.alias() {
				give()
			}
			w.WriteString(", ")
		}
		w.WriteString("]")
		return
	}
	give()
}

func (w *writer) mapping(indent, depth int, entries []entry) {
	if w.alias() {
		return
	}
	for n := 10; w.sometimes(n); n *= 2 {
		name := w.one("<<", "<<", "<<", "<<", `"<<"`, "!!merge <<", "! <<", "x")
		entries = slices.Insert(entries, w.IntN(len(entries)+1), entry{name, w.merge})
	}
	defer w.before()()
	flow := indent < 0 || w.sometimes(5)
	if flow {
		indent = -1
		w.WriteString("{")
	}
	for i, e := range entries {
		if !flow {
			w.WriteString("\n" + strings.Repeat(" ", indent))
		}
		explicit := w.sometimes(60)
		if explicit {
			w.WriteString("? ")
		}
		switch {
		case strings.Contains(e.key, "<<"):
			w.WriteString(e.key)
		default:
			w.key(e.key)
		}
		if explicit && !flow {
			w.WriteString("\n" + strings.Repeat(" ", indent))
		}
		w.WriteString(" : ")
		below := indent
		if !flow {
			below = indent + 1 + w.IntN(3)
		}
		e.value(below, depth-1)
		if flow && (i+1 < len(entries) || w.sometimes(3)) {
			w.WriteString(" , ")
		}
	}
	if flow {
		w.WriteString("}")
	}
}

func (w *writer) list(indent, depth, n int, item func(indent, depth int)) {
	if w.alias() {
		return
	}
	defer w.before()()
	flow := indent < 0 || w.sometimes(5)
	if flow {
		indent = -1
		w.WriteString("[")
	}
	for ; n > 0; n-- {
		if !flow {
			w.WriteString("\n" + strings.Repeat(" ", indent) + "- ")
			item(indent+2, depth)
			continue
		}
		item(-1, depth)
		w.WriteString(" , ")
	}
	if flow {
		w.WriteString("]")
	}
}

// generated returns the file for a seed.
func generated(seed uint64) []byte {
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 0))}
	return []byte(w.stream())
}

// TestReaders compares pinned files with what deployers read from them: every image
// that runs is pinned or listed. The fuzz test tries more files.
func TestReaders(t *testing.T) {
	// Of seed 161581: kubectl reads yes as true, which no cluster accepts as a version, and tape
	// as the version of some tool.
	const odd = "{kind: Secret, apiVersion: v1}\n---\nkind: Pod\napiVersion: yes\nspec: {containers: [{name: a, image: EX.IO/a:1}]}\n"
	// Of seed 82466: kubectl applies the items of an item that spells its kind as Kind, in lists of any kind.
	const item = "items: [{kind: Deployment, metadata: {name: b}}, {Kind: FooList, apiVersion: ex.io/v1, items: [{kind: Foo, apiVersion: v1, metadata: {name: b}, spec: {containers: [{name: a, image: foo}]}}]}]\n"
	for _, file := range []string{
		odd, "kind: PodList\napiVersion: kustomize.config.k8s.io/v1beta1\n" + item, "kind: Foo\napiVersion: ex.io/v1\n" + item,
		"kind: Config\napiVersion: v1\n" + item, "kind: PodList\n" + item,
	} {
		if wrong := disagree([]byte(file)); wrong != "" {
			t.Error(wrong)
		}
	}
	seeds := []uint64{104072, 199895} // an object from a merge key of another name; an image called null
	for seed := range uint64(1000) {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		if wrong := disagree(generated(seed)); wrong != "" {
			t.Fatalf("seed %d: %s", seed, wrong)
		}
	}
}

func FuzzReaders(f *testing.F) {
	for seed := range uint64(100) {
		f.Add(generated(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if wrong := disagree(data); wrong != "" {
			t.Error(wrong)
		}
	})
}
