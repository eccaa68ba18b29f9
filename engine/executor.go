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

// Executor runs the tasks of a graph. [Stages] runs them in this process;
// another executor may hand a task, whose node is data, to another process that
// shares the store. Its methods may be called concurrently.
type Executor interface {
	// Run makes the outputs of a task; their blobs are in Task.Store.
	Run(ctx context.Context, t *Task) (Outputs, error)
	// Key returns the key of a task, as [Keyer] has it, "" where the outputs are
	// not kept.
	Key(ctx context.Context, t *Task) (digest.Digest, error)
	// Replay is called where kept outputs are used in the place of Run, as
	// [Replayer] has it.
	Replay(ctx context.Context, t *Task, outputs Outputs) error
}

// Stages is the executor of this process. It holds, for each kind of node, what
// makes the stage of a configuration. A stage that panics fails, and what a task says
// holds no secret that was revealed to it.
type Stages map[string]func(config json.RawMessage) (Stage, error)

// Stage makes the stage of a node, with what the references in its configuration
// stand for.
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
	t.hide()
	defer t.guard(&err)
	stage, err := s.Stage(ctx, t.Node, t.Secrets)
	if err != nil {
		return nil, err
	}
	return stage.Run(ctx, t)
}

// Key implements [Executor].
func (s Stages) Key(ctx context.Context, t *Task) (key digest.Digest, err error) {
	t.hide()
	defer t.guard(&err)
	stage, err := s.Stage(ctx, t.Node, t.Secrets)
	if err != nil {
		return "", err
	}
	if keyer, ok := stage.(Keyer); ok {
		return keyer.Key(ctx, t)
	}
	return "", nil
}

// Replay implements [Executor].
func (s Stages) Replay(ctx context.Context, t *Task, outputs Outputs) (err error) {
	t.hide()
	defer t.guard(&err)
	stage, err := s.Stage(ctx, t.Node, t.Secrets)
	if err != nil {
		return err
	}
	if replayer, ok := stage.(Replayer); ok {
		return replayer.Replay(ctx, t, outputs)
	}
	return nil
}
