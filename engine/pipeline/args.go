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
	"github.com/taped-dev/tape/internal/nearest"
)

// argName matches the name of an argument. It has no dot, which distinguishes arguments
// from the placeholders of the default pipeline.
var argName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// arg is an argument declared in a pipeline file, with its position.
type arg struct {
	at       position
	kind     kind
	fallback *value
}

// readArgs reads the declarations of arguments: a default value, whose type becomes the
// argument's, or a mapping.
func readArgs(v *value, p *problems) map[string]arg {
	args := map[string]arg{}
	if v == nil || !want(v, mapping, `"args"`, p) {
		return args
	}
	for _, f := range v.fields {
		if !argName.MatchString(f.key) {
			p.add(f.at, "argument name %q must consist of letters, digits, - and _, and begin with a letter", f.key)
			continue
		}
		a := arg{at: f.at, kind: text}
		switch f.value.kind {
		case null, list:
			p.add(f.value.at, "argument %q is %s, want its default or a mapping of type, default and help", f.key, f.value.kind.an())
			continue
		case mapping:
			a.read(f.key, f.value, p)
		default:
			a.kind, a.fallback = f.value.kind, f.value
		}
		args[f.key] = a
	}
	return args
}

func (a *arg) read(name string, v *value, p *problems) {
	known(v, p, "type", "default", "help")
	a.fallback = v.get("default")
	if a.fallback != nil {
		a.kind = a.fallback.kind
	}
	if help := v.get("help"); help != nil {
		want(help, text, `"help"`, p)
	}
	if t := v.get("type"); t != nil {
		types := []kind{text, integer, number, boolean}
		if !slices.Contains(types, kind(t.scalar)) || t.kind != text {
			p.add(t.at, "type %q of argument %q is not one of string, integer, number, boolean", t.scalar, name)
			return
		}
		a.kind = kind(t.scalar)
	}
	if a.fallback == nil {
		return
	}
	switch got := a.fallback.kind; {
	case got == null || got == list || got == mapping:
		p.add(a.fallback.at, "the default of argument %q is %s, want a string, number or boolean", name, got.an())
	case got == a.kind, got == integer && a.kind == number:
	default:
		p.add(a.fallback.at, "the default of argument %q is %s, but its type is %s", name, got.an(), a.kind)
	}
}

// resolveArgs returns the value of every argument: the given one, or else the default.
func resolveArgs(args map[string]arg, given map[string]string, p *problems) map[string]*value {
	values := map[string]*value{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		a, ok := args[name]
		if !ok {
			p.add(position{}, "the pipeline has no argument %q%s", name, nearest.Hint(name, maps.Keys(args)))
			continue
		}
		v := &value{kind: a.kind, scalar: given[name], plain: true}
		if !v.sound() {
			p.add(position{}, "argument %q: %q is not of type %s", name, given[name], a.kind)
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
			p.cause(a.at, advice.Add(fmt.Errorf("argument %q has no default", name), advice.GiveArgument, name))
			continue
		}
		values[name] = a.fallback
	}
	return values
}

// sound reports whether a scalar is valid for its kind.
func (v *value) sound() bool {
	switch v.kind {
	case boolean:
		return v.scalar == "true" || v.scalar == "false"
	case integer:
		_, err := strconv.ParseInt(v.scalar, 10, 64)
		return err == nil && json.Valid([]byte(v.scalar))
	case number:
		_, err := strconv.ParseFloat(v.scalar, 64)
		return err == nil && json.Valid([]byte(v.scalar))
	}
	return true
}

// placeholder matches ${name}, the escape $${, and an unterminated ${.
var placeholder = regexp.MustCompile(`\$\$\{|\$\{([^}]*)\}?`)

// placeholderName matches the name of an argument, or section.key.
var placeholderName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z][A-Za-z0-9_-]*)?$`)

// lookup returns the value of a placeholder, nil if it was not given. ok is false if no
// such placeholder exists; hint may then suggest another.
type lookup func(name string) (v *value, hint string, ok bool)

// substitute replaces the placeholders in the strings of v. A plain string that is a single
// placeholder becomes the value with its type; if no value was given, it is removed from
// its mapping or list, or the result is nil if it is v itself. Keys are not changed, and
// "$${" becomes "${". Values without a position, which come from code and so from the
// command line, are taken literally.
func substitute(v *value, find lookup, p *problems) *value {
	if v.kind == text && v.at != (position{}) {
		return substituteText(v, find, p)
	}
	return v.mapped(func(below *value) *value { return substitute(below, find, p) })
}

func substituteText(v *value, find lookup, p *problems) *value {
	places := placeholder.FindAllStringSubmatchIndex(v.scalar, -1)
	if len(places) == 0 {
		return v
	}
	var b strings.Builder
	last := 0
	for _, m := range places {
		whole := v.scalar[m[0]:m[1]]
		b.WriteString(v.scalar[last:m[0]])
		last = m[1]
		if whole == "$${" {
			b.WriteString("${")
			continue
		}
		name := v.scalar[m[2]:m[3]]
		if !strings.HasSuffix(whole, "}") || !placeholderName.MatchString(name) {
			p.add(v.at, "%s is not a valid argument; write $%s for the literal text", whole, whole)
			continue
		}
		found, hint, ok := find(name)
		if !ok {
			p.add(v.at, "argument %q is not defined%s", name, hint)
			continue
		}
		if whole == v.scalar && (v.plain || strings.Contains(name, ".")) {
			return found.standingAt(v.at)
		}
		switch {
		case found == nil && v.at.file == defaultFile:
			return nil // text with a missing value is left out, too
		case found == nil:
			p.add(v.at, "%s has no value to insert into text", whole)
		case found.kind == list || found.kind == mapping:
			p.add(v.at, "%s is %s and cannot be inserted into text", whole, found.kind.an())
		default:
			b.WriteString(found.scalar)
		}
	}
	b.WriteString(v.scalar[last:])
	out := *v
	out.scalar = b.String()
	return &out
}

// standingAt returns the value with a position if it has none: an argument given on the
// command line gets the position where it is used.
func (v *value) standingAt(at position) *value {
	if v == nil || v.at != (position{}) {
		return v
	}
	out := *v
	out.at = at
	return &out
}
