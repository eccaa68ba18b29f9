// SPDX-License-Identifier: Apache-2.0

package store

import "fmt"

// classed is an error of a class of errdefs, whose name the text does not end in.
func classed(class error, format string, args ...any) error {
	return &classError{fmt.Errorf(format, args...), class}
}

type classError struct {
	error
	class error
}

func (e *classError) Unwrap() []error { return []error{e.error, e.class} }
