// SPDX-License-Identifier: Apache-2.0

package cue

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"github.com/taped-dev/tape/plugins/interpreter"
)

const (
	// maxProblems is how many mistakes are told of; one that stands in a
	// definition can repeat itself in every object.
	maxProblems = 50
	// maxPositions is how many other places are named with a mistake.
	maxPositions = 10
)

// problems are mistakes of the user on their way to a response.
type problems []interpreter.Diagnostic

func (p problems) Error() string { return p[0].Summary }

// problem is one mistake that has no place.
func problem(format string, args ...any) error {
	return problems{{Severity: interpreter.Error, Summary: fmt.Sprintf(format, args...)}}
}

// problems makes diagnostics of what CUE says, at the places that CUE names.
func (s *source) problems(err error) problems {
	var out problems
	for _, e := range errors.Errors(err) {
		d := interpreter.Diagnostic{Severity: interpreter.Error, Summary: s.readable(errors.String(e))}
		if strings.Contains(d.Summary, "incomplete value") && len(s.unset) > 0 {
			d.Detail = "not set: " + tagList(s.unset)
		}
		positions := slices.DeleteFunc(errors.Positions(e), func(p token.Pos) bool { return !p.IsValid() || p.Filename() == "" })
		// What the user wrote comes first: a schema that was fetched or generated says
		// what is wanted, and seldom what is wrong.
		slices.SortStableFunc(positions, func(a, b token.Pos) int {
			switch there, here := s.foreign(a.Filename()), s.foreign(b.Filename()); {
			case there == here:
				return 0
			case there:
				return 1
			}
			return -1
		})
		var others []string
		for i, p := range positions {
			if i == 0 {
				d.File, d.Line, d.Column = s.name(p.Filename()), p.Line(), p.Column()
			} else if place := fmt.Sprintf("%s:%d:%d", s.name(p.Filename()), p.Line(), p.Column()); i <= maxPositions && !slices.Contains(others, place) {
				others = append(others, place)
			}
		}
		if len(others) > 0 {
			d.Detail = strings.TrimPrefix(d.Detail+"; see "+strings.Join(others, ", "), "; ")
		}
		// The summary is one line; what CUE says may have more.
		if first, rest, more := strings.Cut(d.Summary, "\n"); more {
			d.Summary = strings.TrimSuffix(first, ":")
			d.Detail = strings.TrimPrefix(rest+"\n"+d.Detail, "\n")
		}
		out.add(problems{d})
	}
	return out
}

// foreign reports whether a file, absolute or as name has it, lies in cue.mod or in
// a module that was fetched.
func (s *source) foreign(file string) bool {
	name := "/" + s.name(file)
	return strings.Contains(name, "/"+moduleDir+"/") || fetched.MatchString(name)
}

// fetched is the name of a module that was fetched.
var fetched = regexp.MustCompile(`@v[0-9]+\.[^/]*/`)

// tagList names tags for a person.
func tagList(tags []string) string {
	what := "the tag "
	if len(tags) > 1 {
		what = "the tags "
	}
	return what + strings.Join(tags, ", ")
}

// problemIn is one mistake, in a file.
func (s *source) problemIn(file, format string, args ...any) error {
	return problems{{Severity: interpreter.Error, Summary: fmt.Sprintf(format, args...), File: s.name(file)}}
}

// add takes in more problems, up to the most that are told of.
func (p *problems) add(more problems) {
	for _, d := range more {
		switch {
		case len(*p) < maxProblems && !slices.Contains(*p, d):
			*p = append(*p, d)
		case len(*p) == maxProblems:
			*p = append(*p, interpreter.Diagnostic{Severity: interpreter.Error, Summary: "and more of the kind"})
		}
	}
}

// err is the problems as an error, nil where there are none.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// name is a file as a person knows it: below the root, or below a module that
// was fetched.
func (s *source) name(file string) string {
	if s.registry != nil {
		if rest, ok := strings.CutPrefix(file, s.registry.cache()+string(filepath.Separator)); ok {
			return filepath.ToSlash(rest)
		}
	}
	if rel, err := filepath.Rel(s.root, file); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return file
}

// readable takes the folder that the source was laid out in out of a message.
func (s *source) readable(message string) string {
	if s.registry != nil {
		message = strings.ReplaceAll(message, s.registry.cache()+string(filepath.Separator), "")
	}
	message = strings.ReplaceAll(message, s.root+string(filepath.Separator), "")
	return strings.ReplaceAll(message, s.root, ".")
}
