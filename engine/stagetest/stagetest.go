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
	"cmp"
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
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/store"
)

// Blob is an input or an output.
type Blob struct {
	MediaType string
	Data      []byte
}

// JSON returns a document as a blob, encoded as by [engine.PutJSON].
func JSON(mediaType string, v any) (Blob, error) {
	data, err := engine.MarshalJSON(v)
	return Blob{MediaType: mediaType, Data: data}, err
}

// Decode decodes the document in a blob.
func (b Blob) Decode(v any) error { return json.Unmarshal(b.Data, v) }

// Case is a stage with its inputs.
type Case struct {
	Stage  engine.Stage
	Inputs map[string]Blob
	// Also is in the store without being an input, such as blobs that manifests and indexes
	// among the inputs list.
	Also []Blob
	// Node is the node that the stage runs as. Its Outputs are the names that the kind declares.
	Node engine.Node
	// Secrets are the values of references in the node and the inputs.
	Secrets map[string]string
	Log     *slog.Logger // nil: silent
}

// Result is the result of a case.
type Result struct {
	Outputs map[string]Blob
	// Descriptors of the outputs, as the stage returned them.
	Descriptors engine.Outputs
	// Store has the outputs and everything else that the stage wrote.
	Store engine.Store
	// Events that the stage reported, in order.
	Events []engine.Event

	task *engine.Task

	mu   sync.Mutex // guards Events until Run has returned, and:
	over bool       // Run has returned
	late bool       // an event came after that
}

func (r *Result) isLate() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.late
}

// Run runs the stage once, in a store of its own.
func (c Case) Run(ctx context.Context) (*Result, error) {
	layer := store.NewOverlay(nil)
	return c.run(ctx, layer, layer, func() {})
}

// run puts the inputs into one store and gives the stage another store over it. It calls hear
// with each event.
func (c Case) run(ctx context.Context, below, given engine.Store, hear func()) (*Result, error) {
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
	result := &Result{Outputs: map[string]Blob{}, Store: below}
	task := &engine.Task{
		Node:    c.Node,
		Inputs:  maps.Clone(inputs),
		Store:   given,
		Log:     cmp.Or(c.Log, slog.New(slog.DiscardHandler)),
		Secrets: c.secret,
		Report: func(e engine.Event) {
			result.mu.Lock()
			defer result.mu.Unlock()
			if result.over {
				result.late = true
				return
			}
			hear()
			e.Node, e.State, e.At = "test", "", time.Now()
			result.Events = append(result.Events, e)
		},
	}
	task.Node.Name = "test"
	result.task = task
	outputs, err := c.Stage.Run(ctx, task)
	result.mu.Lock()
	defer result.mu.Unlock()
	result.over = true
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
			return result, fmt.Errorf("output %q is declared with %d bytes and has %d", name, desc.Size, len(data))
		}
		result.Outputs[name] = Blob{MediaType: desc.MediaType, Data: data}
	}
	return result, nil
}

func (c Case) secret(_ context.Context, name string) (string, error) {
	value, ok := c.Secrets[name]
	if !ok {
		return "", fmt.Errorf("the case has no secret %q", name)
	}
	return value, nil
}

// slow is the time that a slow consumer takes for an event.
const slow = time.Millisecond

// Check runs the stage several times and says what is wrong with it:
//
//   - two runs at once must make the same outputs, bit by bit, also where whoever
//     hears of events is slow;
//   - every output must be declared, if Node.Outputs are, and in the store as its
//     descriptor says;
//   - the inputs must stay as they are, and of the store only they, what they list
//     and what the stage wrote may be read: another process has no more;
//   - outputs and events must not have the values of secrets;
//   - no event may come after the run;
//   - a Keyer must have one key;
//   - a run whose context ends, before it starts or at any use of its store,
//     must fail, and with the reason: whoever goes on would publish half of
//     something.
//
// The stage must be one that succeeds. A stage that hangs, hangs here.
func (c Case) Check(ctx context.Context) error {
	counted := &counter{at: -1, read: map[digest.Digest]bool{}, written: map[digest.Digest]bool{}}
	var results [2]*Result
	var errs [2]error
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			below := store.NewOverlay(nil)
			if i > 0 {
				results[i], errs[i] = c.run(ctx, below, below, func() { time.Sleep(slow) })
				return
			}
			results[i], errs[i] = c.run(ctx, below, watched{below, counted}, func() {})
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if err := same(results[0].Outputs, results[1].Outputs); err != nil {
		return fmt.Errorf("two runs differ: %w", err)
	}
	for _, check := range []error{c.checkNames(results[0]), checkReads(ctx, results[0], counted), c.checkSecrets(results[0])} {
		if check != nil {
			return check
		}
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
	for _, r := range results {
		if r.isLate() {
			return errors.New("the stage reported an event after its run")
		}
	}
	return nil
}

// checkNames checks that the outputs are declared.
func (c Case) checkNames(r *Result) error {
	for _, name := range slices.Sorted(maps.Keys(r.Outputs)) {
		if c.Node.Outputs != nil && !slices.Contains(c.Node.Outputs, name) {
			return fmt.Errorf("output %q is not declared (declared: %s)", name, strings.Join(c.Node.Outputs, ", "))
		}
	}
	return nil
}

// checkReads checks that the stage read only its inputs and what they list.
func checkReads(ctx context.Context, r *Result, counted *counter) error {
	left := maps.Clone(counted.read)
	maps.DeleteFunc(left, func(dgst digest.Digest, _ bool) bool { return counted.written[dgst] })
	for _, desc := range r.task.Inputs {
		delete(left, desc.Digest)
	}
	if len(left) == 0 {
		return nil
	}
	for name, desc := range r.task.Inputs {
		listed, err := store.Closure(ctx, r.Store, desc)
		if err != nil {
			return fmt.Errorf("input %q: %w", name, err)
		}
		for _, d := range listed {
			delete(left, d.Digest)
		}
	}
	for _, dgst := range slices.Sorted(maps.Keys(left)) {
		return fmt.Errorf("the stage read blob %s, which is neither an input nor listed by one", dgst)
	}
	return nil
}

// checkSecrets checks that the values of secrets were not disclosed.
func (c Case) checkSecrets(r *Result) error {
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		text, err := json.Marshal(c.Secrets[name])
		if err != nil {
			return err
		}
		in := func(data []byte) bool {
			return bytes.Contains(data, []byte(c.Secrets[name])) || bytes.Contains(data, text[1:len(text)-1])
		}
		for _, output := range slices.Sorted(maps.Keys(r.Outputs)) {
			if in(r.Outputs[output].Data) {
				return fmt.Errorf("output %q has the value of secret %s", output, name)
			}
		}
		if in(fmt.Appendf(nil, "%+v", r.Events)) {
			return fmt.Errorf("an event has the value of secret %s", name)
		}
	}
	return nil
}

// checkKey checks that the key of a task does not vary.
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

// checkCancelled ends the context before the at-th use of the store; 0 is before the stage
// starts.
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
	_, err := c.run(ctx, below, watched{below, &counter{at: at, cancel: cancel}}, func() {})
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

// same compares outputs and returns an error that names the first difference.
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

// watched counts how a stage uses its store.
type watched struct {
	engine.Store
	*counter
}

type counter struct {
	mu            sync.Mutex
	uses          int
	at            int // the use at which to cancel
	cancel        context.CancelCauseFunc
	read, written map[digest.Digest]bool // nil: not recorded
}

func (c *counter) use() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uses++; c.uses == c.at {
		c.cancel(errCancelled)
	}
}

func (c *counter) note(where map[digest.Digest]bool, dgst digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if where != nil {
		where[dgst] = true
	}
}

func (w watched) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	w.use()
	w.note(w.read, desc.Digest)
	return w.Store.ReaderAt(ctx, desc)
}

func (w watched) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w.use()
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	writer, err := w.Store.Writer(ctx, opts...)
	if errdefs.IsAlreadyExists(err) {
		w.note(w.written, o.Desc.Digest)
	}
	if err != nil {
		return nil, err
	}
	return watchedWriter{writer, w.counter}, nil
}

// watchedWriter records writes.
type watchedWriter struct {
	content.Writer
	*counter
}

func (w watchedWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	err := w.Writer.Commit(ctx, size, expected, opts...)
	if err == nil || errdefs.IsAlreadyExists(err) {
		w.note(w.written, w.Digest())
	}
	return err
}
