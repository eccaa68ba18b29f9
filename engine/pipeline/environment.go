// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/nearest"
)

// environmentPattern is what the name of an environment must match: it is a folder of the
// manifests, and a part of the names of nodes and of a list.
const environmentPattern = `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`

var environmentName = regexp.MustCompile(environmentPattern)

// MaxEnvironments bounds the environments of a pipeline.
const MaxEnvironments = 64

// CheckEnvironment returns an error if a name is not one that an environment may have.
func CheckEnvironment(name string) error {
	if !environmentName.MatchString(name) {
		return fmt.Errorf("environment name %q must consist of lower-case letters, digits and dashes", name)
	}
	return nil
}

// environment is an environment as written in a file.
type environment struct {
	name string
	at   document.Position
	// over are the sources that differ, by name.
	over map[string]document.Field
	skip []*document.Value // the names of sources that it does not have
}

// SetEnvironments limits the environments of the file to these; none means all.
func (p *Pipeline) SetEnvironments(names ...string) { p.environments = names }

// readEnvironments reads the mapping of environments, which may be nil. They are sorted, so that
// their order in the file means nothing.
func readEnvironments(v *document.Value, p *document.Problems) []environment {
	if v == nil {
		return nil
	}
	if len(v.Fields) > MaxEnvironments {
		p.Add(v.At, "more than %d environments", MaxEnvironments)
		return nil
	}
	var all []environment
	for _, f := range v.Fields {
		if err := CheckEnvironment(f.Key); err != nil {
			p.Cause(f.At, err)
		}
		e := environment{name: f.Key, at: f.At, over: map[string]document.Field{}}
		if over := f.Value.Get("sources"); over != nil {
			for _, s := range over.Fields {
				if s.Value.Kind != document.Null {
					e.over[s.Key] = s
				}
			}
		}
		if skip := f.Value.Get("skip"); skip != nil {
			e.skip = skip.Items
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b environment) int { return strings.Compare(a.name, b.name) })
	return all
}

// inEnvironments returns the sources of each environment. Without environments these are
// the sources themselves. only names the environments to take; none means all.
func inEnvironments(sources []source, all []environment, only []string, p *document.Problems) []source {
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = e.name
	}
	for _, name := range only {
		switch {
		case len(all) == 0:
			p.Add(document.Position{}, "there is no environment %q: the pipeline has no environments", name)
		case !slices.Contains(names, name):
			p.Add(document.Position{}, "there is no environment %q%s", name, nearest.HintOrAll(name, names))
		}
	}
	if len(all) == 0 {
		return sources
	}
	var out []source
	for _, e := range all {
		made := e.sources(sources, p)
		if len(only) == 0 || slices.Contains(only, e.name) {
			out = append(out, made...)
		}
	}
	return out
}

// sources returns the sources of an environment, each with its own options over those of
// the file.
func (e environment) sources(all []source, p *document.Problems) []source {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.name
	}
	for name, over := range e.over {
		if !slices.Contains(names, name) {
			p.Add(over.At, "environment %q changes source %q, which does not exist%s", e.name, name, nearest.HintOrAll(name, names))
		}
	}
	skipped := map[string]bool{}
	for _, item := range e.skip {
		_, changed := e.over[item.Scalar]
		switch {
		case !slices.Contains(names, item.Scalar):
			p.Add(item.At, "environment %q skips source %q, which does not exist%s", e.name, item.Scalar, nearest.HintOrAll(item.Scalar, names))
		case skipped[item.Scalar]:
			p.Add(item.At, "environment %q skips source %q twice", e.name, item.Scalar)
		case changed:
			p.Add(item.At, "environment %q skips source %q, which it also changes", e.name, item.Scalar)
		}
		skipped[item.Scalar] = true
	}
	var out []source
	for _, s := range all {
		if !skipped[s.name] {
			out = append(out, e.source(s, len(all) > 1))
		}
	}
	if len(out) == 0 && len(all) > 0 {
		p.Add(e.at, "environment %q skips every source", e.name)
	}
	return out
}

// source returns a source as it is in the environment.
func (e environment) source(s source, several bool) source {
	made := source{name: e.name + "/" + s.name, of: s.name, at: s.at, values: maps.Clone(s.values)}
	set := func(key, scalar string) { made.values[key] = &document.Value{Kind: document.Text, Scalar: scalar} }
	set("name", made.name)
	set("environment", e.name)
	set("folder", e.name)
	if several {
		set("folder", made.name)
	}
	changes := e.over[s.name].Value
	if path := changes.Get("path"); path != nil {
		made.values["path"] = path
	}
	if options := changes.Get("options"); options != nil {
		made.values["options"] = over(made.values["options"], options)
	}
	return made
}

// over returns a mapping, which may be nil, with the keys of another set; null removes one.
func over(v, changes *document.Value) *document.Value {
	out := *changes
	out.Fields = nil
	if v != nil {
		out.Fields = slices.Clone(v.Fields)
	}
	for _, f := range changes.Fields {
		if f.Value.Kind != document.Null {
			out.Fields = out.With(f).Fields
			continue
		}
		out.Fields = slices.DeleteFunc(out.Fields, func(have document.Field) bool { return have.Key == f.Key })
	}
	return &out
}

// instances returns the sources that a name of the form node/source means: the
// source's own or, where there are environments, its instances in all of them.
func (e *Expanded) instances(node string, each []node) (base node, made []source) {
	for _, n := range each {
		rest, ok := strings.CutPrefix(node, n.name+"/")
		if !n.each || !ok {
			continue
		}
		for _, s := range e.sources {
			if s.name == rest || s.of == rest {
				made = append(made, s)
			}
		}
		if len(made) > 0 {
			return n, made
		}
	}
	return base, nil
}
