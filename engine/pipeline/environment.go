// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
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
	at   position
	// over are the sources that differ, by name.
	over map[string]field
	skip []*value // the names of sources that it does not have
}

// SetEnvironments limits the environments of the file to these; none means all.
func (p *Pipeline) SetEnvironments(names ...string) { p.environments = names }

// readEnvironments reads the mapping of environments. They are sorted, so that their order
// in the file means nothing.
func readEnvironments(v *value, p *problems) []environment {
	if v == nil || v.kind == null || !want(v, mapping, `"environments"`, p) {
		return nil
	}
	if len(v.fields) == 0 {
		p.add(v.at, "\"environments\" has none: name them, or leave it out")
	}
	if len(v.fields) > MaxEnvironments {
		p.add(v.at, "more than %d environments", MaxEnvironments)
		return nil
	}
	var all []environment
	for _, f := range v.fields {
		if err := CheckEnvironment(f.key); err != nil {
			p.cause(f.at, err)
			continue
		}
		all = append(all, readEnvironment(f, p))
	}
	slices.SortFunc(all, func(a, b environment) int { return strings.Compare(a.name, b.name) })
	return all
}

func readEnvironment(f field, p *problems) environment {
	e := environment{name: f.key, at: f.at, over: map[string]field{}}
	if f.value.kind == null || !want(f.value, mapping, fmt.Sprintf("environment %q", f.key), p) {
		return e
	}
	known(f.value, p, "sources", "skip")
	if over := f.value.get("sources"); over != nil && over.kind != null && want(over, mapping, `"sources" of an environment`, p) {
		for _, s := range over.fields {
			if s.value.kind == null || !want(s.value, mapping, fmt.Sprintf("source %q of an environment", s.key), p) {
				continue
			}
			known(s.value, p, "path", "options")
			for key, k := range map[string]kind{"path": text, "options": mapping} {
				if given := s.value.get(key); given != nil && want(given, k, fmt.Sprintf("%q", key), p) && key == "path" && given.scalar == "" {
					p.add(given.at, "the path is empty")
				}
			}
			e.over[s.key] = s
		}
	}
	if skip := f.value.get("skip"); skip != nil && skip.kind != null && want(skip, list, `"skip"`, p) {
		for _, item := range skip.items {
			if want(item, text, "a source to skip", p) {
				e.skip = append(e.skip, item)
			}
		}
	}
	return e
}

// inEnvironments returns the sources of each environment. Without environments these are
// the sources themselves. only names the environments to take; none means all.
func inEnvironments(sources []source, all []environment, only []string, p *problems) []source {
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = e.name
	}
	for _, name := range only {
		switch {
		case len(all) == 0:
			p.add(position{}, "there is no environment %q: the pipeline has no environments", name)
		case !slices.Contains(names, name):
			p.add(position{}, "there is no environment %q%s", name, hintOrList(name, names))
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
func (e environment) sources(all []source, p *problems) []source {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.name
	}
	for name, over := range e.over {
		if !slices.Contains(names, name) {
			p.add(over.at, "environment %q changes source %q, which does not exist%s", e.name, name, hintOrList(name, names))
		}
	}
	skipped := map[string]bool{}
	for _, item := range e.skip {
		_, changed := e.over[item.scalar]
		switch {
		case !slices.Contains(names, item.scalar):
			p.add(item.at, "environment %q skips source %q, which does not exist%s", e.name, item.scalar, hintOrList(item.scalar, names))
		case skipped[item.scalar]:
			p.add(item.at, "environment %q skips source %q twice", e.name, item.scalar)
		case changed:
			p.add(item.at, "environment %q skips source %q, which it also changes", e.name, item.scalar)
		}
		skipped[item.scalar] = true
	}
	var out []source
	for _, s := range all {
		if !skipped[s.name] {
			out = append(out, e.source(s, len(all) > 1))
		}
	}
	if len(out) == 0 && len(all) > 0 {
		p.add(e.at, "environment %q skips every source", e.name)
	}
	return out
}

// source returns a source as it is in the environment.
func (e environment) source(s source, several bool) source {
	made := source{name: e.name + "/" + s.name, of: s.name, at: s.at, values: maps.Clone(s.values)}
	set := func(key, scalar string) { made.values[key] = &value{kind: text, scalar: scalar} }
	set("name", made.name)
	set("environment", e.name)
	set("folder", e.name)
	if several {
		set("folder", made.name)
	}
	over := e.over[s.name].value
	if path := over.get("path"); path != nil {
		made.values["path"] = path
	}
	if options := over.get("options"); options != nil {
		made.values["options"] = made.values["options"].over(options)
	}
	return made
}

// over returns the mapping with the keys of another set; null removes one. v may be nil.
func (v *value) over(changes *value) *value {
	out := *changes
	out.fields = nil
	if v != nil {
		out.fields = slices.Clone(v.fields)
	}
	for _, f := range changes.fields {
		if f.value.kind != null {
			out.fields = out.with(f).fields
			continue
		}
		out.fields = slices.DeleteFunc(out.fields, func(have field) bool { return have.key == f.key })
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
