// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
)

var (
	malformed = regexp.MustCompile(`(?s)MalformedYAMLError: (?:yaml: )?(?:line (\d+): )?(.*?) in File: (\S+?)['\n]*$`)
	// The folders that kustomize descended into. It failed in the last one.
	through = regexp.MustCompile(`(?:recursed (?:accumulation|merging) of path|couldn't make target for path) '([^']+)': `)
	// A file that cannot be read, which kustomize then tried as a folder.
	noResource = regexp.MustCompile(`(?s)accumulating resources from '([^']+)': ([^\n]*)': must build at directory: .*$`)
	// The first attempt: kustomize tries each resource as a file before it tries a folder.
	firstTry = regexp.MustCompile(`^accumulating (?:resources|components): accumulation err='accumulating resources from '[^']*': (?:'[^']*')?[^']*': `)
)

// buildProblem derives the location from an error of kustomize. file returns the
// kustomization in a folder; folder is the source.
func buildProblem(text, folder string, file func(string) string) error {
	d := interpreter.Diagnostic{Severity: interpreter.Error, Summary: text}
	if m := through.FindAllStringSubmatchIndex(text, -1); len(m) > 0 {
		last := m[len(m)-1]
		folder, d.Summary = strings.TrimPrefix(text[last[2]:last[3]], "/"), text[last[1]:]
	}
	d.File = file(folder)
	d.Summary = firstTry.ReplaceAllString(d.Summary, "")
	if m := noResource.FindStringSubmatch(d.Summary); m != nil {
		d.File, d.Summary = path.Join(folder, m[1]), m[2]
	}
	if m := malformed.FindStringSubmatch(text); m != nil {
		d.File, d.Summary = path.Join(folder, m[3]), "not valid YAML: "+m[2]
		d.Line, _ = strconv.Atoi(m[1])
	}
	d.Summary, _, _ = strings.Cut(strings.TrimSpace(d.Summary), "\n")
	if d.Summary != text {
		d.Detail = text
	}
	return interpreter.Problems{d}
}
