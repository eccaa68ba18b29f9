// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// maxEmbedding bounds how deep documents lie in strings of documents.
const maxEmbedding = 8

// found is a reference at a place, before lines and columns are known.
type found struct {
	name string // normalised, or as written where that cannot be
	images.Location
	uses     int   // of the text that it stands in, see [manifests.Document.Uses]
	partUses []int // the same of each part
	excluded bool  // it is in a PodSpec, but an entry says that it is not an image
}

// findings are what a walk found, in the order things stand in.
type findings struct {
	references   []found
	placeholders []placeholder
	problem      *problem // the first
}

// problem is why a file cannot be read, found while looking into it.
type problem struct {
	offset int
	reason string
}

type placeholder struct {
	images.Placeholder
	offset int
}

// walker looks for references in one document.
type walker struct {
	catalogue *catalogue
	out       *findings

	doc      *manifests.Document
	room     *int // characters of embedded documents that may still be read
	file     string
	document int      // in the file
	object   string   // in the document
	path     []string // keys and indexes to the node at hand
	outer    int      // how much of path leads to the text that doc is embedded in
	embedded int      // how deep doc is embedded; 0: it stands in the file itself
	repeated int      // uses of the text that doc is embedded in
	loose    bool     // doc is not an object: nothing tells what its fields mean
	workload bool     // inside an object of a kind of Kubernetes that runs pods
}

// scope is what holds for a node because of where it stands.
type scope struct {
	places  []place
	ignored int   // entries of the catalogue behind this one do not count, nor does guessing; PodSpecs do
	builtin bool  // inside an object whose fields are all known
	role    role  // what a PodSpec makes of it
	label   label // what the name above promises
}

const (
	nothingIgnored = int(^uint(0) >> 1) // behind every entry
	// spokenOf is before every entry: what stands there is spoken of. Only where
	// there is a PodSpec it may be run all the same.
	spokenOf = -1
)

// role of a node in a PodSpec.
type role uint8

const (
	noRole role = iota
	containerList
	container
	containerImage
	volumeList
	volume
	imageVolume
)

// roleOf is the role of what stands under a key of something with a role.
func roleOf(key string, parent role) role {
	switch key {
	case "containers", "initContainers", "ephemeralContainers":
		return containerList
	case "volumes":
		return volumeList
	case "image":
		switch parent {
		case container:
			return containerImage
		case volume:
			return imageVolume
		}
	case "reference":
		if parent == imageVolume {
			return containerImage
		}
	}
	return noRole
}

func (w *walker) pointer() string {
	path := w.path
	if w.embedded > 0 {
		path = path[:w.outer]
	}
	var b strings.Builder
	for _, key := range path {
		b.WriteByte('/')
		b.WriteString(manifests.EscapePointer(key))
	}
	return b.String()
}

// enter puts the walker at a pointer.
func (w *walker) enter(pointer string) {
	for _, key := range strings.Split(pointer, "/")[1:] {
		w.path = append(w.path, manifests.UnescapePointer(key))
	}
}

// in walks something below a key or index.
func (w *walker) in(key string, walk func()) {
	w.path = append(w.path, key)
	walk()
	w.path = w.path[:len(w.path)-1]
}

// below is the scope of what stands under a key or index.
func (s scope) below(key string) scope {
	child := scope{ignored: s.ignored, builtin: s.builtin}
	if len(s.places) > 0 {
		child.places = enter(s.places, key)
	}
	for _, p := range child.places {
		if p.reached() && p.Ignore && p.index < child.ignored {
			child.ignored = p.index
		}
	}
	return child
}

// resource looks into an object: all of it but what clusters write (status), what
// names it, and what a custom resource definition says of others.
func (w *walker) resource(o manifests.Object) {
	group := o.Group()
	defer func(before bool) { w.workload = before }(w.workload)
	w.workload = workload(group)
	definition := o.Kind == "CustomResourceDefinition" && group == "apiextensions.k8s.io"
	s := scope{ignored: nothingIgnored, builtin: kubernetes(group), places: w.catalogue.begin(group, o.Kind)}
	binary := ""
	switch {
	case group == "" && o.Kind == "Secret":
		binary = "data"
	case group == "" && o.Kind == "ConfigMap":
		binary = "binaryData"
	}
	for i := range o.Fields {
		key, value := o.Fields[i].Key, &o.Fields[i].Value
		child := s.below(key)
		child.role = roleOf(key, noRole)
		w.in(key, func() {
			switch key {
			case "status", "apiVersion", "kind":
			case "items":
				w.items(&o, value, child)
			case "metadata":
				w.annotations(value.Get("annotations"))
			case binary:
				w.base64(value)
			default:
				if !definition {
					w.node(value, o.Node, key, child)
				}
			}
		})
	}
}

// items looks into those items of an object that are not objects of their own.
func (w *walker) items(o *manifests.Object, n *manifests.Node, s scope) {
	if n.Kind != manifests.List || o.Nested {
		w.node(n, o.Node, "items", s)
		return
	}
	for i := range n.Items {
		if item := &n.Items[i]; !o.Unfolded(item) {
			index := strconv.Itoa(i)
			w.in(index, func() { w.node(item, nil, "", s.below(index)) })
		}
	}
}

func (w *walker) annotations(n *manifests.Node) {
	if n == nil {
		return
	}
	w.in("annotations", func() {
		w.node(n, nil, "annotations", scope{ignored: nothingIgnored, builtin: true})
	})
}

// base64 looks into the values of a Secret's data. What is found there is
// copied, but cannot be pinned in place.
func (w *walker) base64(n *manifests.Node) {
	for i := range n.Fields {
		key, value := n.Fields[i].Key, &n.Fields[i].Value
		data, err := base64.StdEncoding.DecodeString(value.Text())
		if err != nil || !utf8.Valid(data) {
			continue
		}
		w.in(key, func() {
			w.text(string(data), labelOf(key), value, func() *manifests.Text {
				return w.doc.Scalar(value).Decoded(string(data))
			})
		})
	}
}

// node looks into a value. parent is the map it stands in under the key, or
// that holds the list it stands in.
func (w *walker) node(n, parent *manifests.Node, key string, s scope) {
	switch n.Kind {
	case manifests.Map:
		w.mapping(n, key, s)
	case manifests.List:
		w.list(n, key, s)
	case manifests.Scalar:
		w.scalar(n, parent, key, s)
	}
}

func (w *walker) mapping(n *manifests.Node, name string, s scope) {
	// In a PodSpec what looks like an object is what it is there all the same.
	if o, ok := manifests.Nested(n, ""); ok && s.role == noRole && s.ignored == nothingIgnored {
		w.resource(o)
		return
	}
	split := w.split(n, name, s)
	promise := max(s.label, labelOf(name))
	for i := range n.Fields {
		key, value := n.Fields[i].Key, &n.Fields[i].Value
		if split[value] {
			continue
		}
		child := s.below(key)
		if notLooked[key] {
			child.ignored = min(child.ignored, spokenOf)
		}
		if promise >= namesMany || promise == namesOne && holdsReference[key] {
			child.label = namesOne // images: {worker: x}, and image: {reference: x}
		}
		child.role = roleOf(key, s.role)
		switch {
		case child.role != containerImage || s.ignored == spokenOf || w.catalogue.isUsers(child.ignored):
		case s.ignored == nothingIgnored:
			child.ignored = nothingIgnored // an image of a machine is not that of a container
		default:
			continue // of a policy's pattern, say
		}
		child.builtin = child.builtin || s.role == volume && child.role == noRole
		w.in(key, func() { w.node(value, n, key, child) })
	}
}

// holdsReference are the keys of a map called image that hold all of a reference.
var holdsReference = set("reference ref name url uri image")

// notLooked are keys under which things are spoken of (schemas, prose, and the
// examples that Knative puts beside a ConfigMap's values), labels, which can hold
// no reference, and Ceph's block devices, whose image is none.
var notLooked = set("openAPIV3Schema description longDescription summary documentation _example labels matchLabels nodeSelector rbd")

func (w *walker) list(n *manifests.Node, key string, s scope) {
	promise := max(s.label, labelOf(key))
	flag := noLabel
	for i := range n.Items {
		item := &n.Items[i]
		index := strconv.Itoa(i)
		child := s.below(index)
		child.label = noLabel
		switch {
		case s.role == containerList && item.Kind == manifests.Map:
			child.role = container
		case s.role == volumeList && item.Kind == manifests.Map:
			child.role = volume
		case item.Kind == manifests.Scalar && promise >= namesMany:
			child.label = namesOne
		case flag != noLabel:
			child.label = flag // --image, nginx
		}
		w.in(index, func() { w.node(item, nil, "", child) })
		flag = flagLabel(item.Text())
	}
}

// flagLabel is what a flag that stands alone promises of the next argument.
func flagLabel(arg string) label {
	if strings.HasPrefix(arg, "-") && !strings.ContainsAny(arg, "= \n") {
		return labelOf(arg)
	}
	return noLabel
}

func (w *walker) scalar(n, parent *manifests.Node, key string, s scope) {
	if s.role == containerImage {
		first := len(w.out.references)
		w.image(n, key, images.Pod, nil)
		for i := first; i < len(w.out.references); i++ {
			w.out.references[i].excluded = w.catalogue.isUsers(s.ignored)
		}
		return
	}
	if !n.IsString() || s.ignored == spokenOf {
		return
	}
	for _, p := range s.places {
		if p.reached() && p.index < s.ignored && p.Parts == nil && !p.Ignore && beside(parent, p.When) {
			w.image(n, key, images.CRD, p.field)
			return
		}
	}
	if s.ignored != nothingIgnored {
		return
	}
	promise := labelOf(key)
	if (key == "value" || key == "default" || key == "defaultValue") && parent != nil {
		promise = max(promise, labelOf(parent.Get("name").Text()), labelOf(parent.Get("key").Text()))
	} else if !s.builtin && max(promise, s.label) >= namesOne && w.guess(n, parent, key) {
		return
	}
	w.text(n.Value, max(promise, s.label), n, func() *manifests.Text { return w.doc.Scalar(n) })
}

// beside says whether the keys have the values.
func beside(parent *manifests.Node, when map[string]string) bool {
	for key, value := range when {
		if parent.Get(key).Text() != value {
			return false
		}
	}
	return true
}

// image takes the value of a field that is known to hold a reference. What is no
// reference, and no placeholder either, is taken as well: resolving it gives the
// error that names the place.
func (w *walker) image(n *manifests.Node, key string, class images.Class, f *field) {
	value := n.Value
	if n.Kind != manifests.Scalar || n.Type != manifests.String && n.Type != manifests.Null && class != images.Pod {
		return // what is a number to one reader of YAML is a string to another
	}
	if n.Type == manifests.Null {
		value = ""
	}
	trimmed := strings.TrimSpace(value)
	from := strings.Index(value, trimmed)
	if f != nil {
		for _, scheme := range schemes {
			if rest, ok := strings.CutPrefix(trimmed, scheme); ok {
				from, trimmed = from+len(scheme), rest
				break
			}
		}
		if f.Optional {
			class = images.Indirect
		}
	}
	if key == "url" && !w.catalogue.plausible(trimmed, namesOne) {
		return // of something that is no image: https://…
	}
	if isPlaceholder(trimmed) {
		w.placeholder(n, strings.TrimSpace(value), class)
		return
	}
	name, ok := normalise(trimmed)
	if !ok && w.embedded > 0 {
		return
	}
	w.add(found{name: name, Location: images.Location{Class: class, Value: trimmed}}, n, w.doc.Scalar(n), from, from+len(trimmed), f)
}

// guess takes the value of a field of a custom resource whose name promises a
// reference. It is false where the value does not look like one: then what can
// be read in it is still looked at as text.
func (w *walker) guess(n, parent *manifests.Node, key string) bool {
	value := strings.TrimSpace(n.Value)
	if isPlaceholder(value) && (value == "" || value == "auto" || strings.ContainsAny(value, "${}<>") || strings.HasPrefix(value, "ko://")) {
		w.placeholder(n, value, images.CRD)
		return true
	}
	if !w.catalogue.plausible(value, namesOne) && (key != "image" || w.loose || !w.ofContainer(value, parent)) {
		return false
	}
	name, ok := normalise(value)
	if !ok {
		return false
	}
	from := strings.Index(n.Value, value)
	w.add(found{name: name, Location: images.Location{Class: images.CRD, Value: value}}, n, w.doc.Scalar(n), from, from+len(value), nil)
	return true
}

// ofContainer says whether a value that does not look like much is an image all
// the same: any name with a tag, and a bare word where the map describes a
// container.
func (w *walker) ofContainer(value string, parent *manifests.Node) bool {
	if bareTagged.MatchString(value) {
		return !isPlaceholder(value)
	}
	above := ""
	if n := len(w.path); n > 1 {
		above = w.path[n-2]
	}
	return bareName.MatchString(value) && (above == "container" ||
		hasAny(parent, "command", "args", "env", "envFrom", "imagePullPolicy", "volumeMounts", "workingDir", "script", "livenessProbe", "readinessProbe", "securityContext"))
}

// placeholder notes a value that something else fills in. What templates in
// strings hold is theirs, and not noted.
func (w *walker) placeholder(n *manifests.Node, value string, class images.Class) {
	if w.embedded > 0 {
		return
	}
	text := w.doc.Scalar(n)
	from := max(0, strings.Index(text.String, value))
	span := text.Span(from, from+len(value))
	w.out.placeholders = append(w.out.placeholders, placeholder{
		Placeholder: images.Placeholder{Pod: class == images.Pod, Value: value, File: w.file, Pointer: w.pointer(), Object: w.object},
		offset:      span.Offset,
	})
}

// encoded is why what stands in base64 is not pinned.
const encoded = "it is encoded, and cannot be edited where it stands"

// add notes a reference that stands in text[i:j], which is the text of n.
func (w *walker) add(f found, n *manifests.Node, text *manifests.Text, i, j int, by *field) {
	span := text.Span(i, j)
	f.Offset, f.Length = span.Offset, span.Length
	if !span.Exact {
		f.Length, f.Never = 0, encoded
	}
	f.uses = w.uses(n)
	if i == 0 && j == len(text.String) {
		f.Alias = w.alias(n)
	}
	w.addFound(f, by)
}

// uses counts the places of the file that read the text of a scalar.
func (w *walker) uses(n *manifests.Node) int { return max(w.repeated, 1) * w.doc.Uses(n) }

// alias is where the alias stands that leads to a node; nil where there is none
// that could be replaced by a text.
func (w *walker) alias(n *manifests.Node) *images.Range {
	span, ok := w.doc.Alias(n)
	if !ok || w.repeated > 1 {
		return nil
	}
	return &images.Range{Offset: span.Offset, Length: span.Length}
}

func (w *walker) addFound(f found, by *field) {
	if by != nil && by.Pin == "never" {
		f.Never = cmp.Or(by.Reason, "the pipeline says so")
	}
	if w.embedded > 0 {
		f.Class = images.Indirect
	}
	f.KeepTag = f.Class != images.Pod || !w.workload
	f.File, f.Document, f.Object, f.Pointer = w.file, w.document, w.object, w.pointer()
	w.out.references = append(w.out.references, f)
}
