// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/internal/atonce"
)

// namespace is required by some of containerd's packages.
const namespace = "tape"

// Options are the options of a run. By default, everything is in memory.
type Options struct {
	// Executor runs the nodes. It is required.
	Executor Executor
	// Store holds what is kept between runs. It must verify what it reads, as the one of
	// engine/content/store does. The outputs of stages that are not Keyers are never written to
	// it.
	Store Store
	// Cache maps keys to the outputs of earlier runs; nil keeps nothing.
	Cache Cache
	// Workers is the number of nodes that run concurrently; 0 means the number of CPUs, but at
	// least 4.
	Workers int
	Log     *slog.Logger // nil disables logging
	// Secrets returns the values of references in the nodes; nil if there are none.
	Secrets Secrets
	// Events receives all events, in order and from one goroutine. Stages do not wait for it. Run
	// returns after the last event. It may be nil.
	Events func(Event)
	// Results lists the outputs that the caller reads from the result. Other outputs are released
	// when the last node that reads them has ended; nil keeps all outputs.
	Results []Ref
	// Strict ends the run at the first warning, with [ErrWarning].
	Strict bool
	// NoCache runs every node. Outputs are still kept.
	NoCache bool
	// Audit reports whether the cached outputs of a key are to be made again and compared. A
	// difference ends the run with an *[AuditError]. If nil, nothing is audited.
	Audit func(key digest.Digest) bool
}

// Cache remembers between runs which outputs belong to the key of a node, like the one of
// engine/cache. Its methods may be called concurrently.
type Cache interface {
	// Get returns what was put under the key, or an error. The caller does not change the map.
	Get(ctx context.Context, key digest.Digest) (map[string]ocispec.Descriptor, error)
	// Put stores outputs by name. Everything that an output lists is also in the map, under its
	// digest as the name, so that it is kept when the store is pruned. All blobs are already in
	// the store.
	Put(ctx context.Context, key digest.Digest, outputs map[string]ocispec.Descriptor) error
}

// AuditError reports a cached output that differs from the one made again.
type AuditError struct {
	Key        digest.Digest // of the node
	Output     string
	Kept, Made digest.Digest // Made is "" if the stage did not make it
}

func (e *AuditError) Error() string {
	return fmt.Sprintf("the cache has %s for output %q of the key %s, and making it again gives %s; "+
		"someone may have tampered with the entry, or the stage is not deterministic", e.Kept, e.Output, e.Key, cmp.Or(e.Made, "nothing"))
}

// ErrWarning is the error of a strict run in which a stage reported a warning.
var ErrWarning = errors.New("a stage warned")

// Result is the result of a run.
type Result struct {
	// Nodes are in the order of the graph.
	Nodes []NodeResult
	// Store contains the outputs named in [Options.Results] and everything that they list.
	Store Store
	// Warnings are the warnings that stages reported, in the order of the graph, then by message.
	Warnings []Event
}

// NodeResult is the result of a node.
type NodeResult struct {
	Name    string        `json:"name"`
	State   State         `json:"state"`
	Seconds float64       `json:"seconds"`
	Key     digest.Digest `json:"key,omitempty"` // of a Keyer
	Outputs Outputs       `json:"outputs,omitempty"`
}

// Output finds the output of a node that has ended.
func (r *Result) Output(ref Ref) (ocispec.Descriptor, error) {
	node, output, _ := ref.Split()
	for _, n := range r.Nodes {
		if desc, ok := n.Outputs[output]; ok && n.Name == node {
			return desc, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("the run has no output %q", ref)
}

// Run runs the graph, and returns when every stage that it started has ended. A single goroutine,
// that of the caller, owns the state. A node starts when its inputs are known, in the order of
// the graph. The first failure cancels the running stages and starts no others; it is returned as
// a *[StageError]. If ctx ends first, its cause is returned. In both cases the result shows how
// far the run came.
func Run(ctx context.Context, g *Graph, o Options) (*Result, error) {
	o.Workers = cmp.Or(max(o.Workers, 0), atonce.Stages())
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Store == nil {
		o.Cache = nil
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	r := &run{
		graph: g, o: o, layer: store.NewOverlay(o.Store), done: make(chan ended), events: newQueue(o.Events),
		readers: map[Ref]int{}, retained: map[Ref][]digest.Digest{},
	}
	defer r.events.close()
	return r.all(namespaces.WithNamespace(ctx, namespace))
}

// run is one run of a graph.
type run struct {
	graph *Graph
	o     Options
	layer *store.Overlay
	done  chan ended
	// warned ends a strict run.
	warned context.CancelCauseFunc
	events *queue
	// readers is the number of remaining readers of each output. retained lists the blobs of each
	// output that are in memory.
	readers  map[Ref]int
	retained map[Ref][]digest.Digest

	mu       sync.Mutex // guards the fields below
	warnings []Event
}

// ended reports the end of a node to the scheduler.
type ended struct {
	node    int
	state   State
	key     digest.Digest
	outputs Outputs
	// retained are the blobs of each output that are in memory.
	retained map[string][]digest.Digest
	note     string // why there was nothing to do
	err      error
}

// all schedules the nodes.
func (r *run) all(ctx context.Context) (*Result, error) {
	ctx, r.warned = context.WithCancelCause(ctx)
	defer r.warned(nil)
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var (
		nodes   = r.graph.nodes
		results = make([]NodeResult, len(nodes))
		started = make([]time.Time, len(nodes))
		pending = make([]int, len(nodes))   // inputs that are not known yet
		feeds   = make([][]int, len(nodes)) // nodes that wait for each node
		ready   []int                       // sorted
		busy    int
		failure error
		stopped []string // nodes that were stopped because ctx ended
	)
	for i, n := range nodes {
		results[i] = NodeResult{Name: n.Name, State: Waiting}
		r.emit(Event{Node: n.Name, State: Waiting})
		for _, ref := range n.Inputs {
			r.readers[ref]++
		}
		pending[i] = len(r.graph.needs[i])
		for _, from := range r.graph.needs[i] {
			feeds[from] = append(feeds[from], i)
		}
		if pending[i] == 0 {
			ready = append(ready, i)
		}
	}
	for {
		for busy < r.o.Workers && len(ready) > 0 && context.Cause(running) == nil {
			i := ready[0]
			ready = ready[1:]
			busy++
			started[i] = time.Now()
			results[i].State = Running
			r.emit(Event{Node: nodes[i].Name, State: Running})
			inputs := make(map[string]ocispec.Descriptor, len(nodes[i].Inputs))
			for name, ref := range nodes[i].Inputs {
				node, output, _ := ref.Split()
				inputs[name] = results[r.graph.index[node]].Outputs[output]
			}
			go r.work(running, i, inputs)
		}
		if busy == 0 {
			break
		}
		e := <-r.done
		busy--
		result := &results[e.node]
		result.State, result.Key, result.Outputs = e.state, e.key, e.outputs
		result.Seconds = time.Since(started[e.node]).Round(time.Microsecond).Seconds()
		event := Event{Node: result.Name}
		switch {
		case e.err == nil:
			r.release(nodes[e.node], e.retained)
			for _, i := range feeds[e.node] {
				if pending[i]--; pending[i] == 0 {
					at, _ := slices.BinarySearch(ready, i)
					ready = slices.Insert(ready, at, i)
				}
			}
		case context.Cause(running) == nil:
			failure = &StageError{Node: result.Name, Err: e.err}
			cancel(failure)
			result.State, event.Err = Failed, e.err.Error()
		default:
			// The stage was stopped, or failed while it was being stopped.
			r.o.Log.Debug("stage stopped", "node", result.Name, "err", e.err)
			result.State = Cancelled
			stopped = append(stopped, result.Name)
		}
		event.State, event.Message = result.State, e.note
		r.emit(event)
	}
	complete := true
	for i := range results {
		if results[i].State == Waiting {
			complete = false
			results[i].State = Cancelled
			r.emit(Event{Node: results[i].Name, State: Cancelled})
		}
	}
	switch {
	case failure != nil:
	case len(stopped) > 0:
		slices.Sort(stopped)
		failure = fmt.Errorf("stopped while running %s: %w", strings.Join(stopped, ", "), context.Cause(ctx))
	case !complete:
		failure = fmt.Errorf("stopped: %w", context.Cause(ctx))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// The order must not depend on scheduling.
	slices.SortStableFunc(r.warnings, func(a, b Event) int {
		return cmp.Or(r.graph.index[a.Node]-r.graph.index[b.Node], strings.Compare(a.Message, b.Message))
	})
	return &Result{Nodes: results, Store: r.layer, Warnings: r.warnings}, failure
}

// release releases the outputs whose last reader is the node, and the outputs of the node that no
// other node reads.
func (r *run) release(n Node, retained map[string][]digest.Digest) {
	refs := slices.Collect(maps.Values(n.Inputs))
	for _, ref := range refs {
		r.readers[ref]--
	}
	for output, digests := range retained {
		ref := Ref(n.Name + "." + output)
		r.retained[ref] = digests
		refs = append(refs, ref)
	}
	for _, ref := range refs {
		if r.readers[ref] == 0 && r.o.Results != nil && !slices.Contains(r.o.Results, ref) {
			r.layer.Release(r.retained[ref]...)
			delete(r.retained, ref)
		}
	}
}

// work runs a node in a separate goroutine. It always reports the end of the node, even if the
// stage ends the goroutine.
func (r *run) work(ctx context.Context, node int, inputs map[string]ocispec.Descriptor) {
	e := ended{err: errors.New("the stage ended its goroutine")}
	defer func() {
		e.node = node
		r.done <- e
	}()
	e = r.execute(ctx, r.graph.nodes[node], inputs)
}

// execute finds the outputs of a node in the cache, or runs the stage.
func (r *run) execute(ctx context.Context, n Node, inputs map[string]ocispec.Descriptor) (e ended) {
	hold := r.layer.Hold()
	defer hold.LetGo()
	task := &Task{
		Node:    n,
		Inputs:  inputs,
		Store:   hold,
		Secrets: r.o.Secrets,
		Log:     r.o.Log.With("node", n.Name),
		Report: func(e Event) {
			e.Node, e.State = n.Name, ""
			r.emit(e)
		},
	}
	task.hide()
	defer task.guard(&e.err)
	e = r.executeTask(ctx, task)
	if e.err == nil {
		e.retained, e.err = r.retain(ctx, e.outputs)
	}
	return e
}

func (r *run) executeTask(ctx context.Context, task *Task) ended {
	n, inputs := task.Node, task.Inputs
	key, err := r.o.Executor.Key(ctx, task)
	if err == nil && key != "" {
		key, err = nodeKey(key, inputs)
	}
	if err != nil {
		return ended{err: err}
	}
	keeps := r.o.Cache != nil && key != ""
	if keeps && !r.o.NoCache {
		cached, err := r.o.Cache.Get(ctx, key)
		if err == nil {
			err = r.check(ctx, n, cached)
		}
		outputs := maps.Clone(cached)
		maps.DeleteFunc(outputs, func(name string, _ ocispec.Descriptor) bool { return digest.Digest(name).Validate() == nil })
		if err == nil {
			err = r.o.Executor.Replay(ctx, task, outputs)
		}
		if err == nil && r.o.Audit != nil && r.o.Audit(key) {
			if err := r.audit(ctx, task, key, outputs); err != nil {
				return ended{err: err}
			}
		}
		if err == nil {
			return ended{state: Cached, key: key, outputs: outputs}
		}
		r.o.Log.Debug("no result to use", "node", n.Name, "key", key, "reason", err)
	}
	outputs, err := r.o.Executor.Run(ctx, task)
	if err != nil {
		return ended{err: err}
	}
	if err := r.check(ctx, n, outputs); err != nil {
		return ended{err: err}
	}
	if keeps && !task.transient {
		if err := r.keep(ctx, key, outputs); err != nil && context.Cause(ctx) == nil {
			r.emit(Event{Node: n.Name, Level: Warning, Message: "the result is not kept for the next run: " + err.Error()})
		}
	}
	if task.skipped != "" {
		return ended{state: Skipped, key: key, outputs: outputs, note: task.skipped}
	}
	return ended{state: Done, key: key, outputs: outputs}
}

// audit makes the outputs of a node again, and compares them with the cached outputs.
func (r *run) audit(ctx context.Context, task *Task, key digest.Digest, kept Outputs) error {
	report := task.Report
	task.Report = func(Event) {} // the replay reports the same messages
	made, err := r.o.Executor.Run(ctx, task)
	task.Report = report
	if err != nil {
		return fmt.Errorf("make again what the cache has for the key %s: %w", key, err)
	}
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		if made[name].Digest != kept[name].Digest {
			return &AuditError{Key: key, Output: name, Kept: kept[name].Digest, Made: made[name].Digest}
		}
	}
	return nil
}

// check verifies the outputs of a node: those that other nodes read must exist, and every blob
// must match its digest.
func (r *run) check(ctx context.Context, n Node, outputs Outputs) error {
	for _, name := range r.graph.wanted(n.Name) {
		if _, ok := outputs[name]; !ok {
			return fmt.Errorf("the stage did not make its output %q", name)
		}
	}
	for name, desc := range outputs {
		ra, err := r.layer.ReaderAt(ctx, desc)
		if err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
		size := ra.Size()
		if err := ra.Close(); err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
		if size != desc.Size {
			return fmt.Errorf("output %q is declared with %d bytes and has %d", name, desc.Size, size)
		}
	}
	return nil
}

// retain marks the outputs of a node as read by others.
func (r *run) retain(ctx context.Context, outputs Outputs) (map[string][]digest.Digest, error) {
	out := map[string][]digest.Digest{}
	for name, desc := range outputs {
		all, err := r.layer.Closure(ctx, desc)
		if err != nil && !errdefs.IsNotFound(err) { // it is in the store below the memory layer
			return nil, fmt.Errorf("output %q: %w", name, err)
		}
		for _, one := range all {
			out[name] = append(out[name], one.Digest)
		}
		r.layer.Retain(out[name]...)
	}
	return out, nil
}

// keep writes all outputs of a node to the store concurrently, because each write waits for the
// disk. The list of what they refer to is stored under its digest, so that pruning requires no
// knowledge of outputs.
func (r *run) keep(ctx context.Context, key digest.Digest, outputs Outputs) error {
	kept := maps.Clone(outputs)
	for name, desc := range outputs {
		all, err := store.Closure(ctx, r.layer, desc)
		if err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
		for _, listed := range all[1:] {
			kept[listed.Digest.String()] = listed
		}
	}
	writes, writing := errgroup.WithContext(ctx) // its context ends with Wait
	for _, desc := range kept {
		writes.Go(func() error { return r.layer.Keep(writing, desc) })
	}
	if err := writes.Wait(); err != nil {
		return err
	}
	return r.o.Cache.Put(ctx, key, kept)
}

// emit passes an event on. It drops events from goroutines that a stage left running after the
// run.
func (r *run) emit(e Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if e.Level == Warning {
		r.mu.Lock()
		r.warnings = append(r.warnings, e)
		r.mu.Unlock()
		if r.o.Strict {
			r.warned(ErrWarning)
		}
	}
	r.events.put(e)
}
