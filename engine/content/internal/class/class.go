// SPDX-License-Identifier: Apache-2.0

// Package class creates errors that belong to a class of containerd's errdefs.
package class

import "fmt"

// Errorf returns an error of a class. Unlike with %w, the text does not end in the name of
// the class.
func Errorf(class error, format string, args ...any) error {
	return &classError{fmt.Errorf(format, args...), class}
}

type classError struct {
	error
	class error
}

func (e *classError) Unwrap() []error { return []error{e.error, e.class} }
