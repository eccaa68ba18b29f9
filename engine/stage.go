// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/store"
)

// Stage is one step of a pipeline. It contains its configuration and its dependencies; everything
// that belongs to a run is in the task. Run may be called concurrently, including by several
// runs.
type Stage interface {
	Run(ctx context.Context, t *Task) (Outputs, error)
}

// Keyer is a stage whose outputs are kept between runs. Key covers the kind, version and
// configuration of the stage, and everything else that its outputs depend on besides the inputs.
// It is called when the inputs are known. If the key is empty, the outputs of this run are not
// kept. A stage that is not a Keyer always runs.
type Keyer interface {
	Stage
	Key(ctx context.Context, t *Task) (digest.Digest, error)
}

// Checker is a Stage that can report mistakes in its options, and in what they name, before
// anything runs. A run reports the same mistakes, and need not call Check.
type Checker interface {
	Stage
	Check(ctx context.Context) error
}

// Replayer is a Keyer that has something to report even if its kept outputs are used instead of
// running it, such as the warnings of the run that made them. Replay changes nothing. If it
// fails, the stage is run.
type Replayer interface {
	Keyer
	Replay(ctx context.Context, t *Task, outputs Outputs) error
}

// Outputs are the results of a stage by name. The blob of every descriptor is in Task.Store, and
// so is everything that a manifest or an index among them lists, unless no part of the run has
// it. Stages exchange nothing else.
type Outputs map[string]ocispec.Descriptor

// Store is what a stage reads from and writes to: the part of containerd's content.Store that
// deals with blobs. Reads are verified by digest.
type Store = store.Blobs

// Task is the input of one run of a node.
type Task struct {
	// Node is the node to run.
	Node Node
	// Inputs contains a descriptor for every input of the node. The entries of an input that
	// takes several are named name/<key>.
	Inputs map[string]ocispec.Descriptor
	// Store contains the blobs of all inputs and everything that they refer to, and receives the
	// blobs of the outputs. Other blobs that are written to it are removed when the task ends.
	Store Store
	// Secrets returns the values of references in the configuration of the node and in its
	// inputs. The values must not appear in outputs, events or errors.
	Secrets Secrets
	Log     *slog.Logger
	// Report reports progress. It is never nil, and sets node and time.
	Report func(Event)

	transient bool
	skipped   string
	gate      *gate
}

// DoNotKeep is called by Run if later runs must not reuse its outputs, although the stage is a
// Keyer, because they depend on something that the key does not cover.
func (t *Task) DoNotKeep() { t.transient = true }

// Skip is called by Run with the reason if there was nothing to do. The outputs count as usual.
func (t *Task) Skip(why string) { t.skipped = why }

// Asked returns what Run asked for: the reason that it passed to Skip, or "", and whether it
// called DoNotKeep. An [Executor] that runs a copy of the task in another process must repeat
// both on the original.
func (t *Task) Asked() (skip string, doNotKeep bool) { return t.skipped, t.transient }

// Many returns the inputs name/<key> of an input that takes several, by key.
func (t *Task) Many(name string) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, key := range slices.Sorted(maps.Keys(t.Inputs)) {
		if strings.HasPrefix(key, name+"/") {
			out = append(out, t.Inputs[key])
		}
	}
	return out
}
