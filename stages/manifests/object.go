// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"slices"
	"strconv"
	"strings"
)

// Object is a Kubernetes object in a document.
type Object struct {
	*Node
	above string // pointer to what it stands in: items of a list share it
	item  int32  // of that one's items, counted from 1; 0: above leads to the object
	// APIVersion and Kind. An item of a typed list (ConfigMapList) that has none
	// of its own gets what the list says.
	APIVersion, Kind string
	Namespace, Name  string
	// Generated is metadata.generateName.
	Generated string
	// Nested says that it stands in another object, somewhere but in its items.
	Nested bool
}

// Group is the API group: "apps" of apps/v1, "" of v1.
func (o *Object) Group() string {
	group, _, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// Pointer leads to the object in the document (RFC 6901): "", or /items/3 in a List.
func (o *Object) Pointer() string {
	if o.item == 0 {
		return o.above
	}
	return o.above + "/items/" + strconv.Itoa(int(o.item)-1)
}

// String is "apps/v1 Deployment podinfo".
func (o *Object) String() string {
	name := o.Name
	if name == "" {
		name = o.Generated
	}
	return strings.TrimSpace(o.APIVersion + " " + o.Kind + " " + name)
}

// Written is how many characters the text has that the document was parsed from.
func (d *Document) Written() int { return len(d.text.String) }

// Grown is how many characters the document has, with aliases and merge keys
// expanded: roughly, as a value counts as sixteen.
func (d *Document) Grown() int { return 16 * d.cost }

// Added is how many values aliases and merge keys add to what is written; a long
// text counts as several.
func (d *Document) Added() int { return d.grown }

// Offset is where in the file the node begins.
func (d *Document) Offset(n *Node) int { return d.text.Span(int(n.at), int(n.at)).Offset }

// Alias is where in the file the alias stands through which the node is used
// here: *name, from the asterisk to the end of the name. It is false where no
// alias of the node's own leads to it, and where the alias is itself repeated. Like
// Uses, it is not safe for use by several goroutines.
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

// Uses counts the places in the document, keys included, that hold the text of a
// scalar: more than one where aliases or merge keys repeat it. It is not safe for
// use by several goroutines.
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
			d.uses[-n.alias]++ // alias counts from 1, and so is not among the others
		}
	}
	for i := range n.Fields {
		d.count(&n.Fields[i].Value)
	}
	for i := range n.Items {
		d.count(&n.Items[i])
	}
}

// Empty says that the document holds nothing: comments at most.
func (d *Document) Empty() bool { return d.Root.Kind == Scalar && d.Root.Type == Null }

// Dispute is an error that names what different readers of YAML read differently
// in a document that a cluster may get; nil where they agree. A *[ParseError].
func (d *Document) Dispute() error {
	if d.dispute == nil || d.Root.Get("kind") == nil && d.Root.Get("items") == nil {
		return nil
	}
	return d.dispute
}

// Disputed reports whether readers of YAML disagree on what the document says, whatever
// it is; those that refuse it have no say.
func (d *Document) Disputed() bool { return d.dispute != nil && !d.dispute.repeats }

// Objects are the Kubernetes objects in the document. The items of any object are
// objects, however deep: kubectl asks only whether there are items. Null items are
// left out. Where the document is not a Kubernetes object and has none in it,
// reason says what it is instead.
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

// Unversioned is the document as an object, where nothing but apiVersion is missing:
// kubectl can be told to take that.
func (d *Document) Unversioned() (Object, bool) {
	o := object(&d.Root, "", "", "")
	return o, o.Kind != "" && o.APIVersion == ""
}

// ReadBy is why a document that a tool reads is no object.
func ReadBy(tool string) string { return "read by " + tool + ", not by a cluster" }

// Inner are the objects in a document that is none itself but a map or a list of
// objects, or of maps or lists of objects: what `cue export` prints, for example.
// No cluster takes such a document.
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

// EscapePointer makes a key an element of a JSON pointer.
func EscapePointer(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// UnescapePointer makes an element of a JSON pointer a key.
func UnescapePointer(element string) string {
	return strings.ReplaceAll(strings.ReplaceAll(element, "~1", "/"), "~0", "~")
}

// Nested is the node as an object, where it is one: has apiVersion and kind.
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
			return out // a list of nothing
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

// isObject reports whether a node is an object by itself, whatever it is an item of.
func (n *Node) isObject() bool { return n.Get("kind").Text() != "" }

// Unfolded reports whether an item of the object is an object of its own, which
// [Document.Objects] gives beside this one.
func (o *Object) Unfolded(item *Node) bool { return item.isObject() }

// object reads who an object is; apiVersion and kind are what it is where it
// does not say.
func object(n *Node, pointer, apiVersion, kind string) Object {
	o := Object{Node: n, above: pointer, APIVersion: n.Get("apiVersion").Text(), Kind: n.Get("kind").Text()}
	if o.APIVersion == "" {
		o.APIVersion = apiVersion
	}
	if o.Kind == "" {
		o.Kind = kind
	}
	metadata := n.Get("metadata")
	o.Namespace = metadata.Get("namespace").Text()
	o.Name = metadata.Get("name").Text()
	o.Generated = metadata.Get("generateName").Text()
	return o
}

// consumer names the tool whose own configuration this is: files that have
// apiVersion and kind, lie among manifests, and that no API server takes.
func consumer(apiVersion, kind string) string {
	group, _, grouped := strings.Cut(apiVersion, "/")
	switch {
	case !grouped && apiVersion == "v1" && kind == "Config":
		return "kubectl"
	case !grouped && apiVersion != "v1":
		// The core group has no other version. Talos, openshift-install and others
		// write versions of their own without a group.
		return "the tool that it configures"
	case !grouped:
		return ""
	}
	for _, t := range tools {
		if (t.group == group || strings.HasPrefix(t.group, "*.") && strings.HasSuffix(group, t.group[1:])) && (len(t.kinds) == 0 || slices.Contains(t.kinds, kind)) {
			return t.name
		}
	}
	return ""
}

// tools are those that read files which look like objects, by API group. Where a
// cluster serves other kinds of the group, the kinds are named.
var tools = []struct {
	name, group string
	kinds       []string
}{
	{"kustomize", "kustomize.config.k8s.io", nil},
	{"kustomize", "builtin", nil},
	{"ksops", "viaduct.ai", nil},
	{"kubectl", "client.authentication.k8s.io", nil},
	{"kubectl", "kubectl.config.k8s.io", nil},
	{"kubeadm", "kubeadm.k8s.io", nil},
	{"a component of Kubernetes", "kubelet.config.k8s.io", nil},
	{"a component of Kubernetes", "kubescheduler.config.k8s.io", nil},
	{"a component of Kubernetes", "kubeproxy.config.k8s.io", nil},
	{"a component of Kubernetes", "kubecontrollermanager.config.k8s.io", nil},
	{"a component of Kubernetes", "cloudcontrollermanager.config.k8s.io", nil},
	{"a component of Kubernetes", "credentialprovider.kubelet.k8s.io", nil},
	{"a component of Kubernetes", "apiserver.config.k8s.io", nil},
	{"a component of Kubernetes", "apiserver.k8s.io", nil},
	{"a component of Kubernetes", "*.admission.k8s.io", nil},
	{"a component of Kubernetes", "pod-security.admission.config.k8s.io", nil},
	{"a component of Kubernetes", "audit.k8s.io", []string{"Policy"}},
	{"the program that it configures", "controller-runtime.sigs.k8s.io", nil},
	{"the program that it configures", "config.kueue.x-k8s.io", nil},
	{"the program that it configures", "config.jobset.x-k8s.io", nil},
	{"the program that it configures", "config.lws.x-k8s.io", nil},
	{"eraser", "eraser.sh", []string{"EraserConfig"}},
	{"kind", "kind.x-k8s.io", nil},
	{"kwok", "config.kwok.x-k8s.io", nil},
	{"minikube", "minikube.sigs.k8s.io", nil},
	{"k3d", "k3d.io", nil},
	{"k0sctl", "k0sctl.k0sproject.io", nil},
	{"ctlptl", "ctlptl.dev", nil},
	{"eksctl", "eksctl.io", nil},
	{"kops", "kops.k8s.io", nil},
	{"KubeOne", "kubeone.k8c.io", nil},
	{"KubeOne", "kubeone.io", nil},
	{"clusterctl", "clusterctl.cluster.x-k8s.io", []string{"Metadata"}},
	{"openshift-install", "install.openshift.io", nil},
	{"oc-mirror", "mirror.openshift.io", nil},
	{"operator-sdk", "scorecard.operatorframework.io", nil},
	{"Backstage", "backstage.io", nil},
	{"Backstage", "scaffolder.backstage.io", nil},
	{"Skaffold", "skaffold", nil},
	{"Garden", "garden.io", nil},
	{"Tilt", "tilt.dev", nil},
	{"Tanka", "tanka.dev", nil},
	{"Score", "score.dev", nil},
	{"kpt", "kpt.dev", nil},
	{"kpt", "fn.kpt.dev", nil},
	{"Carvel's tools", "kbld.k14s.io", nil},
	{"Carvel's tools", "kbld.carvel.dev", nil},
	{"Carvel's tools", "vendir.k14s.io", nil},
	{"Carvel's tools", "imgpkg.carvel.dev", nil},
	{"Carvel's tools", "kapp.k14s.io", nil},
	{"Carvel's tools", "kctrl.carvel.dev", nil},
	{"Zarf", "zarf.dev", []string{"ZarfPackageConfig", "ZarfInitConfig"}},
	{"UDS", "uds.dev", []string{"UDSBundle"}},
	{"Hauler", "content.hauler.cattle.io", nil},
	{"Hauler", "collection.hauler.cattle.io", nil},
	{"Chainsaw", "chainsaw.kyverno.io", nil},
	{"the Kyverno CLI", "cli.kyverno.io", nil},
	{"KUTTL", "kuttl.dev", nil},
	{"KUTTL", "kudo.dev", []string{"TestSuite", "TestStep", "TestAssert"}},
	{"gator", "test.gatekeeper.sh", nil},
	{"krew", "krew.googlecontainertools.github.com", nil},
	{"the Crossplane CLI", "meta.pkg.crossplane.io", nil},
	{"the Upbound CLI", "meta.dev.upbound.io", nil},
	{"tape", "tape", nil},
}
