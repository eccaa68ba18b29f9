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
	// maxProblems is the maximum number of problems reported, because one in a definition may
	// recur in every object.
	maxProblems = 50
	// maxPositions is the maximum number of further positions reported with a problem.
	maxPositions = 10
)

// problem returns a problem without a position.
func problem(format string, args ...any) error { return interpreter.Problem("", 0, format, args...) }

// problems converts errors of CUE to diagnostics with their positions.
func (s *source) problems(err error) interpreter.Problems {
	var out interpreter.Problems
	for _, e := range errors.Errors(err) {
		d := interpreter.Diagnostic{Severity: interpreter.Error, Summary: s.readable(errors.String(e))}
		if strings.Contains(d.Summary, "incomplete value") && len(s.unset) > 0 {
			d.Detail = "not set: " + tagList(s.unset)
		}
		positions := slices.DeleteFunc(errors.Positions(e), func(p token.Pos) bool { return !p.IsValid() || p.Filename() == "" })
		// The files of the user come first: a fetched or generated schema shows what is allowed,
		// but seldom what is wrong.
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
		// The summary is one line, but the message of CUE may have several.
		if first, rest, more := strings.Cut(d.Summary, "\n"); more {
			d.Summary = strings.TrimSuffix(first, ":")
			d.Detail = strings.TrimPrefix(rest+"\n"+d.Detail, "\n")
		}
		add(&out, interpreter.Problems{d})
	}
	return out
}

// foreign reports whether a file, given by its absolute path or as returned by name, is in
// cue.mod or in a fetched module.
func (s *source) foreign(file string) bool {
	name := "/" + s.name(file)
	return strings.Contains(name, "/"+moduleDir+"/") || fetched.MatchString(name)
}

// fetched matches the path of a fetched module.
var fetched = regexp.MustCompile(`@v[0-9]+\.[^/]*/`)

// tagList formats tags for a message.
func tagList(tags []string) string {
	what := "the tag "
	if len(tags) > 1 {
		what = "the tags "
	}
	return what + strings.Join(tags, ", ")
}

// add appends problems, up to maxProblems.
func add(p *interpreter.Problems, more interpreter.Problems) {
	for _, d := range more {
		switch {
		case len(*p) < maxProblems && !slices.Contains(*p, d):
			*p = append(*p, d)
		case len(*p) == maxProblems:
			*p = append(*p, interpreter.Diagnostic{Severity: interpreter.Error, Summary: "too many problems: the rest are not shown"})
		}
	}
}

// name returns the readable path of a file: relative to the root or, in a fetched module,
// relative to the module cache.
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

// readable removes the path of the temporary folder of the source from a message.
func (s *source) readable(message string) string {
	if s.registry != nil {
		message = strings.ReplaceAll(message, s.registry.cache()+string(filepath.Separator), "")
	}
	message = strings.ReplaceAll(message, s.root+string(filepath.Separator), "")
	return strings.ReplaceAll(message, s.root, ".")
}
