// SPDX-License-Identifier: Apache-2.0

package document

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/internal/nearest"
)

// Position is a place in a file. Line and column count from 1, columns in characters. A value
// that is not from a file has the zero Position.
type Position struct {
	File         string // "" if unknown
	Line, Column int    // 0 if unknown
}

// Error is a mistake in a file, with its position.
type Error struct {
	Position
	Message string

	cause error // whose text is Message, or the end of it; may be nil
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

// Problems collects mistakes. The zero value has none.
type Problems Errors

// Add adds a mistake.
func (p *Problems) Add(at Position, format string, args ...any) {
	*p = append(*p, &Error{Position: at, Message: fmt.Sprintf(format, args...)})
}

// Cause adds an error.
func (p *Problems) Cause(at Position, err error) {
	*p = append(*p, &Error{Position: at, Message: err.Error(), cause: err})
}

// Unknown adds a key that is not one of the known ones.
func (p *Problems) Unknown(at Position, key string, known []string) {
	p.Add(at, "unknown key %q%s", key, nearest.HintOrAll(key, known))
}

// Err returns the mistakes as [Errors], sorted and without duplicates; nil if there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortFunc(p, func(a, b *Error) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Message, b.Message))
	})
	return Errors(slices.CompactFunc(p, func(a, b *Error) bool { return a.Error() == b.Error() }))
}
