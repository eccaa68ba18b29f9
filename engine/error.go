// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"strings"
)

// StageError says which node failed, and why.
type StageError struct {
	Node string
	Err  error
}

func (e *StageError) Error() string { return e.Node + ": " + e.Err.Error() }
func (e *StageError) Unwrap() error { return e.Err }

// PanicError is the error of a stage that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("the stage panicked: %v", e.Value) }

// CycleError names the nodes of a cycle in the order in which each needs the
// next; the last needs the first.
type CycleError struct {
	Nodes []string
}

func (e *CycleError) Error() string {
	return "nodes need each other in a circle: " + strings.Join(append(e.Nodes[:len(e.Nodes):len(e.Nodes)], e.Nodes[0]), " → ")
}
