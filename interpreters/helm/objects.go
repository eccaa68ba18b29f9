// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	kubeyaml "sigs.k8s.io/yaml"
)

// document is one rendered document. Its objects are edited in the text, so that everything else
// stays as the template wrote it.
type document struct {
	text    string
	objects []object
}

// object is an object of a document: the document itself or an item of a list.
type object struct {
	kind
	name      string
	namespace string
	path      []string // path of the object in the document
	top       *yaml.Node
}

// parse finds the objects of a document. A document that does not parse has no objects.
func parse(text string) document {
	d := document{text: strings.TrimSuffix(text, "\n") + "\n"}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err == nil && len(doc.Content) == 1 {
		d.find(doc.Content[0], nil, "", "")
	}
	return d
}

// find finds the objects in a node. Items of a typed list, such as ConfigMapList, that have no
// kind get it from the list.
func (d *document) find(n *yaml.Node, path []string, apiVersion, kind string) {
	if n = target(n); n == nil || n.Kind != yaml.MappingNode {
		return
	}
	apiVersion, kind = cmp.Or(text(member(n, "apiVersion")), apiVersion), cmp.Or(text(member(n, "kind")), kind)
	if items := member(n, "items"); items != nil && items.Kind == yaml.SequenceNode && member(n, "metadata", "name") == nil {
		element := strings.TrimSuffix(kind, "List")
		if element == "" { // a list of any kind
			apiVersion = ""
		}
		for i, item := range items.Content {
			d.find(item, append(slices.Clip(path), "items", strconv.Itoa(i)), apiVersion, element)
		}
		return
	}
	o := object{
		kind: kindOf(apiVersion, kind),
		name: text(member(n, "metadata", "name")), namespace: text(member(n, "metadata", "namespace")),
		path: path, top: n,
	}
	if o.kind.name != "" && member(n, "metadata") != nil {
		d.objects = append(d.objects, o)
	}
}

// String returns kind and name.
func (o object) String() string { return strings.TrimSpace(o.kind.name + " " + o.name) }

// edit sets a member of a map in an object: metadata or annotations.
type edit struct {
	object     object
	in         []string // path of the map in the object
	key, value string
}

// apply returns the text with edits applied. If an edit is not possible in the existing
// text (the map is shared by an alias, or has the key with an empty value), the whole
// document is re-encoded.
func (d document) apply(edits []edit) string {
	if len(edits) == 0 {
		return d.text
	}
	var want any
	if err := kubeyaml.Unmarshal([]byte(d.text), &want); err != nil {
		return d.text // Helm has parsed it, so errors are not reported here
	}
	for _, e := range edits {
		set(want, slices.Concat(e.object.path, e.in), e.key, e.value)
	}
	for _, second := range []bool{true, false} {
		if text, ok := d.inserted(edits, second); ok {
			var got any
			if err := kubeyaml.Unmarshal([]byte(text), &got); err == nil && reflect.DeepEqual(got, want) {
				return text
			}
		}
	}
	data, err := kubeyaml.Marshal(want)
	if err != nil {
		return d.text
	}
	return string(data)
}

// inserted inserts edits into the text, each as the first or the second member of its map.
func (d document) inserted(edits []edit, second bool) (string, bool) {
	type line struct {
		at   int // offset
		text string
	}
	var lines []line
	offsets := lineOffsets(d.text)
	for _, e := range edits {
		at, text, ok := insertion(d.text, offsets, member(e.object.top, e.in...), e.key, e.value, second)
		if !ok {
			return "", false
		}
		lines = append(lines, line{at, text})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var b strings.Builder
	done := 0
	for _, l := range lines {
		b.WriteString(d.text[done:l.at] + l.text)
		done = l.at
	}
	return b.String() + d.text[done:], true
}

// insertion returns the offset and the text of a new member of a map.
func insertion(text string, offsets []int, m *yaml.Node, key, value string, second bool) (at int, line string, ok bool) {
	if m == nil || m.Kind != yaml.MappingNode || m.Alias != nil || member(m, key) != nil {
		return 0, "", false
	}
	if m.Style&yaml.FlowStyle != 0 {
		at, ok := offset(text, offsets, m.Line, m.Column)
		if !ok || at >= len(text) || text[at] != '{' {
			return 0, "", false // preceded by an anchor or a tag
		}
		line = strconv.Quote(key) + ": " + strconv.Quote(value)
		if len(m.Content) > 0 {
			line += ", "
		}
		return at + 1, line, true
	}
	if len(m.Content) == 0 {
		return 0, "", false
	}
	first := m.Content[0]
	at, ok = offset(text, offsets, first.Line, 1)
	if !ok || at+first.Column-1 > len(text) {
		return 0, "", false
	}
	indent := text[at : at+first.Column-1]
	if strings.Trim(indent, " ") != "" {
		return 0, "", false
	}
	scalar, err := yaml.Marshal(value)
	if err != nil {
		return 0, "", false
	}
	if v := m.Content[1]; second && v.Kind == yaml.ScalarNode && v.Line == first.Line && first.Line < len(offsets) {
		at = offsets[first.Line]
	}
	return at, indent + key + ": " + string(scalar), true
}

// lineOffsets returns the offsets of the lines in a text.
func lineOffsets(text string) []int {
	offsets := []int{0}
	for i := range len(text) {
		if text[i] == '\n' {
			offsets = append(offsets, i+1)
		}
	}
	return offsets
}

// offset returns the offset of a line and a column, which counts runes.
func offset(text string, offsets []int, line, column int) (int, bool) {
	if line < 1 || line > len(offsets) {
		return 0, false
	}
	at := offsets[line-1]
	for i := range text[at:] {
		if column--; column == 0 {
			return at + i, true
		}
	}
	return len(text), column == 1
}

// target resolves an alias.
func target(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// member returns the node at a path of map keys, or nil.
func member(n *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		n = target(n)
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		var found *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				found = n.Content[i+1]
			}
		}
		n = found
	}
	return n
}

// text returns the value of a scalar, or "" for null and other nodes.
func text(n *yaml.Node) string {
	if n = target(n); n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// set sets a member of the map at a path.
func set(v any, path []string, key, value string) {
	for _, name := range path {
		switch at := v.(type) {
		case map[string]any:
			v = at[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(at) {
				return
			}
			v = at[i]
		}
	}
	if m, ok := v.(map[string]any); ok {
		m[key] = value
	}
}
