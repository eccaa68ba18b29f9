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

// problems are diagnostics as an error.
type problems []interpreter.Diagnostic

func (p problems) Error() string { return p[0].Summary }

// err returns the problems as an error, nil if there are none.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// problem returns a problem at a line of a file below the root; "" and 0 mean unknown.
func problem(file string, line int, format string, args ...any) problems {
	summary, detail, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	return problems{{Severity: interpreter.Error, Summary: summary, Detail: detail, File: file, Line: line}}
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// yamlProblem returns the problem of an invalid YAML file, at the line in the parser's
// error.
func yamlProblem(file string, err error) problems {
	text, line := err.Error(), 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return problem(file, line, "not valid YAML: %s", strings.TrimPrefix(text, "yaml: "))
}

// guard calls f and converts a panic to a problem. If ctx has ended, its cause is the
// error.
func guard(ctx context.Context, source string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = problem(source, 0, "kustomize panicked on this kustomization: %v", v)
		}
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	return f()
}

// checkOptions rejects options: there are none.
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
	// The folders that kustomize descended into: the last one is where it failed.
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
	return problems{d}
}
