// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"cmp"
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Object is a Kubernetes object in a document.
type Object struct {
	*Node
	above string // pointer to the object or list that contains it, which all items of a list share
	item  int32  // number of the item in that list, from 1; 0 if above is the pointer of the object itself
	// APIVersion and Kind are derived from the list if an item of a typed list (ConfigMapList)
	// does not have them.
	APIVersion, Kind string
	Namespace, Name  string
	// Generated is metadata.generateName.
	Generated string
	// Nested reports that the object is in another object, but not one of its items.
	Nested bool
}

// Group returns the API group: "apps" for apps/v1, "" for v1.
func (o *Object) Group() string {
	if group, _, ok := strings.Cut(o.APIVersion, "/"); ok {
		return group
	}
	return ""
}

// Pointer returns the JSON pointer (RFC 6901) of the object in the document: "", or /items/3
// in a List.
func (o *Object) Pointer() string {
	if o.item == 0 {
		return o.above
	}
	return o.above + "/items/" + strconv.Itoa(int(o.item)-1)
}

// String describes the object: "apps/v1 Deployment podinfo".
func (o *Object) String() string {
	return strings.TrimSpace(o.APIVersion + " " + o.Kind + " " + cmp.Or(o.Name, o.Generated))
}

// Written returns the size in bytes of the text of the document.
func (d *Document) Written() int { return len(d.text.String) }

// Grown returns the approximate size in bytes of the document with aliases and merge keys
// expanded; every value counts as at least sixteen.
func (d *Document) Grown() int { return 16 * d.cost }

// Added returns how many values aliases and merge keys add to those that are written. A long text
// counts as several values.
func (d *Document) Added() int { return d.grown }

// Offset returns the offset of the node in the file.
func (d *Document) Offset(n *Node) int { return d.text.Span(int(n.at), int(n.at)).Offset }

// Alias returns the range in the file of the alias through which the node was read: *name,
// including the asterisk. It returns false if there is no alias for the node itself, or if
// other nodes were read through the same one. Like Uses, it is not safe for concurrent use.
func (d *Document) Alias(n *Node) (Span, bool) {
	if n.alias == 0 || d.Uses(n) == 0 || d.uses[-n.alias] > 1 {
		return Span{}, false
	}
	from := int(n.alias) - 1
	to := from + 1
	for to < len(d.text.String) && isName(d.text.String[to]) {
		to++
	}
	span := d.text.Span(from, to)
	return span, span.Exact
}

// Uses returns the number of keys and values in the document that share the text of a scalar. It
// is more than one if aliases or merge keys repeat the text. It is not safe for concurrent use.
func (d *Document) Uses(n *Node) int {
	if !d.aliased {
		return 1
	}
	if d.uses == nil {
		d.uses = map[int32]int{}
		for _, at := range d.keys {
			d.uses[at]++
		}
		d.count(&d.Root)
	}
	return d.uses[n.at]
}

func (d *Document) count(n *Node) {
	if n.Kind == Scalar {
		d.uses[n.at]++
		if n.alias != 0 {
			d.uses[-n.alias]++ // negative, so that it differs from offsets
		}
	}
	for i := range n.Fields {
		d.count(&n.Fields[i].Value)
	}
	for i := range n.Items {
		d.count(&n.Items[i])
	}
}

// Empty reports whether the document is empty except for comments.
func (d *Document) Empty() bool { return d.Root.Kind == Scalar && d.Root.Type == Null }

// Dispute returns a *[ParseError] if readers of YAML disagree about a document that may be
// applied to a cluster.
func (d *Document) Dispute() error {
	if d.dispute == nil || d.Root.Get("kind") == nil && d.Root.Get("items") == nil {
		return nil
	}
	return d.dispute
}

// Disputed reports whether readers of YAML disagree about the content of any document. It ignores
// readers that reject the document.
func (d *Document) Disputed() bool { return d.dispute != nil && !d.dispute.repeats }

// Objects returns the Kubernetes objects in the document. The items of any object are objects,
// however deep, because kubectl only checks whether there are items. Null items are left out. If
// the document is not a Kubernetes object and contains none, reason says what it is instead.
func (d *Document) Objects() (objects []Object, reason string) {
	apiVersion, kind := d.Root.Get("apiVersion").Text(), d.Root.Get("kind").Text()
	switch tool := consumer(apiVersion, kind); {
	case kind == "":
		return nil, notAnObject
	case apiVersion == "" || tool != "":
		o := object(&d.Root, "", "", "")
		for i, item := range o.Get("items").items() {
			if item.isObject() {
				objects = appendObjects(objects, &o.Get("items").Items[i], "", int32(i)+1, apiVersion, "")
			}
		}
		if objects == nil && apiVersion == "" {
			return nil, notAnObject
		} else if objects == nil {
			return nil, ReadBy(tool)
		}
		return objects, ""
	}
	return appendObjects(nil, &d.Root, "", 0, apiVersion, kind), ""
}

const notAnObject = "not a Kubernetes object"

// Unversioned returns the document as an object if only apiVersion is missing, which kubectl can
// be told to accept.
func (d *Document) Unversioned() (Object, bool) {
	o := object(&d.Root, "", "", "")
	return o, o.Kind != "" && o.APIVersion == ""
}

// ReadBy returns the reason why a document that a tool reads is not a Kubernetes object.
func ReadBy(tool string) string { return "read by " + tool + ", not by a cluster" }

// Inner returns the objects in a document that is not an object but a map or list of
// objects, or of maps or lists of objects, such as the output of `cue export`. No cluster
// accepts such a document.
func (d *Document) Inner() []Object {
	if _, ok := Nested(&d.Root, ""); ok {
		return nil
	}
	objects, all := inner(nil, &d.Root, "", 3)
	if !all {
		return nil
	}
	return objects
}

func inner(out []Object, n *Node, pointer string, depth int) (objects []Object, all bool) {
	if o, ok := Nested(n, pointer); ok {
		return append(out, o), true
	}
	if depth == 0 || n.Kind == Scalar {
		return nil, false
	}
	all = true
	for i := range n.Items {
		if all {
			out, all = inner(out, &n.Items[i], pointer+"/"+strconv.Itoa(i), depth-1)
		}
	}
	for i := range n.Fields {
		if all {
			out, all = inner(out, &n.Fields[i].Value, pointer+"/"+EscapePointer(n.Fields[i].Key), depth-1)
		}
	}
	return out, all
}

// EscapePointer converts a key to an element of a JSON pointer.
func EscapePointer(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// UnescapePointer converts an element of a JSON pointer to a key.
func UnescapePointer(element string) string {
	return strings.ReplaceAll(strings.ReplaceAll(element, "~1", "/"), "~0", "~")
}

// Nested returns the node as an object. It returns false if the node has no apiVersion or no
// kind.
func Nested(n *Node, pointer string) (Object, bool) {
	o := object(n, pointer, "", "")
	o.Nested = true
	return o, o.APIVersion != "" && o.Kind != ""
}

func appendObjects(out []Object, n *Node, above string, item int32, apiVersion, kind string) []Object {
	o := object(n, above, apiVersion, kind)
	o.item = item
	items := n.Get("items")
	element, isList := strings.CutSuffix(o.Kind, "List")
	if items == nil || items.Kind != List {
		nothing := isList && (element == "" && o.Group() == "" || items != nil && items.Type == Null && above == "" && item == 0)
		if nothing {
			return out // an empty list
		}
		return append(out, o)
	}
	if !isList {
		out = append(out, o)
	}
	itemVersion := o.APIVersion
	if element == "" {
		itemVersion = ""
	}
	pointer := o.Pointer()
	for i := range items.Items {
		if item := &items.Items[i]; item.isObject() || isList && item.Kind == Map {
			out = appendObjects(out, item, pointer, int32(i)+1, itemVersion, element)
		}
	}
	return out
}

// isObject reports whether a node is an object in any list: it has a kind, or items that are
// objects. kubectl applies such items even if the node itself has Kind instead of kind.
func (n *Node) isObject() bool {
	return n.Get("kind").Text() != "" || slices.ContainsFunc(n.Get("items").items(), func(item Node) bool { return item.isObject() })
}

// Unfolded reports whether an item of the object is itself an object, which [Document.Objects]
// returns in addition to this one.
func (o *Object) Unfolded(item *Node) bool { return item.isObject() }

// object returns a node as an object. apiVersion and kind apply if the node does not have them.
func object(n *Node, pointer, apiVersion, kind string) Object {
	metadata := n.Get("metadata")
	return Object{
		Node: n, above: pointer, APIVersion: cmp.Or(n.Get("apiVersion").Text(), apiVersion), Kind: cmp.Or(n.Get("kind").Text(), kind),
		Namespace: metadata.Get("namespace").Text(), Name: metadata.Get("name").Text(), Generated: metadata.Get("generateName").Text(),
	}
}

// consumer returns the name of the tool that reads a document that looks like an object but that
// no API server accepts, or "".
func consumer(apiVersion, kind string) string {
	group, _, grouped := strings.Cut(apiVersion, "/")
	switch {
	case !grouped && apiVersion == "v1" && kind == "Config":
		return "kubectl"
	case !grouped && apiVersion != "v1":
		// The core group has no other version. Talos, openshift-install and others write their
		// own versions without a group.
		return "the tool that it configures"
	case !grouped:
		return ""
	}
	known := tools()
	t := known[group]
	for rest := group; t == nil && rest != ""; {
		_, rest, _ = strings.Cut(rest, ".")
		t = known["*."+rest]
	}
	if t == nil || t.kinds != nil && !slices.Contains(t.kinds, kind) {
		return ""
	}
	return t.name
}

// tool is a program that reads files that look like objects of a group; nil kinds mean all kinds
// of the group.
type tool struct {
	name  string
	kinds []string
}

//go:embed tools.txt
var toolsText string

// tools parses tools.txt, by API group.
var tools = sync.OnceValue(func() map[string]*tool {
	out := map[string]*tool{}
	for line := range strings.Lines(toolsText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, groups, _ := strings.Cut(line, ": ")
		for group := range strings.FieldsSeq(groups) {
			t := &tool{name: name}
			group, kinds, some := strings.Cut(group, "/")
			if some {
				t.kinds = strings.Split(kinds, "|")
			}
			out[group] = t
		}
	}
	return out
})
