// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/taped-dev/tape/engine"
)

// Kind is a kind of stage that a pipeline can name in `uses`. This package has none itself;
// they are passed to [NewTable].
type Kind struct {
	Name string
	Help string // one line
	// Inputs and Outputs are the stage's ports.
	Inputs  []Port
	Outputs []string
	// Schema is the JSON Schema (draft 2020-12) of `with`; nil means no options.
	Schema json.RawMessage
	// Effects reports whether the stage changes anything but the store, such as a registry.
	// Dry runs, and runs that only save, leave it out.
	Effects bool
	// Needs lists what a process must provide to run the stage.
	Needs []engine.Need
	// Secrets returns the paths of secret values in `with`, of keys and indexes, in
	// addition to those that are writeOnly in Schema; it may be nil. The node has
	// references instead of these values ([engine.Secret]).
	Secrets func(ctx context.Context, with json.RawMessage) [][]string
	// New returns the stage for `with`, which is valid against Schema.
	New func(with json.RawMessage) (engine.Stage, error)
}

// Port is a named input of a stage.
type Port struct {
	Name     string
	Optional bool
	// Many allows a map of references: the task gets an input name/<key> for each.
	Many bool
}

// Configured returns a [Kind.New] for a constructor that takes the options as a value.
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
			return nil, err // not a nil S in a non-nil interface
		}
		return stage, nil
	}
}
