// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// problem returns a problem of a file below the root ("" for none).
func problem(file, format string, args ...any) error {
	return interpreter.Problem(file, 0, format, args...)
}

// remarks are warnings and notes about a chart.
type remarks struct{ diagnostics []interpreter.Diagnostic }

func (r *remarks) warn(file, format string, args ...any) {
	r.diagnostics = append(r.diagnostics, interpreter.Diagnostic{Severity: interpreter.Warning, Summary: fmt.Sprintf(format, args...), File: file})
}

// note reports something that follows from the options but may be unexpected.
func (r *remarks) note(file, format string, args ...any) {
	r.diagnostics = append(r.diagnostics, interpreter.Diagnostic{Severity: interpreter.Info, Summary: fmt.Sprintf(format, args...), File: file})
}

// inFile sets the file of problems that have none.
func inFile(file string, err error) error {
	if found, ok := errors.AsType[interpreter.Problems](err); ok {
		for i := range found {
			found[i].File = cmp.Or(found[i].File, file)
		}
	}
	return err
}

// yamlProblem returns the problem of an invalid YAML file.
func yamlProblem(file, what string, err error) error {
	text := err.Error()
	for _, prefix := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: while decoding JSON: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return interpreter.YAMLProblem(file, what+" is not valid", errors.New(text))
}

var (
	// Helm's error for a template that does not parse, and for fail and required.
	helmError = regexp.MustCompile(`(?s)^(?:parse|execution) error (?:at|in) \(([^():]+)(?::(\d+))?(?::(\d+))?\): (.*)$`)
	// The error of package template, nested for each template in the call chain.
	templateError = regexp.MustCompile(`(?s)^template: ([^:]+):(\d+):(\d+): (.*)$`)
	// The innermost expression in the chain.
	executing = regexp.MustCompile(`(?s)^.*executing "[^"]*" at (<.*?>): (.*)$`)
	// The text between two templates of the chain.
	calling = regexp.MustCompile(`: error calling (include|tpl): `)
	// Helm's error for a rendered file that is not YAML.
	renderedError = regexp.MustCompile(`(?s)^YAML parse error on ([^:]+): (?:error converting YAML to JSON: )?(?:yaml: )?(.*)$`)
)

// templateProblem extracts from Helm's error where a template failed. The location is in the
// outermost template; the templates that it called are in the detail. where maps Helm's name of a
// template to a path below the root.
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
		d.Detail = "line numbers in this message refer to the rendered document, not to the template"
	}
	summary, rest, more := strings.Cut(d.Summary, "\n")
	if more {
		d.Summary, d.Detail = summary, strings.TrimRight(rest+"\n"+d.Detail, "\n")
	}
	return interpreter.Problems{d}
}

// column converts a column of package template, which counts from 0.
func column(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n + 1
}
