// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
)

// Error is a mistake in a pipeline file, with its position.
type Error struct {
	File         string // "" if unknown
	Line, Column int    // from 1; 0 if unknown
	Message      string

	cause error // whose text is Message, or the end of it; may be nil
}

// newError returns an error at a position.
func newError(at position, cause error) *Error {
	return &Error{File: at.file, Line: at.line, Column: at.column, Message: cause.Error(), cause: cause}
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) Error() string {
	switch {
	case e.File == "":
		return e.Message
	case e.Line == 0:
		return e.File + ": " + e.Message
	case e.Column == 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors are all mistakes that were found, in the order of the file.
type Errors = engine.Errors[*Error]

// problems collects errors.
type problems Errors

func (p *problems) add(at position, format string, args ...any) {
	*p = append(*p, &Error{File: at.file, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)})
}

// cause adds an error.
func (p *problems) cause(at position, err error) { *p = append(*p, newError(at, err)) }

// sorted returns the problems as an error without duplicates, nil if there are none.
func (p problems) sorted() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b *Error) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
	})
	return Errors(slices.CompactFunc(p, func(a, b *Error) bool { return a.Error() == b.Error() }))
}
