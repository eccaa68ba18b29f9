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
	"reflect"
	"runtime/debug"
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
	// Also is in the store without being an input, such as blobs listed by manifests and indexes
	// among the inputs.
	Also []Blob
	// Node is the node that the stage runs as. Its Outputs are the outputs that the kind
	// declares.
	Node engine.Node
	// Secrets are the values of references in the node and the inputs.
	Secrets map[string]string
	Log     *slog.Logger // nil disables logging
}

// Result is the result of a case.
type Result struct {
	Outputs map[string]Blob
	// Descriptors are the descriptors of the outputs, as the stage returned them.
	Descriptors engine.Outputs
	// Store contains the outputs and everything else that the stage wrote.
	Store engine.Store
	// Events are the events that the stage reported, in order.
	Events []engine.Event

	task *engine.Task

	mu   sync.Mutex // guards Events until Run has returned, and:
	log  bytes.Buffer
	over bool // Run has returned
	late bool // an event was reported after that
}

// logOf writes to the log of a result.
type logOf struct{ *Result }

func (l logOf) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

func (r *Result) isLate() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.late
}

// Run runs the stage once, in a separate store.
func (c Case) Run(ctx context.Context) (*Result, error) {
	layer := store.NewOverlay(nil)
	return c.run(ctx, layer, layer, func() {})
}

// run puts the inputs into one store and gives the stage another store over it. It calls hear
// with each event.
func (c Case) run(ctx context.Context, below, given engine.Store, hear func()) (*Result, error) {
	inputs := map[string]ocispec.Descriptor{}
	for _, name := range slices.Sorted(maps.Keys(c.Inputs)) {
		desc, err := engine.Put(context.WithoutCancel(ctx), below, c.Inputs[name].MediaType, bytes.Clone(c.Inputs[name].Data))
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
	log := slog.Handler(slog.NewJSONHandler(logOf{result}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if c.Log != nil {
		log = slog.NewMultiHandler(log, c.Log.Handler())
	}
	task := &engine.Task{
		Node:    c.Node,
		Inputs:  maps.Clone(inputs),
		Store:   given,
		Log:     slog.New(log),
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
	task.Node.Name, task.Node.Config = "test", bytes.Clone(c.Node.Config)
	result.task = task
	outputs, err := guarded(func() (engine.Outputs, error) { return c.Stage.Run(ctx, task) })
	result.mu.Lock()
	defer result.mu.Unlock()
	result.over = true
	if err := c.unchanged(context.WithoutCancel(ctx), below, inputs, task); err != nil {
		return result, err
	}
	if err != nil {
		return result, err
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
		if desc.MediaType == "" {
			return result, fmt.Errorf("output %q has no media type", name)
		}
		result.Outputs[name] = Blob{MediaType: desc.MediaType, Data: data}
	}
	return result, nil
}

// guarded turns a panic into an error, so that a test of several stages continues.
func guarded[T any](call func() (T, error)) (result T, err error) {
	defer func() {
		if value := recover(); value != nil {
			stack := debug.Stack()
			err = fmt.Errorf("%w\n%s", &engine.PanicError{Value: value, Stack: stack}, stack)
		}
	}()
	return call()
}

// unchanged checks that a run left the inputs and the node as they are.
func (c Case) unchanged(ctx context.Context, below engine.Store, inputs map[string]ocispec.Descriptor, task *engine.Task) error {
	if !maps.EqualFunc(inputs, task.Inputs, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }) {
		return errors.New("the stage changed its inputs")
	}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if data, err := engine.Get(ctx, below, inputs[name]); err != nil || !bytes.Equal(data, c.Inputs[name].Data) {
			return fmt.Errorf("the stage changed the bytes of its input %q", name)
		}
	}
	if !bytes.Equal(task.Node.Config, c.Node.Config) {
		return errors.New("the stage changed the configuration of its node")
	}
	return nil
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

// Check runs the stage several times and returns an error if it breaks a rule:
//
//   - Two concurrent runs make the same outputs, bit by bit, even if the consumer
//     of events is slow.
//   - Every output is declared and every declared one made, if Node.Outputs is
//     set, and its blob in the store matches its descriptor.
//   - The inputs do not change, and the stage reads only them, what they list and
//     what it wrote: another process would have nothing else.
//   - Outputs, events, errors and the log do not contain the values of secrets.
//   - No event is reported, and the store is not used, after the run.
//   - The key of a Keyer does not vary. If it reports messages with a level, it is
//     a Replayer that repeats them.
//   - A Checker finds nothing wrong.
//   - A run whose context ends, before it starts or at any use of its store,
//     fails with the reason: continuing would publish something incomplete.
//
// The stage must succeed. A panic is an error. If the stage hangs, so does Check.
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
			counted.end()
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if err := same(results[0], results[1]); err != nil {
		return fmt.Errorf("two runs differ: %w", err)
	}
	for _, check := range []error{c.checkNames(results[0]), checkReads(ctx, results[0], counted), c.checkSecrets(results[0])} {
		if check != nil {
			return check
		}
	}
	if keyer, ok := c.Stage.(engine.Keyer); ok {
		if err := c.checkKeyer(ctx, keyer, results[1]); err != nil {
			return err
		}
	}
	if checker, ok := c.Stage.(engine.Checker); ok {
		if _, err := guarded(func() (any, error) { return nil, checker.Check(ctx) }); err != nil {
			return fmt.Errorf("check of a stage that succeeds: %w", err)
		}
	}
	uses, _ := counted.end()
	for at := range uses + 1 {
		if err := c.checkCancelled(ctx, at); err != nil {
			return err
		}
	}
	for _, r := range results {
		if r.isLate() {
			return errors.New("the stage reported an event after its run")
		}
	}
	if _, late := counted.end(); late {
		return errors.New("the stage used its store after its run")
	}
	return nil
}

// checkNames checks that the outputs are those that are declared.
func (c Case) checkNames(r *Result) error {
	for _, name := range slices.Sorted(maps.Keys(r.Outputs)) {
		if c.Node.Outputs != nil && !slices.Contains(c.Node.Outputs, name) {
			return fmt.Errorf("output %q is not declared (declared: %s)", name, strings.Join(c.Node.Outputs, ", "))
		}
	}
	for _, name := range c.Node.Outputs {
		if _, ok := r.Outputs[name]; !ok {
			return fmt.Errorf("the stage did not make its output %q", name)
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
	for _, output := range slices.Sorted(maps.Keys(r.Outputs)) {
		if name := c.secretIn(r.Outputs[output].Data); name != "" {
			return fmt.Errorf("output %q has the value of secret %s", output, name)
		}
	}
	if name := c.secretIn(fmt.Appendf(nil, "%+v", r.Events)); name != "" {
		return fmt.Errorf("an event has the value of secret %s", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if name := c.secretIn(r.log.Bytes()); name != "" {
		return fmt.Errorf("the log has the value of secret %s", name)
	}
	return nil
}

// secretIn returns the name of a secret whose value is in a text, as it is or encoded as JSON.
func (c Case) secretIn(data []byte) string {
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		quoted, err := engine.MarshalJSON(c.Secrets[name])
		if bytes.Contains(data, []byte(c.Secrets[name])) || err == nil && bytes.Contains(data, quoted[1:len(quoted)-1]) {
			return name
		}
	}
	return ""
}

// checkKeyer checks that the key of a task does not vary, and that a run that uses the kept
// outputs reports the same messages.
func (c Case) checkKeyer(ctx context.Context, keyer engine.Keyer, r *Result) error {
	key := func() (digest.Digest, error) { return keyer.Key(ctx, r.task) }
	a, errA := guarded(key)
	b, errB := guarded(key)
	_, doNotKeep := r.task.Asked()
	switch err := errors.Join(errA, errB); {
	case err != nil:
		return fmt.Errorf("key: %w", err)
	case a != b:
		return fmt.Errorf("two keys differ: %s and %s", a, b)
	case a == "" || doNotKeep:
		return nil
	case a.Validate() != nil:
		return fmt.Errorf("key %q is not a digest", a)
	}
	var replayed Result
	if replayer, ok := keyer.(engine.Replayer); ok {
		task := &engine.Task{
			Node: r.task.Node, Inputs: maps.Clone(r.task.Inputs), Store: r.Store, Log: r.task.Log, Secrets: c.secret,
			Report: func(e engine.Event) {
				replayed.mu.Lock()
				defer replayed.mu.Unlock()
				replayed.Events = append(replayed.Events, e)
			},
		}
		outputs := maps.Clone(r.Descriptors)
		if _, err := guarded(func() (any, error) { return nil, replayer.Replay(ctx, task, outputs) }); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		if !reflect.DeepEqual(outputs, r.Descriptors) {
			return errors.New("replay changed the outputs")
		}
	}
	replayed.mu.Lock()
	defer replayed.mu.Unlock()
	if run, again := messages(r.Events), messages(replayed.Events); !slices.Equal(run, again) {
		return fmt.Errorf("a run reports %q, and one that uses its kept outputs %q: see engine.Replayer", run, again)
	}
	return nil
}

// messages returns the messages of events that have a level, sorted.
func messages(events []engine.Event) (messages []string) {
	for _, e := range events {
		if e.Level != "" {
			messages = append(messages, e.Level+": "+e.Message)
		}
	}
	slices.Sort(messages)
	return messages
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
	case err != nil && c.secretIn([]byte(err.Error())) != "":
		return fmt.Errorf("an error has the value of secret %s", c.secretIn([]byte(err.Error())))
	case err == nil:
		return fmt.Errorf("the stage succeeded although its context ended %s", when)
	case !errors.Is(err, errCancelled) && !errors.Is(err, context.Canceled):
		return fmt.Errorf("the context ended %s, and the stage's error does not wrap the reason: %w", when, err)
	}
	return nil
}

// same compares outputs and returns an error that names the first difference.
func same(r, s *Result) error {
	a, b := r.Outputs, s.Outputs
	if namesA, namesB := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)); !slices.Equal(namesA, namesB) {
		return fmt.Errorf("outputs are %s and %s", strings.Join(namesA, ", "), strings.Join(namesB, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		x, y := a[name], b[name]
		if x.MediaType != y.MediaType {
			return fmt.Errorf("output %q is %s and %s", name, x.MediaType, y.MediaType)
		}
		if bytes.Equal(x.Data, y.Data) {
			if x, y := r.Descriptors[name], s.Descriptors[name]; !reflect.DeepEqual(x, y) {
				return fmt.Errorf("output %q is described as %+v and %+v", name, x, y)
			}
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
	over, late    bool // the run has ended, and a use came after that
	at            int  // the use before which to cancel
	cancel        context.CancelCauseFunc
	read, written map[digest.Digest]bool // nil if not recorded
}

func (c *counter) use() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = c.late || c.over
	if c.uses++; c.uses == c.at {
		c.cancel(errCancelled)
	}
}

// end records that the run has ended. It returns the number of uses so far, and whether one
// came after an earlier end.
func (c *counter) end() (uses int, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	return c.uses, c.late
}

func (c *counter) note(where map[digest.Digest]bool, dgst digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if where != nil {
		where[dgst] = true
	}
}

func (w watched) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	w.use()
	w.note(w.read, dgst)
	return w.Store.Info(ctx, dgst)
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
