// SPDX-License-Identifier: Apache-2.0

// Package stagetest is a kit for authors of stages: it runs one stage on given
// blobs, and checks that it keeps the contract of [engine.Stage]. It returns
// errors and does not import testing, so that it serves tests and tools alike.
//
//	c := stagetest.Case{Stage: scan.New(), Inputs: map[string]stagetest.Blob{"manifests/web": tar}}
//	if err := c.Check(t.Context()); err != nil {
//		t.Error(err)
//	}
package stagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/store"
)

// Blob is an input or an output.
type Blob struct {
	MediaType string
	Data      []byte
}

// JSON is a document as a blob, encoded as [engine.PutJSON] does.
func JSON(mediaType string, v any) (Blob, error) {
	data, err := engine.MarshalJSON(v)
	return Blob{MediaType: mediaType, Data: data}, err
}

// Decode reads the document in a blob.
func (b Blob) Decode(v any) error { return json.Unmarshal(b.Data, v) }

// Case is a stage with what it is given.
type Case struct {
	Stage  engine.Stage
	Inputs map[string]Blob
	// Also is in the store without being an input: what inputs name.
	Also []Blob
	Log  *slog.Logger // nil: silent
}

// Result is what a stage made of a case.
type Result struct {
	Outputs map[string]Blob
	// Descriptors of the outputs, as the stage returned them.
	Descriptors engine.Outputs
	// Store has the outputs, and what else the stage wrote.
	Store engine.Store
	// Events that the stage reported, in order.
	Events []engine.Event

	task *engine.Task
}

// Run runs the stage once, in a store of its own.
func (c Case) Run(ctx context.Context) (*Result, error) {
	layer := store.NewOverlay(nil)
	return c.run(ctx, layer, layer)
}

// run puts the inputs into one store and gives the stage another, over it.
func (c Case) run(ctx context.Context, below, given engine.Store) (*Result, error) {
	inputs := map[string]ocispec.Descriptor{}
	for _, name := range slices.Sorted(maps.Keys(c.Inputs)) {
		desc, err := engine.Put(context.WithoutCancel(ctx), below, c.Inputs[name].MediaType, c.Inputs[name].Data)
		if err != nil {
			return nil, err
		}
		inputs[name] = desc
	}
	for _, blob := range c.Also {
		if _, err := engine.Put(context.WithoutCancel(ctx), below, blob.MediaType, blob.Data); err != nil {
			return nil, err
		}
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	result := &Result{Outputs: map[string]Blob{}, Store: below}
	var mu sync.Mutex
	task := &engine.Task{
		Node:   engine.Node{Name: "test"},
		Inputs: maps.Clone(inputs),
		Store:  given,
		Log:    log,
		Report: func(e engine.Event) {
			mu.Lock()
			defer mu.Unlock()
			e.Node, e.State, e.At = "test", "", time.Now()
			result.Events = append(result.Events, e)
		},
	}
	result.task = task
	outputs, err := c.Stage.Run(ctx, task)
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		return result, err
	}
	if !maps.EqualFunc(inputs, task.Inputs, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }) {
		return result, errors.New("the stage changed its inputs")
	}
	result.Descriptors = outputs
	for _, name := range slices.Sorted(maps.Keys(outputs)) {
		desc := outputs[name]
		data, err := engine.Get(context.WithoutCancel(ctx), below, desc)
		if err != nil {
			return result, fmt.Errorf("output %q: %w", name, err)
		}
		if int64(len(data)) != desc.Size {
			return result, fmt.Errorf("output %q is said to have %d bytes and has %d", name, desc.Size, len(data))
		}
		result.Outputs[name] = Blob{MediaType: desc.MediaType, Data: data}
	}
	return result, nil
}

// Check runs the stage several times and says what is wrong with it:
//
//   - two runs at once must make the same outputs, bit by bit;
//   - every output must be in the store, as its descriptor says;
//   - the inputs must stay as they are;
//   - a Keyer must have one key;
//   - a run whose context ends, before it starts or at any use of its store,
//     must fail, and with the reason: whoever goes on would publish half of
//     something.
//
// The stage must be one that succeeds. A stage that hangs, hangs here.
func (c Case) Check(ctx context.Context) error {
	counted := &counter{at: -1}
	var results [2]*Result
	var errs [2]error
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			if i > 0 {
				results[i], errs[i] = c.Run(ctx)
				return
			}
			below := store.NewOverlay(nil)
			results[i], errs[i] = c.run(ctx, below, watched{below, counted})
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if err := same(results[0].Outputs, results[1].Outputs); err != nil {
		return fmt.Errorf("two runs differ: %w", err)
	}
	if keyer, ok := c.Stage.(engine.Keyer); ok {
		if err := checkKey(ctx, keyer, results[0].task); err != nil {
			return err
		}
	}
	for at := range counted.uses + 1 {
		if err := c.checkCancelled(ctx, at); err != nil {
			return err
		}
	}
	return nil
}

// checkKey holds that a task has one key.
func checkKey(ctx context.Context, keyer engine.Keyer, task *engine.Task) error {
	a, errA := keyer.Key(ctx, task)
	b, errB := keyer.Key(ctx, task)
	switch err := errors.Join(errA, errB); {
	case err != nil:
		return fmt.Errorf("key: %w", err)
	case a != b:
		return fmt.Errorf("two keys differ: %s and %s", a, b)
	case a != "" && a.Validate() != nil:
		return fmt.Errorf("key %q is not a digest", a)
	}
	return nil
}

var errCancelled = errors.New("cancelled by stagetest")

// checkCancelled ends the context before the stage's at-th use of its store; 0
// is before it starts.
func (c Case) checkCancelled(ctx context.Context, at int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	when := "before it started"
	if at == 0 {
		cancel(errCancelled)
	} else {
		when = fmt.Sprintf("at use %d of its store", at)
	}
	below := store.NewOverlay(nil)
	_, err := c.run(ctx, below, watched{below, &counter{at: at, cancel: cancel}})
	switch {
	case context.Cause(ctx) == nil:
		return nil // this run used the store less often
	case err == nil:
		return fmt.Errorf("the stage succeeded although its context ended %s", when)
	case !errors.Is(err, errCancelled) && !errors.Is(err, context.Canceled):
		return fmt.Errorf("the context ended %s, and the stage's error does not wrap the reason: %w", when, err)
	}
	return nil
}

// same compares outputs and says where they part.
func same(a, b map[string]Blob) error {
	if namesA, namesB := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)); !slices.Equal(namesA, namesB) {
		return fmt.Errorf("outputs are %s and %s", strings.Join(namesA, ", "), strings.Join(namesB, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		x, y := a[name], b[name]
		if x.MediaType != y.MediaType {
			return fmt.Errorf("output %q is %s and %s", name, x.MediaType, y.MediaType)
		}
		if bytes.Equal(x.Data, y.Data) {
			continue
		}
		at := 0
		for at < min(len(x.Data), len(y.Data)) && x.Data[at] == y.Data[at] {
			at++
		}
		return fmt.Errorf("output %q from byte %d: %q and %q", name, at, excerpt(x.Data, at), excerpt(y.Data, at))
	}
	return nil
}

func excerpt(data []byte, at int) []byte { return data[at:min(at+40, len(data))] }

// watched counts what a stage does with its store.
type watched struct {
	engine.Store
	*counter
}

type counter struct {
	mu     sync.Mutex
	uses   int
	at     int // the use at which to cancel
	cancel context.CancelCauseFunc
}

func (c *counter) use() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uses++; c.uses == c.at {
		c.cancel(errCancelled)
	}
}

func (w watched) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	w.use()
	return w.Store.ReaderAt(ctx, desc)
}

func (w watched) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w.use()
	return w.Store.Writer(ctx, opts...)
}
