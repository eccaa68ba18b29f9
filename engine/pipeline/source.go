// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/taped-dev/tape/engine/content/imageref"
)

// sourceSection is the prefix of placeholders for sources, and the value of "each".
const sourceSection = "source"

// sourceKeys are the keys of a source that the default pipeline can use.
var sourceKeys = []string{"name", "path", "interpreter", "options", "folder", "environment"}

// Source is a source in the short form.
type Source struct {
	// Name is the folder of its manifests if there are several sources, and the last part
	// of the names of its nodes; by default the last element of Path.
	Name string `json:"name,omitempty"`
	// Path is a folder or file below the pipeline file's folder, or a remote
	// reference: oci://… or https://…
	Path string `json:"path"`
	// Interpreter is the name of the interpreter; "" finds it by its markers.
	Interpreter string `json:"interpreter,omitempty"`
	// Options are the options of the interpreter, a JSON object.
	Options json.RawMessage `json:"options,omitempty"`
}

// sourceName matches names that are valid as a folder, as a part of a node's name and as a
// key of an input.
var sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// source is a Source as written in a file.
type source struct {
	name   string
	of     string // in an environment: its name in the file
	at     position
	values map[string]*value // by key in sourceKeys; absent if not given
}

// readSources reads the list of sources.
func readSources(v *value, p *problems) []source {
	if v == nil || !want(v, list, `"sources"`, p) {
		return nil
	}
	var sources []source
	for _, item := range v.items {
		if s, ok := readSource(item, p); ok {
			sources = append(sources, s)
		}
	}
	first := map[string]position{}
	for _, s := range sources {
		if at, twice := first[s.name]; twice {
			if at.line > 0 {
				p.add(s.at, "source %q already exists in line %d; give them different names", s.name, at.line)
			} else {
				p.add(s.at, "two sources are called %q and would share a folder; name them in a pipeline file", s.name)
			}
			continue
		}
		first[s.name] = s.at
		if len(sources) > 1 {
			s.values["folder"] = s.values["name"]
		}
	}
	return sources
}

func readSource(v *value, p *problems) (source, bool) {
	s := source{at: v.at, values: map[string]*value{}}
	if !want(v, mapping, "a source", p) {
		return s, false
	}
	known(v, p, "name", "path", "interpreter", "options")
	ok := true
	for key, k := range map[string]kind{"name": text, "path": text, "interpreter": text, "options": mapping} {
		if given := v.get(key); given != nil && given.kind != null {
			if want(given, k, fmt.Sprintf("%q", key), p) {
				s.values[key] = given
			} else {
				ok = false
			}
		}
	}
	where := s.values["path"]
	if !ok {
		return s, false
	}
	if where == nil || where.scalar == "" {
		p.add(v.at, "a source needs a path")
		return s, false
	}
	name := s.values["name"]
	if name == nil {
		name = &value{at: where.at, kind: text, scalar: nameOf(where.scalar)}
		s.values["name"] = name
	}
	if !sourceName.MatchString(name.scalar) {
		p.add(name.at, "source name %q must consist of letters, digits, -, _ and dots", name.scalar)
		return s, false
	}
	s.name, s.at = name.scalar, name.at
	if i := s.values["interpreter"]; i != nil {
		if reason := refuseInterpreter(i.scalar); reason != "" {
			p.add(i.at, "interpreter %q %s", i.scalar, reason)
		}
	}
	return s, true
}

// nameOf returns the last element of a path. For a reference it leaves out tag, digest and
// query, and never returns what precedes the path (user, password, host). The folder "."
// has no name of its own, and becomes "app".
func nameOf(where string) string {
	if _, reference, remote := strings.Cut(where, "://"); remote {
		_, where, _ = strings.Cut(reference, "/")
		if i := strings.IndexAny(where, "?#@"); i >= 0 {
			where = where[:i]
		}
		where = imageref.Split(where).Name
	}
	name := path.Base(path.Clean(where))
	if name == "." || name == ".." || name == "/" {
		return "app"
	}
	return name
}

// interpreterName matches the name of an interpreter.
var interpreterName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// refuseInterpreter returns why a name is not allowed in a pipeline file, or "". A file
// that is part of a repository must not choose what runs on the machine.
func refuseInterpreter(name string) string {
	const cannot = ": a pipeline names an installed interpreter, and cannot choose what runs"
	switch {
	case interpreterName.MatchString(name):
		if short, long := strings.CutPrefix(name, "tape-interpreter-"); long {
			return fmt.Sprintf("is the name of an executable; write %q", short)
		}
		return ""
	case strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, "."):
		return "is a path" + cannot
	case strings.Contains(name, "."):
		return "is the name of a file" + cannot
	case strings.ContainsAny(name, " \t\n"):
		return "is a command" + cannot
	}
	return "is not a valid name: want lower-case letters, digits and dashes"
}
