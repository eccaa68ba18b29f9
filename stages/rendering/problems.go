// SPDX-License-Identifier: Apache-2.0

package rendering

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// ProblemError are the mistakes that an interpreter found in a source.
type ProblemError struct {
	Diagnostics []interpreter.Diagnostic // of severity Error, at least one
}

// Error has a line for every mistake, beginning with its place.
func (e *ProblemError) Error() string {
	lines := make([]string, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		lines[i] = Text(d)
	}
	return strings.Join(lines, "\n")
}

// Problems is a *[ProblemError] with the diagnostics of severity Error, or nil.
func Problems(all []interpreter.Diagnostic) error {
	var e ProblemError
	for _, d := range all {
		if d.Severity == interpreter.Error {
			e.Diagnostics = append(e.Diagnostics, d)
		}
	}
	if e.Diagnostics == nil {
		return nil
	}
	return &e
}

// Placed says that an error consists of mistakes in a source that say in which
// file they are.
func Placed(err error) bool {
	e, ok := errors.AsType[*ProblemError](err)
	return ok && !slices.ContainsFunc(e.Diagnostics, func(d interpreter.Diagnostic) bool { return d.File == "" || d.File == "." })
}

// Text is a diagnostic for a person: file:line:column, what it is, and the
// detail, indented where it has several lines. A source as a whole has no place.
func Text(d interpreter.Diagnostic) string {
	var b strings.Builder
	if d.File != "" && d.File != "." {
		b.WriteString(d.File)
		if d.Line > 0 {
			fmt.Fprintf(&b, ":%d", d.Line)
			if d.Column > 0 {
				fmt.Fprintf(&b, ":%d", d.Column)
			}
		}
		b.WriteString(": ")
	}
	b.WriteString(d.Summary)
	if detail := strings.TrimSpace(d.Detail); strings.Contains(detail, "\n") {
		b.WriteString(":\n  " + strings.ReplaceAll(detail, "\n", "\n  "))
	} else if detail != "" {
		b.WriteString(": " + detail)
	}
	return b.String()
}
