// SPDX-License-Identifier: Apache-2.0

package rendering

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// ProblemError lists the mistakes that an interpreter found in a source.
type ProblemError struct {
	Diagnostics []interpreter.Diagnostic // of severity Error, at least one
}

// Error returns one line for each mistake, beginning with its position.
func (e *ProblemError) Error() string {
	lines := make([]string, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		lines[i] = Text(d)
	}
	return strings.Join(lines, "\n")
}

// Problems returns a *[ProblemError] with the diagnostics of severity Error, or nil if
// there are none.
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

// Placed reports whether err lists mistakes in a source and names the file of each.
func Placed(err error) bool {
	e, ok := errors.AsType[*ProblemError](err)
	return ok && !slices.ContainsFunc(e.Diagnostics, func(d interpreter.Diagnostic) bool { return d.File == "" || d.File == "." })
}

// Text formats a diagnostic for people: file:line:column, the summary and the detail, which is
// indented if it has several lines. A diagnostic about the whole source has no position.
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
