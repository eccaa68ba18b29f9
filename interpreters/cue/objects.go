// SPDX-License-Identifier: Apache-2.0

package cue

import (
	"bytes"
	"cmp"
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
	folder string // where its file goes
	at     string // path of the value in its package
	identity
	data []byte // YAML
}

// identity must be unique among the objects.
type identity struct{ apiVersion, kind, namespace, name string }

func (i identity) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", i.apiVersion, i.kind, strings.TrimPrefix(i.namespace+"/"+i.name, "/")))
}

// collector finds the objects in a value.
type collector struct {
	*source
	ctx     *cue.Context
	folder  string
	streams bool // search strings for streams of documents
	tasks   bool // the values belong to commands, so only strings contain objects
	written bool // the values were read from a stream
	found   []object
	failed  interpreter.Problems
}

// collect searches a value: it takes objects as a whole and descends into lists and structs.
// Definitions and hidden and optional fields are not part of the output.
func (c *collector) collect(v cue.Value) {
	v, _ = v.Default()
	switch v.IncompleteKind() {
	case cue.BottomKind:
		c.fail(v.Err())
	case cue.StructKind:
		if id, ok := identify(v); ok && !c.tasks {
			c.add(id, v)
			return
		}
		fields, err := v.Fields()
		if err != nil {
			c.fail(err)
			return
		}
		for fields.Next() {
			c.collect(fields.Value())
		}
	case cue.ListKind:
		items, err := v.List()
		if err != nil {
			c.fail(err)
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

// fail adds the problems of a value. A task need not evaluate without being run.
func (c *collector) fail(err error) {
	if !c.tasks {
		add(&c.failed, c.problems(err))
	}
}

// identify returns the identity of a value, and reports whether it is an object. A value that has
// one of kind and apiVersion and leaves the other open is an incomplete object.
func identify(v cue.Value) (identity, bool) {
	id := identity{
		apiVersion: text(v, "apiVersion"), kind: text(v, "kind"),
		namespace: text(v, "metadata.namespace"), name: cmp.Or(text(v, "metadata.name"), text(v, "metadata.generateName")),
	}
	switch {
	case id.apiVersion == "":
		return id, id.kind != "" && open(v, "apiVersion")
	case id.kind == "":
		return id, open(v, "kind")
	}
	return id, true
}

// text returns the string at a path, or "".
func text(v cue.Value, path string) string {
	v, _ = v.LookupPath(cue.ParsePath(path)).Default()
	s, _ := v.String() // "" if it is not a string
	return s
}

// open reports whether a field is a string without a concrete value.
func open(v cue.Value, field string) bool {
	v, _ = v.LookupPath(cue.ParsePath(field)).Default()
	return v.Exists() && v.IncompleteKind() == cue.StringKind && !v.IsConcrete()
}

// add adds an object.
func (c *collector) add(id identity, v cue.Value) {
	if err := v.Validate(cue.Concrete(true)); err != nil {
		add(&c.failed, c.of(v, c.problems(err)))
		return
	}
	data, err := c.encode(v)
	if err != nil {
		c.fail(err)
		return
	}
	c.found = union(c.found, object{folder: c.folder, at: v.Path().String(), identity: id, data: data})
}

// of moves problems that CUE locates only in a schema to the object that causes them.
func (c *collector) of(v cue.Value, found interpreter.Problems) interpreter.Problems {
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

// encode returns a value as YAML. Bytes become base64, as in CUE's JSON and in Kubernetes
// objects: kubectl would decode !!binary. In a stream that the source itself writes, they stay as
// written.
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

// union adds objects that are not in a list yet. An object may be found in several places of a
// package, such as in a map and in a list made from it, and a package inherits the objects of a
// package of the same name in a folder above.
func union(all []object, more ...object) []object {
	for _, o := range more {
		if !holds(all, o) {
			all = append(all, o)
		}
	}
	return all
}

// holds reports whether a list contains an object.
func holds(all []object, o object) bool {
	return slices.ContainsFunc(all, func(have object) bool { return have.identity == o.identity && bytes.Equal(have.data, o.data) })
}

// stream adds the objects in a string with YAML or JSON documents. Other strings are
// ignored.
func (c *collector) stream(v cue.Value) {
	data, err := v.Bytes()
	if err != nil {
		return // not concrete, because a task would fill it in
	}
	at := v.Path().String()
	inner := collector{source: c.source, ctx: c.ctx, folder: c.folder, written: true}
	exprs, err := documents(yaml.NewDecoder(at, bytes.NewReader(data)))
	if err != nil {
		exprs, err = documents(json.NewDecoder(nil, at, bytes.NewReader(data)))
	}
	if err != nil {
		return // another kind of text
	}
	for _, expr := range exprs {
		inner.collect(c.ctx.BuildExpr(expr))
	}
	add(&c.failed, inner.failed)
	for _, o := range inner.found {
		o.at = at
		c.found = union(c.found, o)
	}
}

// documents reads all documents of a stream.
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

// result returns the objects, or the problems.
func (c *collector) result() ([]object, error) {
	if err := c.failed.Err(); err != nil {
		return nil, err
	}
	return c.found, c.conflicts()
}

// conflicts returns an error if two objects of a package have the same identity but differ.
func (c *collector) conflicts() error {
	first := map[identity]object{}
	for _, o := range c.found {
		if o.name == "" {
			continue
		}
		if have, ok := first[o.identity]; ok {
			return problem("%s is found at %s and at %s with different content: select one with 'expression'", o.identity, have.at, o.at)
		}
		first[o.identity] = o
	}
	return nil
}

// files returns each object as a file, named after its kind and name and, if these are not
// unique, its namespace and API group. `kubectl apply -f` applies files in the order of their
// names, so objects that others need sort first.
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

// group returns the API group of an object, or "" for the core group.
func group(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// fileName joins parts to a file name that is valid on any system. It consists of lower-case
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
