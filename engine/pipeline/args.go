// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/nearest"
)

// arg is an argument declared in a pipeline file, with its position.
type arg struct {
	at       document.Position
	kind     document.Kind
	fallback *document.Value
}

// readArgs reads the declarations of arguments, which may be nil: a default value, whose type
// becomes the argument's, or a mapping.
func readArgs(v *document.Value, p *document.Problems) map[string]arg {
	args := map[string]arg{}
	if v == nil {
		return args
	}
	for _, f := range v.Fields {
		a := arg{at: f.At, kind: document.Text, fallback: f.Value}
		if f.Value.Kind == document.Mapping {
			a.fallback = f.Value.Get("default")
		}
		if a.fallback != nil {
			a.kind = a.fallback.Kind
		}
		if t := f.Value.Get("type"); t != nil {
			a.kind = document.Kind(t.Scalar)
		}
		if a.fallback != nil && a.fallback.Kind != a.kind && (a.fallback.Kind != document.Integer || a.kind != document.Number) {
			p.Add(a.fallback.At, "the default of argument %q is %s, but its type is %s", f.Key, a.fallback.Kind.An(), a.kind)
		}
		args[f.Key] = a
	}
	return args
}

// resolveArgs returns the value of every argument: the given one, or else the default.
func resolveArgs(args map[string]arg, given map[string]string, p *document.Problems) map[string]*document.Value {
	values := map[string]*document.Value{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		a, ok := args[name]
		if !ok {
			p.Add(document.Position{}, "the pipeline has no argument %q%s", name, nearest.Hint(name, maps.Keys(args)))
			continue
		}
		v := &document.Value{Kind: a.kind, Scalar: given[name], Plain: true}
		if !sound(v) {
			p.Add(document.Position{}, "argument %q: %q is not of type %s", name, given[name], a.kind)
			continue
		}
		values[name] = v
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if _, ok := given[name]; ok {
			continue
		}
		a := args[name]
		if a.fallback == nil {
			p.Cause(a.at, advice.Add(fmt.Errorf("argument %q has no default", name), advice.GiveArgument, name))
			continue
		}
		values[name] = a.fallback
	}
	return values
}

// sound reports whether a scalar is valid for its kind.
func sound(v *document.Value) bool {
	switch v.Kind {
	case document.Boolean:
		return v.Scalar == "true" || v.Scalar == "false"
	case document.Integer:
		_, err := strconv.ParseInt(v.Scalar, 10, 64)
		return err == nil && json.Valid([]byte(v.Scalar))
	case document.Number:
		_, err := strconv.ParseFloat(v.Scalar, 64)
		return err == nil && json.Valid([]byte(v.Scalar))
	}
	return true
}

// placeholder matches ${name}, the escape $${, and an unterminated ${.
var placeholder = regexp.MustCompile(`\$\$\{|\$\{([^}]*)\}?`)

// placeholderName matches the name of an argument, or section.key.
var placeholderName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z][A-Za-z0-9_-]*)?$`)

// lookup returns the value of a placeholder, nil if it was not given. ok is false if no
// such placeholder exists; hint may then suggest another.
type lookup func(name string) (v *document.Value, hint string, ok bool)

// substitute replaces the placeholders in the strings of v. A plain string that is a single
// placeholder becomes the value with its type; if no value was given, it is removed from
// its mapping or list, or the result is nil if it is v itself. Keys are not changed, and
// "$${" becomes "${". Values without a position, which come from code and so from the
// command line, are taken literally.
func substitute(v *document.Value, find lookup, p *document.Problems) *document.Value {
	if v.Kind == document.Text && v.At != (document.Position{}) {
		return substituteText(v, find, p)
	}
	return v.Mapped(func(below *document.Value) *document.Value { return substitute(below, find, p) })
}

func substituteText(v *document.Value, find lookup, p *document.Problems) *document.Value {
	places := placeholder.FindAllStringSubmatchIndex(v.Scalar, -1)
	if len(places) == 0 {
		return v
	}
	var b strings.Builder
	last := 0
	for _, m := range places {
		whole := v.Scalar[m[0]:m[1]]
		b.WriteString(v.Scalar[last:m[0]])
		last = m[1]
		if whole == "$${" {
			b.WriteString("${")
			continue
		}
		name := v.Scalar[m[2]:m[3]]
		if !strings.HasSuffix(whole, "}") || !placeholderName.MatchString(name) {
			p.Add(v.At, "%s is not a valid argument; write $%s for the literal text", whole, whole)
			continue
		}
		found, hint, ok := find(name)
		if !ok {
			p.Add(v.At, "argument %q is not defined%s", name, hint)
			continue
		}
		if whole == v.Scalar && (v.Plain || strings.Contains(name, ".")) {
			return standingAt(found, v.At)
		}
		switch {
		case found == nil && v.At.File == defaultFile:
			return nil // text with a missing value is left out, too
		case found == nil:
			p.Add(v.At, "%s has no value to insert into text", whole)
		case found.Kind == document.List || found.Kind == document.Mapping:
			p.Add(v.At, "%s is %s and cannot be inserted into text", whole, found.Kind.An())
		default:
			b.WriteString(found.Scalar)
		}
	}
	b.WriteString(v.Scalar[last:])
	out := *v
	out.Scalar = b.String()
	return &out
}

// standingAt returns the value with a position if it has none: an argument given on the
// command line gets the position where it is used.
func standingAt(v *document.Value, at document.Position) *document.Value {
	if v == nil || v.At != (document.Position{}) {
		return v
	}
	out := *v
	out.At = at
	return &out
}
