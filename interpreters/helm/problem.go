// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// problems are mistakes of the user on their way to a response.
type problems []interpreter.Diagnostic

func (p problems) Error() string { return p[0].Summary }

// problem is one mistake, in a file below the root ("" for none).
func problem(file, format string, args ...any) error {
	if file == "." {
		file = "" // the source itself
	}
	summary, detail, _ := strings.Cut(fmt.Errorf(format, args...).Error(), "\n")
	return problems{{Severity: interpreter.Error, Summary: summary, Detail: detail, File: file}}
}

// inFile gives a problem the file that it comes from.
func inFile(file string, err error) error {
	if found, ok := errors.AsType[problems](err); ok {
		for i := range found {
			found[i].File = cmp.Or(found[i].File, file)
		}
	}
	return err
}

// guard calls f, and makes a problem of a panic: Helm's packages have let odd
// charts through to a nil pointer before. What fails once ctx has ended fails
// because of that.
func guard[T any](ctx context.Context, source string, f func() (T, error)) (out T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = problem(source, "helm does not survive this chart: %v", v)
		}
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	return f()
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// yamlProblem is a file that is no YAML, at the line that the parser names.
func yamlProblem(file, what string, err error) error {
	text := err.Error()
	for _, prefix := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: while decoding JSON: ", "yaml: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	line := 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return problems{{Severity: interpreter.Error, Summary: what + " is not valid: " + text, File: file, Line: line}}
}

// cause is what went wrong without the path, which whoever reports it knows
// better: the path in the error may lie in a temporary folder.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

var (
	// Helm's words for a template that does not parse, and for fail and required.
	helmError = regexp.MustCompile(`(?s)^(?:parse|execution) error (?:at|in) \(([^():]+)(?::(\d+))?(?::(\d+))?\): (.*)$`)
	// The template package's words, once for each template on the way.
	templateError = regexp.MustCompile(`(?s)^template: ([^:]+):(\d+):(\d+): (.*)$`)
	// The innermost of the expressions on the way.
	executing = regexp.MustCompile(`(?s)^.*executing "[^"]*" at (<.*?>): (.*)$`)
	// What is between one template and the next.
	calling = regexp.MustCompile(`: error calling (include|tpl): `)
	// A rendered file that is no YAML.
	renderedError = regexp.MustCompile(`(?s)^YAML parse error on ([^:]+): (?:error converting YAML to JSON: )?(?:yaml: )?(.*)$`)
)

// templateProblem finds where a template failed in the text of Helm's error. The
// location is that of the template that tape asked for; the templates that it
// went through are in the detail. where turns Helm's name of a template into a
// path below the root.
func templateProblem(err error, where func(string) string) error {
	text := err.Error()
	d := interpreter.Diagnostic{Severity: interpreter.Error, Summary: text}
	if m := helmError.FindStringSubmatch(text); m != nil {
		d.File, d.Summary = where(m[1]), m[4]
		d.Line, _ = strconv.Atoi(m[2])
		d.Column = column(m[3])
	} else if m := templateError.FindStringSubmatch(text); m != nil {
		d.File, d.Summary = where(m[1]), m[4]
		d.Line, _ = strconv.Atoi(m[2])
		d.Column = column(m[3])
		if at := executing.FindStringSubmatch(m[4]); at != nil {
			d.Summary = at[2] + " at " + at[1]
			d.Detail = calling.ReplaceAllString(m[4], "\n$1: ")
		}
	} else if m := renderedError.FindStringSubmatch(text); m != nil {
		d.File, d.Summary = where(m[1]), "the rendered template is not valid YAML: "+m[2]
		d.Detail = "a line number above counts in the rendered document, not in the template"
	}
	summary, rest, more := strings.Cut(d.Summary, "\n")
	if more {
		d.Summary, d.Detail = summary, strings.TrimRight(rest+"\n"+d.Detail, "\n")
	}
	return problems{d}
}

// column counts from 1; the template package counts from 0.
func column(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n + 1
}
