// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Executor runs the tasks of a graph. [Stages] runs them in this process. Because a node is
// data, another executor may pass a task to another process that shares the store. Its methods
// may be called concurrently.
type Executor interface {
	// Run returns the outputs of a task. Their blobs are in Task.Store. What the stage asked for
	// ([Task.Asked]) must also be asked of t.
	Run(ctx context.Context, t *Task) (Outputs, error)
	// Key returns the key of a task as defined by [Keyer], or "" if the outputs are not kept.
	Key(ctx context.Context, t *Task) (digest.Digest, error)
	// Replay is called, as defined by [Replayer], when kept outputs are used instead of Run.
	Replay(ctx context.Context, t *Task, outputs Outputs) error
}

// Stages is the executor of this process: it maps each kind of node to a function that makes the
// stage from its configuration. A panic of a stage becomes an error, and secrets that were
// revealed to a task are hidden in its events and errors.
type Stages map[string]func(config json.RawMessage) (Stage, error)

// Stage returns the stage of a node, with the secret references in its configuration replaced by
// their values.
func (s Stages) Stage(ctx context.Context, n Node, secrets Secrets) (Stage, error) {
	make, ok := s[n.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no kind of stage %q, there are %s", n.Kind, strings.Join(slices.Sorted(maps.Keys(s)), ", "))
	}
	config, err := secrets.Reveal(ctx, n.Config)
	if err != nil {
		return nil, err
	}
	return make(config)
}

// Run implements [Executor].
func (s Stages) Run(ctx context.Context, t *Task) (outputs Outputs, err error) {
	err = s.do(ctx, t, func(stage Stage) error {
		outputs, err = stage.Run(ctx, t)
		return err
	})
	return outputs, err
}

// do calls f with the stage of a task.
func (s Stages) do(ctx context.Context, t *Task, f func(Stage) error) (err error) {
	t.hide()
	defer t.guard(&err)
	stage, err := s.Stage(ctx, t.Node, t.Secrets)
	if err != nil {
		return err
	}
	return f(stage)
}

// Key implements [Executor].
func (s Stages) Key(ctx context.Context, t *Task) (key digest.Digest, err error) {
	err = s.do(ctx, t, func(stage Stage) error {
		if keyer, ok := stage.(Keyer); ok {
			key, err = keyer.Key(ctx, t)
		}
		return err
	})
	return key, err
}

// Replay implements [Executor].
func (s Stages) Replay(ctx context.Context, t *Task, outputs Outputs) error {
	return s.do(ctx, t, func(stage Stage) error {
		if replayer, ok := stage.(Replayer); ok {
			return replayer.Replay(ctx, t, outputs)
		}
		return nil
	})
}
