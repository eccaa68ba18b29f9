// SPDX-License-Identifier: Apache-2.0

package cue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/encoding/json"
	"cuelang.org/go/encoding/yaml"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// object is a Kubernetes object.
type object struct {
	folder string // that its file goes to
	at     string // path of the value in its package
	identity
	data []byte // YAML
}

// identity is what must not occur twice.
type identity struct{ apiVersion, kind, namespace, name string }

func (i identity) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", i.apiVersion, i.kind, strings.TrimPrefix(i.namespace+"/"+i.name, "/")))
}

// collector finds the objects in a value.
type collector struct {
	*source
	ctx     *cue.Context
	folder  string
	streams bool // strings are taken for streams of documents
	written bool // the values were read from a stream
	found   []object
	failed  problems
}

// collect goes through a value: an object is taken whole, lists and structs are
// searched. Definitions, hidden and optional fields are none of the output.
func (c *collector) collect(v cue.Value) {
	v, _ = v.Default()
	switch v.IncompleteKind() {
	case cue.BottomKind:
		c.failed.add(c.problems(v.Err()))
	case cue.StructKind:
		if id, ok := identify(v); ok {
			c.add(id, v)
			return
		}
		fields, err := v.Fields()
		if err != nil {
			c.failed.add(c.problems(err))
			return
		}
		for fields.Next() {
			c.collect(fields.Value())
		}
	case cue.ListKind:
		items, err := v.List()
		if err != nil {
			c.failed.add(c.problems(err))
			return
		}
		for items.Next() {
			c.collect(items.Value())
		}
	case cue.StringKind, cue.BytesKind:
		if c.streams {
			c.stream(v)
		}
	}
}

// identify says whether a value is an object, and which. One that has a kind and
// leaves its apiVersion open, or the other way round, is an object that is not
// complete.
func identify(v cue.Value) (identity, bool) {
	id := identity{
		apiVersion: text(v, "apiVersion"), kind: text(v, "kind"),
		namespace: text(v, "metadata.namespace"), name: text(v, "metadata.name"),
	}
	if id.name == "" {
		id.name = text(v, "metadata.generateName")
	}
	switch {
	case id.apiVersion == "":
		return id, id.kind != "" && open(v, "apiVersion")
	case id.kind == "":
		return id, open(v, "kind")
	}
	return id, true
}

// text is the string at a path, or "".
func text(v cue.Value, path string) string {
	v, _ = v.LookupPath(cue.ParsePath(path)).Default()
	s, _ := v.String() // whatever is no string is none
	return s
}

// open says whether a field is to be a string, and which one is not said.
func open(v cue.Value, field string) bool {
	v, _ = v.LookupPath(cue.ParsePath(field)).Default()
	return v.Exists() && v.IncompleteKind() == cue.StringKind && !v.IsConcrete()
}

// add takes an object.
func (c *collector) add(id identity, v cue.Value) {
	if err := v.Validate(cue.Concrete(true)); err != nil {
		c.failed.add(c.of(v, c.problems(err)))
		return
	}
	data, err := c.encode(v)
	if err != nil {
		c.failed.add(c.problems(err))
		return
	}
	c.take(object{folder: c.folder, at: v.Path().String(), identity: id, data: data})
}

// of puts mistakes that CUE places in a schema only at the object that has them.
func (c *collector) of(v cue.Value, found problems) problems {
	at := v.Pos()
	if !at.IsValid() || c.foreign(at.Filename()) {
		return found
	}
	for i, d := range found {
		if d.File == "" || !c.foreign(d.File) {
			continue
		}
		place := fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Column)
		if _, more, ok := strings.Cut(d.Detail, "see "); ok {
			d.Detail, place = strings.TrimSuffix(strings.TrimSuffix(d.Detail, "see "+more), "; "), place+", "+more
		}
		d.Detail = strings.TrimPrefix(d.Detail+"; see "+place, "; ")
		d.File, d.Line, d.Column = c.name(at.Filename()), at.Line(), at.Column()
		found[i] = d
	}
	return found
}

// encode writes a value as YAML. Bytes become base64, as CUE has them in JSON and
// Kubernetes in its objects: of !!binary kubectl would make what they decode to. In
// a stream that the source writes itself they stay as it wrote them.
func (c *collector) encode(v cue.Value) ([]byte, error) {
	if !c.written && hasBytes(v) {
		data, err := v.MarshalJSON()
		if err != nil {
			return nil, err
		}
		expr, err := json.Extract(v.Path().String(), data)
		if err != nil {
			return nil, err
		}
		v = c.ctx.BuildExpr(expr)
	}
	return yaml.Encode(v)
}

func hasBytes(v cue.Value) bool {
	found := false
	v.Walk(func(v cue.Value) bool {
		found = found || v.IncompleteKind() == cue.BytesKind
		return !found
	}, nil)
	return found
}

// take takes an object once, although it may stand in several places of a
// package, such as in a map and in a list made of it.
func (c *collector) take(o object) {
	if !holds(c.found, o) {
		c.found = append(c.found, o)
	}
}

// holds says whether an object is among others.
func holds(all []object, o object) bool {
	return slices.ContainsFunc(all, func(have object) bool { return have.identity == o.identity && bytes.Equal(have.data, o.data) })
}

// union adds objects of another package. A package below another one of its name
// has that one's objects too.
func union(all, more []object) []object {
	for _, o := range more {
		if !holds(all, o) {
			all = append(all, o)
		}
	}
	return all
}

// stream takes the objects in a string with YAML or JSON documents; a string that
// holds none is passed over.
func (c *collector) stream(v cue.Value) {
	data, err := v.Bytes()
	if err != nil {
		return // not concrete: what a task would fill in
	}
	at := v.Path().String()
	inner := collector{source: c.source, ctx: c.ctx, folder: c.folder, written: true}
	exprs, err := documents(yaml.NewDecoder(at, bytes.NewReader(data)))
	if err != nil {
		exprs, err = documents(json.NewDecoder(nil, at, bytes.NewReader(data)))
	}
	if err != nil {
		return // text of another kind
	}
	for _, expr := range exprs {
		inner.collect(c.ctx.BuildExpr(expr))
	}
	c.failed.add(inner.failed)
	for _, o := range inner.found {
		o.at = at
		c.take(o)
	}
}

// documents reads a stream to its end.
func documents(d interface{ Extract() (ast.Expr, error) }) ([]ast.Expr, error) {
	var all []ast.Expr
	for {
		expr, err := d.Extract()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, expr)
	}
}

// result is what was found, or what went wrong.
func (c *collector) result() ([]object, error) {
	if err := c.failed.err(); err != nil {
		return nil, err
	}
	return c.found, c.conflicts()
}

// conflicts says which objects of a package differ although they are one: a
// value made from another is best told apart by an expression.
func (c *collector) conflicts() error {
	first := map[identity]object{}
	for _, o := range c.found {
		if o.name == "" {
			continue
		}
		if have, ok := first[o.identity]; ok {
			return problem("%s stands at %s and at %s, and differs: 'expression' says which is meant", o.identity, have.at, o.at)
		}
		first[o.identity] = o
	}
	return nil
}

// files writes the objects, each to a file of its own, named after its kind and
// name and, where that does not tell it apart, its namespace and API group.
// `kubectl apply -f` goes by name: what others need comes first.
func files(all []object) []interpreter.File {
	first := func(o object) string {
		if o.kind == "Namespace" || o.kind == "CustomResourceDefinition" {
			return "00"
		}
		return ""
	}
	names := []func(object) string{
		func(o object) string { return fileName(first(o), o.kind, o.name) },
		func(o object) string { return fileName(first(o), o.kind, o.namespace, o.name) },
		func(o object) string { return fileName(first(o), o.kind, group(o.apiVersion), o.namespace, o.name) },
	}
	counts := make([]map[string]int, len(names))
	for i, name := range names {
		counts[i] = map[string]int{}
		for _, o := range all {
			counts[i][path.Join(o.folder, name(o))]++
		}
	}
	taken := map[string]bool{}
	out := make([]interpreter.File, 0, len(all))
	for _, o := range all {
		var base string
		for i, name := range names {
			if base = path.Join(o.folder, name(o)); counts[i][base] == 1 && !taken[base] {
				break
			}
		}
		unique := base
		for n := 2; taken[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", base, n)
		}
		taken[unique] = true
		out = append(out, interpreter.File{Path: unique + ".yaml", Data: o.data})
	}
	return out
}

// group is the API group of an object, "" for the core's.
func group(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// fileName joins parts into a name that is good on any system: lower case, of
// letters, digits, dots and dashes.
func fileName(parts ...string) string {
	clean := func(r rune) rune {
		switch {
		case r == '.' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		default:
			return '-'
		}
	}
	var out []string
	for _, p := range parts {
		if p = strings.Trim(strings.Map(clean, p), ".-"); p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "-")
}
