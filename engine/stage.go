// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Stage is one step of a pipeline. A stage keeps its configuration and its
// dependencies; what a run hands it is in the task. Run may be called from any
// goroutine, and by several runs at once.
type Stage interface {
	Run(ctx context.Context, t *Task) (Outputs, error)
}

// Keyer is a stage whose outputs are kept between runs. Key covers the stage's
// kind, version and configuration and whatever else its outputs depend on
// besides the inputs; it is called once the inputs are known. Where it is empty
// the outputs are not kept this time. A stage that is not a Keyer runs every time.
type Keyer interface {
	Stage
	Key(ctx context.Context, t *Task) (digest.Digest, error)
}

// Checker is a Stage that can say what is wrong with its options, and with what
// they name, before anything runs. A run says the same; it need not call Check.
type Checker interface {
	Stage
	Check(ctx context.Context) error
}

// Replayer is a Keyer that has something to say also when its kept outputs are
// used instead of running it, such as the warnings of the run that made them.
// Replay changes nothing; its error makes the stage run.
type Replayer interface {
	Keyer
	Replay(ctx context.Context, t *Task, outputs Outputs) error
}

// Outputs names what a stage made. Every descriptor's blob is in Task.Store; so is what
// a manifest or an index among them lists, unless it is nowhere in the run. Nothing
// else passes from one stage to another.
type Outputs map[string]ocispec.Descriptor

// Store is what a stage reads and writes: the part of containerd's content.Store that
// is about blobs. Reads are verified against the digest.
type Store interface {
	content.Provider
	content.InfoProvider
	content.Ingester
}

// Task is what a node is given to run.
type Task struct {
	// Node is what is run.
	Node Node
	// Inputs holds a descriptor for every input of the node. An input that
	// takes several is spelled name/<key>, one entry a key.
	Inputs map[string]ocispec.Descriptor
	// Store has every input's blob and what that names, and takes every output's.
	// What else is written to it is gone when the task ends.
	Store Store
	// Secrets returns what references in the configuration of the node, and in its
	// inputs, stand for. The values must not get into outputs, events and errors.
	Secrets Secrets
	Log     *slog.Logger
	// Report tells of progress; never nil. Node and time are filled in.
	Report func(Event)

	transient bool
	skipped   string
	gate      *gate
}

// DoNotKeep says, from within Run, that the outputs of this run are good for
// this run only, although the stage is a Keyer: something entered them that the
// key does not cover.
func (t *Task) DoNotKeep() { t.transient = true }

// Skip reports, from within Run, that there was nothing to do, and why. The outputs
// count as those of any other run.
func (t *Task) Skip(why string) { t.skipped = why }

// Many returns the inputs name/<key> of a port that takes several, by key.
func (t *Task) Many(name string) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, key := range slices.Sorted(maps.Keys(t.Inputs)) {
		if strings.HasPrefix(key, name+"/") {
			out = append(out, t.Inputs[key])
		}
	}
	return out
}
