// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// problems are mistakes of the user on their way to a response.
type problems []interpreter.Diagnostic

func (p problems) Error() string { return p[0].Summary }

// err is nil where there are none.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// problem is one mistake, at a line of a file below the root; "" and 0 are unknown.
func problem(file string, line int, format string, args ...any) problems {
	summary, detail, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	return problems{{Severity: interpreter.Error, Summary: summary, Detail: detail, File: file, Line: line}}
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// yamlProblem is a file that is no YAML, at the line that the parser names.
func yamlProblem(file string, err error) problems {
	text, line := err.Error(), 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return problem(file, line, "it is not valid YAML: %s", strings.TrimPrefix(text, "yaml: "))
}

// guard calls f, and makes a problem of a panic in kustomize. What fails once
// ctx has ended fails because of that.
func guard(ctx context.Context, source string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = problem(source, 0, "kustomize does not survive this kustomization: %v", v)
		}
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	return f()
}

// checkOptions refuses any option: there are none.
func checkOptions(raw json.RawMessage) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&struct{}{}); err != nil {
		return problem("", 0, "options: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

var (
	malformed = regexp.MustCompile(`(?s)MalformedYAMLError: (?:yaml: )?(?:line (\d+): )?(.*?) in File: (\S+?)['\n]*$`)
	// The folders that kustomize went through: the last one is where it failed.
	through = regexp.MustCompile(`(?:recursed (?:accumulation|merging) of path|couldn't make target for path) '([^']+)': `)
	// A file that cannot be read, and that kustomize then took for a folder.
	noResource = regexp.MustCompile(`(?s)accumulating resources from '([^']+)': ([^\n]*)': must build at directory: .*$`)
	// What kustomize tried first: each resource as a file, before it was a folder.
	firstTry = regexp.MustCompile(`^accumulating (?:resources|components): accumulation err='accumulating resources from '[^']*': (?:'[^']*')?[^']*': `)
)

// buildProblem finds out of kustomize's words where it comes from: file is the
// kustomization in a folder, folder the one that was asked for.
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
		d.File, d.Summary = path.Join(folder, m[3]), "it is not valid YAML: "+m[2]
		d.Line, _ = strconv.Atoi(m[1])
	}
	d.Summary, _, _ = strings.Cut(strings.TrimSpace(d.Summary), "\n")
	if d.Summary != text {
		d.Detail = text
	}
	return problems{d}
}
