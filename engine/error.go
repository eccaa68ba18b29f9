// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"strings"
)

// StageError reports which node failed, and why.
type StageError struct {
	Node string
	Err  error
}

func (e *StageError) Error() string { return e.Node + ": " + e.Err.Error() }
func (e *StageError) Unwrap() error { return e.Err }

// OptionError is a mistake in the options of a stage that their schema cannot express. It is
// found when the stage is made, checked or run. A caller that has the file with the options can
// add the position.
type OptionError struct {
	// Path leads to the option, or to a part of it. It consists of map keys and list indexes.
	Path []string
	Err  error
}

func (e *OptionError) Error() string { return e.Err.Error() }
func (e *OptionError) Unwrap() error { return e.Err }

// OptionErrors are all mistakes that a stage found in its options.
type OptionErrors = Errors[*OptionError]

// Errors joins several errors of the same type. Its message has one line for each.
type Errors[E error] []E

func (e Errors[E]) Error() string { return errors.Join(e.Unwrap()...).Error() }

// Unwrap returns the errors, for errors.As.
func (e Errors[E]) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// Mistaken returns err as a mistake in the named option, or nil if err is nil.
func Mistaken(option string, err error) error {
	if err == nil {
		return nil
	}
	return OptionErrors{{Path: []string{option}, Err: err}}
}

// PanicError is the error of a stage that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("the stage panicked: %v", e.Value) }

// CycleError names the nodes of a cycle, in the order in which each depends on the next. The last
// depends on the first.
type CycleError struct {
	Nodes []string
}

func (e *CycleError) Error() string {
	return "nodes depend on each other in a cycle: " + strings.Join(append(e.Nodes[:len(e.Nodes):len(e.Nodes)], e.Nodes[0]), " → ")
}

// ErrPolicy is wrapped by the error of a stage that refuses its input because of a policy or a
// failed verification. The tape command exits with status 3 for it, and with 1 for other
// failures.
var ErrPolicy = errors.New("refused")
