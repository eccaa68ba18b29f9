// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"encoding/json"
	"path"
	"regexp"
	"strings"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/document"
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
	at     document.Position
	values map[string]*document.Value // by key in sourceKeys; absent if not given
}

// readSources reads the list of sources, which may be nil.
func readSources(v *document.Value, p *document.Problems) []source {
	if v == nil {
		return nil
	}
	var sources []source
	first := map[string]document.Position{}
	for _, item := range v.Items {
		s := readSource(item, p)
		at, twice := first[s.name]
		switch {
		case twice && at.Line > 0:
			p.Add(s.at, "source %q already exists in line %d; give them different names", s.name, at.Line)
		case twice:
			p.Add(s.at, "two sources are called %q and would share a folder; name them in a pipeline file", s.name)
		}
		first[s.name] = s.at
		if len(v.Items) > 1 {
			s.values["folder"] = s.values["name"]
		}
		sources = append(sources, s)
	}
	return sources
}

func readSource(v *document.Value, p *document.Problems) source {
	s := source{values: map[string]*document.Value{}}
	for _, f := range v.Fields {
		if f.Value.Kind != document.Null {
			s.values[f.Key] = f.Value
		}
	}
	name := s.values["name"]
	if name == nil {
		where := s.values["path"]
		name = &document.Value{At: where.At, Kind: document.Text, Scalar: nameOf(where.Scalar)}
		s.values["name"] = name
	}
	if !sourceName.MatchString(name.Scalar) {
		p.Add(name.At, "source name %q must consist of letters, digits, -, _ and dots", name.Scalar)
	}
	s.name, s.at = name.Scalar, name.At
	if i := s.values["interpreter"]; i != nil {
		// A file that is part of a repository must not choose what runs on the machine.
		switch short, program := strings.CutPrefix(i.Scalar, "tape-interpreter-"); {
		case !interpreterName.MatchString(i.Scalar):
			p.Add(i.At, "interpreter %q is not a name of lower-case letters, digits and dashes: a pipeline names an installed interpreter, and cannot choose what runs", i.Scalar)
		case program:
			p.Add(i.At, "interpreter %q is the name of an executable; write %q", i.Scalar, short)
		}
	}
	return s
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
