// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"encoding/base64"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// maxEmbedding is the maximum depth of documents in strings of documents.
const maxEmbedding = 8

// found is a reference at a location, before its line and column are known.
type found struct {
	name string // normalised, or as written if it cannot be normalised
	images.Location
	uses     int   // of the text that contains it; see [manifests.Document.Uses]
	partUses []int // the same for each part
	excluded bool  // in a PodSpec, although an entry says that it is not an image
}

// located is something at an offset in a file, before its line and column are known.
type located[T any] struct {
	what   T
	offset int
}

// findings are the contents of some documents of a file, in order. The indexes of documents begin
// at 0.
type findings struct {
	documents    int
	references   []found
	placeholders []located[images.Placeholder]
	mentions     []located[images.Mention]
	objects      []located[images.Object]
	strangers    []located[images.Skipped] // documents that are not objects
	credentials  []located[images.Credential]
	empty        string          // why a document that looks like an object contains none
	err          *images.Skipped // the first reason why the file cannot be read
}

// fail records why the file cannot be read.
func (f *findings) fail(err *images.Skipped) { f.err = cmp.Or(f.err, err) }

// walker looks for references in one document.
type walker struct {
	catalogue *catalogue
	out       *findings
	budget    *budget

	doc      *manifests.Document
	room     *int // remaining size of embedded documents, in characters
	file     *manifests.File
	document int      // index in the file
	object   string   // description of the current object
	path     []string // keys and indexes of the current node
	outer    int      // length of the part of path that leads to the text that doc is embedded in
	embedded int      // depth of embedding of doc; 0 in the file itself
	repeated int      // uses of the text that doc is embedded in
	loose    bool     // doc is not an object, so the meaning of its fields is unknown
	workload bool     // inside an object of a Kubernetes kind that runs pods
	pods     bool     // inside something that contains a PodSpec, whatever kind its parts claim to be
	sealed   string   // why the object must not be edited, or ""
	root     *manifests.Node
	indexes  map[*manifests.Node]map[string]*manifests.Node // indexes of large maps
	// given looks up the other arguments of a command.
	given      func(flat string) (string, bool)
	flag       string                     // the flag whose value the current string is
	name       string                     // the name of the current string: its key, or the name of its variable
	near       near                       // what applies to the current string
	become     map[*manifests.Node]string // strings of a container with their variables expanded
	known      map[string]string          // values of the variables of the container
	parameters *parameters                // of the current pipeline; nil outside pipelines
	uses       *uses                      // of parameters, in the outermost pipeline around the node; nil outside pipelines
}

// scope is the context of a node.
type scope struct {
	places  []place
	ignored int    // later entries of the catalogue, and guesses, do not apply, but PodSpecs do
	reason  string // why something is ignored
	builtin bool   // inside an object whose fields are all known
	role    role   // in a PodSpec
	label   label  // of the name above
	pairs   bool   // names and values that a program reads, in any object
	machine bool   // inside the description of a machine or disk
	near    near   // outside the kinds of Kubernetes
	// taken are the values that belong to references in the list around a map.
	taken map[*manifests.Node]bool
}

const (
	nothingIgnored = int(^uint(0) >> 1) // after every entry
	// allIgnored is before every entry: images are only mentioned, except in a PodSpec,
	// where they may be run.
	allIgnored = -1
)

// role is the role of a node in a PodSpec.
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

// whole reports whether a PodSpec defines the meaning of a node, so that no part of the node is
// guessed to belong to a reference.
func (r role) whole(n *manifests.Node) bool {
	return r == container || n.Kind == manifests.List && (r == containerList || r == volumeList)
}

// roleOf returns the role of the value of a key, in a map whose role is parent.
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

// pointer returns the pointer to the current node, or to the text that contains it. It returns ""
// if the budget of the application is used up.
func (w *walker) pointer() string {
	path := w.path
	if w.embedded > 0 {
		path = path[:w.outer]
	}
	pointer, _ := w.budget.pointer(w.file.Name, len(w.object), "", path)
	return pointer
}

// enter appends a pointer to the path.
func (w *walker) enter(pointer string) {
	for _, key := range strings.Split(pointer, "/")[1:] {
		w.path = append(w.path, manifests.UnescapePointer(key))
	}
}

// in calls walk with a key or index appended to the path.
func (w *walker) in(key string, walk func()) {
	w.path = append(w.path, key)
	walk()
	w.path = w.path[:len(w.path)-1]
}

// inAll calls walk with a relative pointer appended to the path.
func (w *walker) inAll(pointer string, walk func()) {
	before := len(w.path)
	w.enter("/" + strings.TrimPrefix(pointer, "/"))
	walk()
	w.path = w.path[:before]
}

// below returns the scope of the value of a key or index of parent.
func (w *walker) below(s scope, parent *manifests.Node, key string) scope {
	child := scope{ignored: s.ignored, reason: s.reason, builtin: s.builtin, machine: s.machine, near: s.near}
	if len(s.places) > 0 {
		child.places = w.step(s.places, key)
	}
	return w.settled(child, parent)
}

// step returns the places below a key, or none if the budget of the application is used up.
func (w *walker) step(places []place, key string) []place {
	cost := 0
	for _, p := range places {
		cost += p.cost
	}
	if !w.budget.looks.take(w.file.Name, cost) {
		return nil
	}
	return enter(places, key)
}

// settled returns the scope of a value in parent, after the entries that ignore the value.
func (w *walker) settled(s scope, parent *manifests.Node) scope {
	for _, p := range s.places {
		if p.reached() && p.Ignore && p.index < s.ignored && w.fits(p.field, parent) {
			s.ignored, s.reason = p.index, cmp.Or(p.Reason, notRun)
			w.use(p.field)
		}
	}
	return s
}

// mentioning returns the scope for values that only mention images.
func (s scope) mentioning(reason string) scope {
	if s.ignored > allIgnored {
		s.ignored, s.reason = allIgnored, reason
	}
	return s
}

// notRun is the reason for something that is not an image to run if no more specific reason is
// known.
const notRun = "not an image to run"

// resource walks an object, except for its type and metadata. In status, which clusters write,
// and in CustomResourceDefinitions, only PodSpecs are used. places are the catalogue entries for
// the object in the document that contains it.
func (w *walker) resource(o manifests.Object, places ...place) {
	group := o.Group()
	before := *w
	first, mentions := len(w.out.references), len(w.out.mentions)
	defer func() {
		w.leaveMade(first, mentions)
		w.workload, w.pods, w.root, w.uses, w.parameters, w.sealed = before.workload, before.pods, before.root, before.uses, before.parameters, before.sealed
	}()
	w.workload, w.root, w.parameters = workload(group), o.Node, nil
	w.pods = w.pods || o.Nested && holdsPod(o.Node) || w.workload && runsPods[o.Kind]
	w.sealed = cmp.Or(w.sealed, sealed(o.Node))
	if isTekton(group) || group == "argoproj.io" {
		if w.uses == nil {
			w.uses = &uses{run: map[string]bool{}, used: map[string]bool{}}
			w.uses.find(o.Node, "")
		}
		w.parameters = &parameters{uses: w.uses, unknown: isTekton(group)}
	}
	definition := o.Kind == "CustomResourceDefinition" && group == "apiextensions.k8s.io"
	s := w.settled(scope{ignored: nothingIgnored, builtin: slices.Contains(w.catalogue.Served, group), places: append(slices.Clone(places), w.catalogue.begin(group, o.Kind)...)}, nil)
	binary := ""
	switch {
	case group == "" && o.Kind == "Secret":
		binary = "data"
	case group == "" && o.Kind == "ConfigMap":
		binary = "binaryData"
	}
	for i := range o.Fields {
		key, value := o.Fields[i].Key, &o.Fields[i].Value
		child := w.below(s, o.Node, key)
		child.role = roleOf(key, noRole)
		w.in(key, func() {
			switch key {
			case "apiVersion", "kind":
			case "items":
				w.items(&o, value, child)
			case "metadata":
				w.annotations(value.Get("annotations"), w.below(child, value, "annotations"))
			case binary:
				w.base64(value)
			default:
				child.pairs = group == "" && (o.Kind == "ConfigMap" && key == "data" || o.Kind == "Secret" && key == "stringData")
				if definition || key == "status" {
					child = child.mentioning("")
				}
				w.node(value, o.Node, key, child)
			}
			if definition && key == "spec" {
				w.defaults(value, key, false)
			}
		})
	}
}

// ofSchema is the reason why the default in a schema is not pinned.
const ofSchema = "a default in a schema, which may restrict what it can be"

// defaults records the images that a schema sets as defaults of fields, which the API server
// fills in. If a name has no tag, the tag may be in another field. name is the name of the field
// that n describes. properties reports that n contains the schemas of fields.
func (w *walker) defaults(n *manifests.Node, name string, properties bool) {
	visit := func(key, name string, value *manifests.Node, properties bool) {
		w.in(key, func() { w.defaults(value, name, properties) })
	}
	for i := range n.Items {
		visit(strconv.Itoa(i), name, &n.Items[i], false)
	}
	for i := range n.Fields {
		key, value := n.Fields[i].Key, &n.Fields[i].Value
		switch {
		case properties:
			visit(key, key, value, false)
		case key != "default":
			visit(key, name, value, key == "properties")
		case value.Kind != manifests.Scalar || value.Text() != "":
			first := len(w.out.references)
			w.in(key, func() { w.node(value, nil, name, scope{ignored: nothingIgnored, near: near{levels: levelsBelow}}) })
			for j := range w.out.references[first:] {
				f := &w.out.references[first+j]
				f.Class, f.Never = images.Indirect, cmp.Or(f.Never, ofSchema)
			}
		}
	}
}

func isTekton(group string) bool { return group == "tekton.dev" || group == "triggers.tekton.dev" }

// runsPods are the kinds of Kubernetes that contain a PodSpec.
var runsPods = set("Pod PodTemplate ReplicationController ReplicaSet Deployment StatefulSet DaemonSet Job CronJob")

// holdsPod reports whether a map is the template of a pod, or contains one. An apiVersion and
// kind in it have no meaning.
func holdsPod(n *manifests.Node) bool {
	spec := n.Get("spec")
	return slices.ContainsFunc([]*manifests.Node{spec, spec.Get("template").Get("spec")}, func(pod *manifests.Node) bool {
		containers := pod.Get("containers")
		return containers != nil && containers.Kind == manifests.List
	})
}

// items walks the items of an object that are not objects themselves.
func (w *walker) items(o *manifests.Object, n *manifests.Node, s scope) {
	if n.Kind != manifests.List || o.Nested {
		w.node(n, o.Node, "items", s)
		return
	}
	for i := range n.Items {
		if item := &n.Items[i]; !o.Unfolded(item) {
			index := strconv.Itoa(i)
			w.in(index, func() { w.node(item, nil, "", w.below(s, n, index)) })
		}
	}
}

// annotations walks the annotations of an object.
func (w *walker) annotations(n *manifests.Node, s scope) {
	if n == nil {
		return
	}
	s.builtin = true
	w.in("annotations", func() { w.node(n, nil, "annotations", s) })
}

// base64 walks the values in the data of a Secret. Images in them are copied, but cannot be
// pinned.
func (w *walker) base64(n *manifests.Node) {
	for i := range n.Fields {
		key, value := n.Fields[i].Key, &n.Fields[i].Value
		if value.Kind != manifests.Scalar { // clusters reject such a Secret
			w.in(key, func() { w.node(value, n, key, scope{ignored: allIgnored, role: roleOf(key, noRole)}) })
			continue
		}
		data, err := base64.StdEncoding.DecodeString(value.Text())
		if err != nil || !utf8.Valid(data) {
			continue
		}
		w.name, w.near = key, near{}
		w.in(key, func() {
			w.text(string(data), labelOf(key), nil, value, func() *manifests.Text {
				return w.doc.Scalar(value).Decoded(string(data))
			})
		})
	}
}

// node walks a value. parent is the map that contains it under key, or that contains the list
// that contains it.
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
	// In a PodSpec, something that looks like an object is not one.
	if o, ok := manifests.Nested(n, ""); ok && s.role == noRole && s.ignored == nothingIgnored {
		w.resource(o)
		return
	}
	s.pairs = s.pairs || name == "annotations"
	split := w.split(n, name, s)
	if hasAny(n, "env") {
		defer func(become map[*manifests.Node]string, known map[string]string) { w.become, w.known = become, known }(w.become, w.known)
		w.become, w.known = variables(n)
	}
	if !s.builtin || s.pairs {
		s.near = s.near.of(n, split)
	}
	promise := max(s.label, labelOf(name))
	tested, onMachine := isTest(n), hasAny(n, machineKeys...)
	for i := range n.Fields {
		key, value := n.Fields[i].Key, &n.Fields[i].Value
		if split[value] || s.taken[value] {
			continue
		}
		child := w.below(s, n, key)
		switch {
		case notLooked[key]:
			child = child.mentioning("")
		case name == "annotations" && w.catalogue.Notes.match(key):
			child = child.mentioning(compared)
		case tested && (key == "value" || key == "values"), conditions[key], queries[key] && value.Kind == manifests.Scalar:
			child = child.mentioning(condition)
		case key == "items" && n.Get("list").Text() != "": // rules of Falco
			child = child.mentioning(compared)
		case child.placed():
		case child.ignored == nothingIgnored && (isCompareList(key) || comparedTo[name] && labelOf(key) == namesMany):
			child = child.mentioning(compared)
		case !s.builtin && (pushTo[name] && labelOf(key) >= namesOne || (pushTo[key] || isDestination(key, n, w.path)) && value.Kind == manifests.Scalar):
			child = child.mentioning(pushed)
		default:
			if reason := reasonOfName(key); reason != "" {
				child = child.mentioning(reason)
			}
		}
		child.machine = !s.builtin && key != "container" && (child.machine || isMachine(key) || onMachine && isBareImage(key))
		if promise >= namesMany || promise == namesOne && holdsReference[key] {
			child.label = namesOne // images: {worker: x}, and image: {reference: x}
		}
		child.role = roleOf(key, s.role)
		switch {
		case child.role != containerImage || s.ignored == allIgnored || w.pods || w.catalogue.isUsers(child.ignored):
		case s.ignored == nothingIgnored:
			child.ignored = nothingIgnored // entries for machines do not apply to containers
		default:
			w.in(key, func() { w.mention(value, child.reason) }) // such as the pattern of a policy
			continue
		}
		child.builtin = child.builtin || s.role == volume && child.role == noRole
		w.in(key, func() { w.node(value, n, key, child) })
	}
}

// placed reports whether the catalogue has an entry for a reference at this place.
func (s scope) placed() bool {
	return slices.ContainsFunc(s.places, func(p place) bool { return p.reached() && p.index < s.ignored && !p.Ignore && p.Parts == nil })
}

// holdsReference are the keys of a map called image that contain a whole reference.
var holdsReference = set("reference ref name url uri image")

// conditions are keys of expressions that compare images.
var conditions = set("condition conditions expr rego matchConditions preconditions when unless")

// queries are keys of texts that select objects by image.
var queries = set("query filter")

// notLooked are the keys that are not searched: of schemas, prose and Knative's examples in
// ConfigMaps, which only mention images; of labels and selectors, which cannot contain
// references; and of Ceph's block devices, whose image is not a container image.
var notLooked = set("openAPIV3Schema description longDescription summary documentation _example labels matchLabels nodeSelector selector rbd")

func (w *walker) list(n *manifests.Node, key string, s scope) {
	promise := max(s.label, labelOf(key))
	name := "" // name of the preceding flag
	if !s.placed() {
		s.pairs = true // names and values, like env
	}
	split := w.split(n, key, s)
	if below := s.near.of(n, split); below.levels == levelsBelow { // variables
		s.near = below
	}
	defer func(given func(string) (string, bool), flag string) { w.given, w.flag = given, flag }(w.given, w.flag)
	given := flags(n)
	var tool verbs
	for i := range n.Items {
		item := &n.Items[i]
		index := strconv.Itoa(i)
		w.given, w.flag = nil, ""
		if item.Kind == manifests.Scalar {
			w.given, w.flag = given, name
		}
		child := w.below(s, n, index)
		child.label, child.taken = noLabel, split
		if reason := reasonOfFlag(name); reason != "" {
			child = child.mentioning(reason)
		} else if name == "-d" && builds(n, given) {
			child = child.mentioning(pushed)
		} else if reason := tool.next(item); reason != "" {
			child = child.mentioning(reason)
		}
		switch {
		case s.role == containerList && item.Kind == manifests.Map:
			child.role = container
		case s.role == volumeList && item.Kind == manifests.Map:
			child.role = volume
		case item.Kind == manifests.Scalar && promise >= namesMany:
			child.label = namesOne
		case name != "":
			child.label = labelOf(name) // --image, nginx
		}
		w.in(index, func() { w.node(item, nil, "", child) })
		name = flagOf(item.Text())
	}
}

// builds reports whether arguments are for kaniko, whose -d is the destination.
func builds(n *manifests.Node, given func(flat string) (string, bool)) bool {
	if slices.ContainsFunc(n.Items, func(item manifests.Node) bool { return item.Text() == "run" }) {
		return false
	}
	return slices.ContainsFunc([]string{"dockerfile", "destination", "context", "f"}, func(flag string) bool { _, ok := given(flag); return ok })
}

// flagOf returns arg if it is a flag whose value is the next argument, or "".
func flagOf(arg string) string {
	if strings.HasPrefix(arg, "-") && !strings.ContainsAny(arg, "= \n") {
		return arg
	}
	return ""
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
	if !n.IsString() {
		return
	}
	for _, p := range s.places {
		if p.reached() && p.index < s.ignored && p.Parts == nil && !p.Ignore && w.fits(p.field, parent) && p.takes(n.Value) {
			w.use(p.field)
			w.image(n, key, images.CRD, p.field)
			return
		}
	}
	if s.ignored != nothingIgnored {
		w.mention(n, s.reason)
		return
	}
	promise := labelOf(key)
	w.name, w.near = key, s.near
	switch {
	case (key == "value" || key == "default" || key == "defaultValue") && parent != nil:
		name := cmp.Or(parent.Get("name").Text(), parent.Get("key").Text(), path.Base(parent.Get("path").Text()))
		if reason := w.reasonOfValue(name); reason != "" {
			w.mention(n, reason)
			return
		}
		promise, w.name = max(promise, labelOf(name)), name
	case s.machine:
		promise, s.label = notImage, notImage
	case !s.builtin && max(promise, s.label) >= namesOne && w.guess(n, parent, key, s.near):
		return
	}
	if value, ok := w.become[n]; ok {
		w.expanded(n, value, max(promise, s.label))
	}
	first := len(w.out.references)
	w.text(n.Value, max(promise, s.label), s.places, n, func() *manifests.Text { return w.doc.Scalar(n) })
	if !s.builtin && parent != nil && w.name == key && max(promise, s.label) < mentions {
		for i := first; i < len(w.out.references); i++ {
			if f := &w.out.references[i]; f.uses > 1 && f.Value == n.Value {
				f.Never = cmp.Or(f.Never, repeatedHere)
			}
		}
	}
}

// repeatedHere is the reason why a reference that is recognised only by its form is not pinned if
// it has an anchor.
const repeatedHere = "a YAML anchor repeats it, and the name of this field does not say that it is an image; write it out where it is one"

// reasonOfValue returns the reason why the value of a variable or parameter with this name is
// not an image to run, or "".
func (w *walker) reasonOfValue(name string) string {
	reason := reasonOfName(name)
	if words := splitWords(name); reason == "" && len(words) > 0 && pushNames[words[len(words)-1]] {
		return pushed
	}
	if reason == "" && isCompareList(name) {
		return compared
	}
	if reason == "" && isBareImage(name) && w.parameters.notRun(name) {
		return parameter
	}
	return reason
}

// fits reports whether When and Unless of a field match a map.
func (w *walker) fits(f *field, parent *manifests.Node) bool {
	if f.Unless != "" && slices.ContainsFunc(strings.Split(f.Unless, "|"), func(key string) bool { return w.get(parent, key) != nil }) {
		return false
	}
	for key, value := range f.When {
		node := w.get(parent, key)
		if strings.HasPrefix(key, "/") {
			node = w.at(w.root, key)
		}
		if text := node.Text(); len(text) > maxPart || !patterns(strings.Split(value, "|")).match(text) {
			return false
		}
	}
	return true
}

// use records that a field of the user matched something.
func (w *walker) use(f *field) {
	if w.catalogue.isUsers(f.index) {
		w.budget.fields.Store(f.index, true)
	}
}

// takes reports whether Scheme and Behind of a field match a value.
func (f *field) takes(value string) bool {
	return (f.Scheme == "" || strings.HasPrefix(strings.TrimSpace(value), f.Scheme+"://")) && strings.Contains(value, f.Behind)
}

// image adds the value of a field that is known to contain a reference. It also adds a value
// that is neither a reference nor a placeholder: resolve reports an error with its location.
func (w *walker) image(n *manifests.Node, key string, class images.Class, f *field) {
	value := n.Value
	if n.Kind != manifests.Scalar || n.Type != manifests.String && n.Type != manifests.Null && class != images.Pod {
		return // readers of YAML disagree on whether this is a number or a string
	}
	if n.Type == manifests.Null {
		value = ""
	}
	trimmed := strings.TrimSpace(value)
	from := strings.Index(value, trimmed)
	if f != nil {
		if f.Behind != "" {
			from += strings.Index(trimmed, f.Behind) + len(f.Behind)
			trimmed = strings.TrimSpace(value[from:])
			from = len(value) - len(strings.TrimLeft(value[from:], " \t"))
		}
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
	if key == "url" && !w.catalogue.plausible(trimmed, namesOne) || f != nil && strings.Contains(trimmed, "://") && !strings.HasPrefix(trimmed, "ko://") {
		return // not an image: https://…, s3://…
	}
	if isPlaceholder(trimmed) {
		w.placeholder(n, strings.TrimSpace(value), class, "")
		return
	}
	name, ok := normalise(trimmed)
	if !ok && w.embedded > 0 {
		return
	}
	w.add(found{name: name, Location: images.Location{Class: class, Value: trimmed}}, n, w.doc.Scalar(n), from, from+len(trimmed), f)
}

// guess adds the value of a field of a custom resource whose name announces a reference. It
// returns false if the value does not look like one; it is then searched as text.
func (w *walker) guess(n, parent *manifests.Node, key string, near near) bool {
	value := strings.TrimSpace(n.Value)
	if isPlaceholder(value) && (value == "" || value == "auto" || strings.ContainsAny(value, "${}<>") || strings.HasPrefix(value, "ko://")) {
		w.placeholder(n, value, images.CRD, "")
		return true
	}
	if !w.catalogue.plausible(value, namesOne) && (key != "image" || w.loose || !w.ofContainer(value, parent)) {
		return false
	}
	name, ok := normalise(value)
	if !ok {
		return false
	}
	if near.open(key, value) {
		w.placeholder(n, value, images.CRD, openTag)
		return true
	}
	from := strings.Index(n.Value, value)
	w.add(found{name: name, Location: images.Location{Class: images.CRD, Value: value}}, n, w.doc.Scalar(n), from, from+len(value), nil)
	return true
}

// ofContainer reports whether a short value is an image: any name with a tag, or a bare word in a
// map that describes a container.
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

// placeholder records a value that something else replaces. In embedded documents, it records
// only values with a reason.
func (w *walker) placeholder(n *manifests.Node, value string, class images.Class, reason string) {
	text := w.doc.Scalar(n)
	w.placeholderAt(text, max(0, strings.Index(text.String, value)), value, class, reason)
}

// placeholderAt is like placeholder, for a value at an index of a text.
func (w *walker) placeholderAt(text *manifests.Text, from int, value string, class images.Class, reason string) {
	if w.embedded > 0 && reason == "" {
		return
	}
	span := text.Span(from, from+len(value))
	w.out.placeholders = append(w.out.placeholders, located[images.Placeholder]{
		images.Placeholder{Pod: class == images.Pod, Value: value, Reason: reason, File: w.file.Name, Pointer: w.pointer(), Object: w.object},
		span.Offset,
	})
}

// encoded is the reason why a reference in base64 is not pinned.
const encoded = "it is encoded, and cannot be edited where it stands"

// add adds a reference at text[i:j]. text is the text of n.
func (w *walker) add(f found, n *manifests.Node, text *manifests.Text, i, j int, by *field) {
	span := text.Span(i, j)
	f.Offset, f.Length = span.Offset, span.Length
	if !span.Exact {
		f.Length, f.Never = 0, encoded
	}
	f.NoTag = strings.HasSuffix(text.String[:i], containersImage)
	f.uses = w.usesOf(n)
	if i == 0 && j == len(text.String) {
		f.Alias = w.alias(n)
	}
	w.addFound(f, by)
}

// usesOf returns the number of fields in the file that share the text of a scalar.
func (w *walker) usesOf(n *manifests.Node) int { return max(w.repeated, 1) * w.doc.Uses(n) }

// alias returns the position of the alias for a node, or nil if there is none that could be
// replaced.
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
	f.Never = cmp.Or(f.Never, w.sealed)
	if w.embedded > 0 {
		f.Class = images.Indirect
	}
	f.KeepTag = f.Class != images.Pod || !w.workload
	f.File, f.Document, f.Object, f.Pointer = w.file.Name, w.document, w.object, w.pointer()
	w.out.references = append(w.out.references, f)
}
