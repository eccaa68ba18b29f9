// SPDX-License-Identifier: Apache-2.0

// Package credentials finds credentials in plain text in Kubernetes objects: all values of a
// Secret, and elsewhere values that look like credentials.
//
// A value looks like a credential by its form (a private key, the token of a known service, a URL
// with a password) or by its name: password: x, and token: x if x looks random. Names are those
// of fields, variables and flags, and those in assignments in a text, such as a file in a
// ConfigMap or a script. It is more important to report only credentials than to report all of
// them: users switch off a warning that is mostly wrong.
//
// Each check takes linear time.
package credentials

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/taped-dev/tape/stages/manifests"
)

// Hidden is shown instead of a credential.
const Hidden = "(hidden)"

// Found is a credential in an object.
type Found struct {
	// Key names the value for people: the key in a Secret or ConfigMap, the name of a variable or
	// field.
	Key string
	// What describes the credential, without its value: "a private key".
	What string
	// Path has the keys and indexes of the field in the object. It is valid until visit returns.
	Path []string
	// Span is the position of the value.
	Span manifests.Span
}

// In calls visit for the credentials in an object, in order, until visit returns false.
func In(doc *manifests.Document, o manifests.Object, visit func(Found) bool) {
	w := walker{doc: doc, visit: visit}
	w.object(o)
}

// walker visits the values of an object.
type walker struct {
	doc   *manifests.Document
	visit func(Found) bool
	path  []string
	done  bool
}

// in calls walk for the value of a key.
func (w *walker) in(key string, walk func()) {
	w.path = append(w.path, key)
	walk()
	w.path = w.path[:len(w.path)-1]
}

// object walks an object. A value that sops left in plain text was not meant to be encrypted, and
// the values of a SealedSecret are encrypted. A CustomResourceDefinition has no values, and the
// cluster writes the status.
func (w *walker) object(o manifests.Object) {
	group := o.Group()
	switch {
	case o.Get("sops").Get("mac") != nil,
		o.Kind == "CustomResourceDefinition" && group == "apiextensions.k8s.io":
		return
	}
	core := group == ""
	for i := range o.Fields {
		key, value := o.Fields[i].Key, &o.Fields[i].Value
		w.in(key, func() {
			switch {
			case core && o.Kind == "Secret" && (key == "data" || key == "stringData"):
				w.secret(value, key == "data")
			case core && o.Kind == "ConfigMap" && key == "binaryData":
				w.binary(value)
			case key == "apiVersion", key == "kind", key == "status":
			case key == "metadata":
				if notes := value.Get("annotations"); notes != nil {
					w.in("annotations", func() { w.node(notes, "annotations") })
				}
			case key == "items":
				w.items(&o, value)
			default:
				w.node(value, key)
			}
		})
	}
}

// items walks the items of an object that are not objects themselves.
func (w *walker) items(o *manifests.Object, n *manifests.Node) {
	if n.Kind != manifests.List || o.Nested {
		w.node(n, "items")
		return
	}
	for i := range n.Items {
		if item := &n.Items[i]; !o.Unfolded(item) {
			w.in(strconv.Itoa(i), func() { w.node(item, "") })
		}
	}
}

// secret walks the values of a Secret. Each is a credential unless it is public or a placeholder.
func (w *walker) secret(n *manifests.Node, encoded bool) {
	for i := range n.Fields {
		key, value := n.Fields[i].Key, &n.Fields[i].Value
		if value.Kind != manifests.Scalar || value.Type == manifests.Null {
			continue
		}
		text := value.Value
		if encoded {
			if decoded, err := base64.StdEncoding.DecodeString(text); err == nil && utf8.Valid(decoded) {
				text = string(decoded)
			}
		}
		if isPublic(text) {
			continue
		}
		what := "a value"
		each(key, text, func(hit Hit) bool {
			if hit.Name == "" {
				what = hit.What
			}
			return hit.Name != ""
		})
		w.in(key, func() { w.found(key, what, w.doc.Scalar(value), 0, len(value.Value)) })
	}
}

// binary walks the base64 values of a ConfigMap.
func (w *walker) binary(n *manifests.Node) {
	for i := range n.Fields {
		key, value := n.Fields[i].Key, &n.Fields[i].Value
		decoded, err := base64.StdEncoding.DecodeString(value.Text())
		if err != nil || !utf8.Valid(decoded) {
			continue
		}
		w.in(key, func() {
			each(key, string(decoded), func(hit Hit) bool {
				w.found(key, hit.String(), w.doc.Scalar(value), 0, len(value.Value))
				return false
			})
		})
	}
}

// node walks a value. name is its key.
func (w *walker) node(n *manifests.Node, name string) {
	if w.done {
		return
	}
	switch n.Kind {
	case manifests.Map:
		w.mapping(n)
	case manifests.List:
		w.list(n)
	case manifests.Scalar:
		w.scalar(n, name)
	}
}

// unread are keys of fields that describe values instead of containing them.
var unread = map[string]bool{
	"openAPIV3Schema": true, "description": true, "labels": true, "matchLabels": true, "selector": true,
	"encryptedData": true, "caBundle": true,
}

func (w *walker) mapping(n *manifests.Node) {
	if o, ok := manifests.Nested(n, ""); ok {
		w.object(o)
		return
	}
	named := n.Get("name").Text()
	for i := range n.Fields {
		key, value := n.Fields[i].Key, &n.Fields[i].Value
		if unread[key] {
			continue
		}
		name := key
		if key == "value" && named != "" {
			name = named // of a variable
		}
		w.in(key, func() { w.node(value, name) })
	}
}

// list walks a list, which may be the arguments of a program.
func (w *walker) list(n *manifests.Node) {
	flag := ""
	for i := range n.Items {
		item := &n.Items[i]
		w.in(strconv.Itoa(i), func() { w.node(item, flag) })
		flag = flagOf(item.Text())
	}
}

// flagOf returns the name of a flag whose value is the next argument, or "".
func flagOf(arg string) string {
	if strings.HasPrefix(arg, "-") && !strings.ContainsAny(arg, "= \n") {
		return strings.TrimLeft(arg, "-")
	}
	return ""
}

func (w *walker) scalar(n *manifests.Node, name string) {
	if !n.IsString() {
		return
	}
	var text *manifests.Text
	each(name, n.Value, func(hit Hit) bool {
		if text == nil {
			text = w.doc.Scalar(n)
		}
		w.found(name, hit.String(), text, hit.From, hit.To)
		return !w.done
	})
}

// found reports a part of the text of a scalar.
func (w *walker) found(key, what string, text *manifests.Text, from, to int) {
	if w.done {
		return
	}
	if key == "" {
		key = w.path[len(w.path)-1]
	}
	if len(key) > maxKey || strings.ContainsFunc(key, unicode.IsControl) {
		key = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return '?'
			}
			return r
		}, strings.ToValidUTF8(key[:min(len(key), maxKey)], "?"))
	}
	w.done = !w.visit(Found{Key: key, What: what, Path: w.path, Span: text.Span(from, to)})
}

// maxKey is the maximum length of a key that is shown.
const maxKey = 128

// Hit is a credential in a text.
type Hit struct {
	// What describes it: "a private key".
	What string
	// Name is the name that the credential is assigned to in the text. It is "" if the credential
	// is recognised by its form, or is the whole text.
	Name string
	// From and To delimit the credential.
	From, To int
}

// String describes the hit.
func (h Hit) String() string {
	if h.Name == "" {
		return h.What
	}
	return h.What + ", " + h.Name
}

// replace replaces the credentials in text, which is the value of name.
func replace(name, text string, by func(credential string) string) string {
	var b strings.Builder
	at := 0
	each(name, text, func(hit Hit) bool {
		b.WriteString(text[at:hit.From])
		b.WriteString(by(text[hit.From:hit.To]))
		at = hit.To
		return true
	})
	if b.Len() == 0 {
		return text
	}
	return b.String() + text[at:]
}

// Replace replaces the credentials in a value of a decoded JSON object by the results of a
// function. It changes the value in place.
func Replace(v any, by func(credential string) string) any { return replaceIn("", v, by) }

func replaceIn(name string, v any, by func(string) string) any {
	switch v := v.(type) {
	case string:
		return replace(name, v, by)
	case []any:
		flag := ""
		for i, item := range v {
			v[i] = replaceIn(flag, item, by)
			flag = ""
			if text, ok := item.(string); ok {
				flag = flagOf(text)
			}
		}
	case map[string]any:
		named, _ := v["name"].(string)
		for key, value := range v {
			switch {
			case unread[key]:
			case (key == "data" || key == "stringData") && v["kind"] == "Secret" && v["apiVersion"] == "v1":
				data, _ := value.(map[string]any)
				for key, value := range data {
					if text, ok := value.(string); ok {
						data[key] = by(text)
					}
				}
			case key == "value" && named != "":
				v[key] = replaceIn(named, value, by)
			default:
				v[key] = replaceIn(key, value, by)
			}
		}
	}
	return v
}

// each calls visit for the credentials in text, which is the value of name, in order, until visit
// returns false. The credentials do not overlap.
func each(name, text string, visit func(Hit) bool) {
	if len(text) < shortest {
		return
	}
	class := classOf(name)
	if class != ordinary {
		if value := strings.TrimSpace(text); !strings.Contains(value, "\n") && class.takes(value) {
			from := strings.Index(text, value)
			visit(Hit{What: class.what(), From: from, To: from + len(value)})
			return
		}
	}
	hits := formed(text)
	hits = append(hits, assigned(text)...)
	if len(hits) == 0 {
		return
	}
	slices.SortStableFunc(hits, func(a, b Hit) int { return a.From - b.From })
	at := 0
	for _, hit := range hits {
		if hit.From < at {
			continue
		}
		at = hit.To
		if !visit(hit) {
			return
		}
	}
}

// shortest is the length of the shortest text that is examined.
const shortest = 2
