// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"strconv"
	"strings"
)

// Object is a Kubernetes object in a document.
type Object struct {
	*Node
	// Pointer to it in the document (RFC 6901): "", or /items/3 in a List.
	Pointer string
	// APIVersion and Kind. An item of a typed list (ConfigMapList) that has none
	// of its own gets what the list says.
	APIVersion, Kind string
	Namespace, Name  string
	// Generated is metadata.generateName.
	Generated string
}

// Group is the API group: "apps" of apps/v1, "" of v1.
func (o *Object) Group() string {
	group, _, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// String is "apps/v1 Deployment podinfo".
func (o *Object) String() string {
	name := o.Name
	if name == "" {
		name = o.Generated
	}
	return strings.TrimSpace(o.APIVersion + " " + o.Kind + " " + name)
}

// Offset is where in the file the node begins.
func (d *Document) Offset(n *Node) int { return d.text.Span(int(n.at), int(n.at)).Offset }

// Empty says that the document holds nothing: comments at most.
func (d *Document) Empty() bool { return d.Root.Kind == Scalar && d.Root.Type == Null }

// Objects are the Kubernetes objects in the document. Lists are unfolded,
// whatever their kind and however deep; null items are left out. Where the
// document is no Kubernetes object, reason says what it is instead.
func (d *Document) Objects() (objects []Object, reason string) {
	apiVersion, kind := d.Root.Get("apiVersion").Text(), d.Root.Get("kind").Text()
	if apiVersion == "" || kind == "" {
		return nil, "not a Kubernetes object"
	}
	if tool := consumer(apiVersion, kind); tool != "" {
		return nil, ReadBy(tool)
	}
	return appendObjects(nil, &d.Root, "", apiVersion, kind), ""
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
	return o, o.APIVersion != "" && o.Kind != ""
}

func appendObjects(out []Object, n *Node, pointer, apiVersion, kind string) []Object {
	o := object(n, pointer, apiVersion, kind)
	items := n.Get("items")
	element, isList := strings.CutSuffix(o.Kind, "List")
	if !isList || items == nil && element != "" {
		return append(out, o)
	}
	if items == nil || items.Kind != List {
		return out // a list of nothing
	}
	itemVersion := o.APIVersion
	if element == "" {
		itemVersion = ""
	}
	for i := range items.Items {
		if item := &items.Items[i]; item.Kind == Map {
			out = appendObjects(out, item, pointer+"/items/"+strconv.Itoa(i), itemVersion, element)
		}
	}
	return out
}

// object reads who an object is; apiVersion and kind are what it is where it
// does not say.
func object(n *Node, pointer, apiVersion, kind string) Object {
	o := Object{Node: n, Pointer: pointer, APIVersion: n.Get("apiVersion").Text(), Kind: n.Get("kind").Text()}
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
	if apiVersion == "v1" && kind == "Config" {
		return "kubectl"
	}
	group, _, _ := strings.Cut(apiVersion, "/")
	switch group {
	case "kustomize.config.k8s.io", "builtin":
		return "kustomize"
	case "kubeadm.k8s.io":
		return "kubeadm"
	case "kubelet.config.k8s.io", "kubescheduler.config.k8s.io", "kubeproxy.config.k8s.io",
		"kubecontrollermanager.config.k8s.io", "apiserver.config.k8s.io", "audit.k8s.io":
		return "a component of Kubernetes"
	case "client.authentication.k8s.io":
		return "kubectl"
	case "kind.x-k8s.io":
		return "kind"
	case "k3d.io":
		return "k3d"
	case "ctlptl.dev":
		return "ctlptl"
	case "skaffold":
		return "Skaffold"
	case "kpt.dev":
		return "kpt"
	case "kbld.k14s.io", "vendir.k14s.io", "imgpkg.carvel.dev", "kapp.k14s.io":
		return "Carvel's tools"
	case "tape":
		return "tape"
	}
	return ""
}
