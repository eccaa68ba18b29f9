// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/taped-dev/tape/engine"
)

// Kind is a kind of stage that a pipeline can name in `uses`. The table of
// kinds is given to this package; it knows none itself.
type Kind struct {
	Name string
	Help string // one line
	// Inputs and Outputs are the stage's ports.
	Inputs  []Port
	Outputs []string
	// Schema is the JSON Schema (draft 2020-12) of `with`; nil: it takes none.
	Schema json.RawMessage
	// Effects reports whether the stage changes anything but the store, such as a
	// registry: a dry run, and a run that only saves, leave it out.
	Effects bool
	// Needs are what a process must have to run the stage.
	Needs []engine.Need
	// Secrets returns where in `with` values stand that must not be told, beside those
	// that Schema calls writeOnly, as paths of keys and indexes; it may be nil. In the
	// node there are references in their place ([engine.Secret]).
	Secrets func(ctx context.Context, with json.RawMessage) [][]string
	// New makes the stage from `with`, which is valid against Schema.
	New func(with json.RawMessage) (engine.Stage, error)
}

// Port is a named input of a stage.
type Port struct {
	Name     string
	Optional bool
	// Many: the port takes a map of references, and the task sees one input
	// name/<key> for each.
	Many bool
}

// Configured makes [Kind.New] of a constructor that takes the options as a value.
func Configured[C any, S engine.Stage](construct func(C) (S, error)) func(json.RawMessage) (engine.Stage, error) {
	return func(with json.RawMessage) (engine.Stage, error) {
		var config C
		if len(with) > 0 {
			if err := json.Unmarshal(with, &config); err != nil {
				return nil, fmt.Errorf("read options: %w", err)
			}
		}
		stage, err := construct(config)
		if err != nil {
			return nil, err // and no nil *Stage that looks like one
		}
		return stage, nil
	}
}
