// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// join writes its inputs, by name, and its own text as its only output "out".
type join struct {
	text string
	runs *atomic.Int32
}

func (j join) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	if j.runs != nil {
		j.runs.Add(1)
	}
	var names []string
	for name := range t.Inputs {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, name := range names {
		data, err := engine.Get(ctx, t.Store, t.Inputs[name])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s(%s) ", name, data)
	}
	b.WriteString(j.text)
	desc, err := engine.Put(ctx, t.Store, "text/plain", b.Bytes())
	return engine.Outputs{"out": desc}, err
}

// kept is a join with a key.
type kept struct {
	join
	key string
}

func (k kept) Key(context.Context, *engine.Task) (digest.Digest, error) {
	if k.key == "" {
		return "", nil
	}
	return digest.FromString(k.key), nil
}

// stages holds the stages of the nodes made by [with], by kind.
var stages sync.Map

func with(n engine.Node, s engine.Stage) engine.Node {
	n.Kind = fmt.Sprintf("%s of %T %p", n.Name, s, new(int))
	stages.Store(n.Kind, s)
	return n
}

// runGraph runs a graph of stages made by [with].
func runGraph(ctx context.Context, g *engine.Graph, o engine.Options) (*engine.Result, error) {
	kinds := engine.Stages{"idle": func(json.RawMessage) (engine.Stage, error) { return idle, nil }}
	stages.Range(func(kind, made any) bool {
		kinds[kind.(string)] = func(json.RawMessage) (engine.Stage, error) { return made.(engine.Stage), nil }
		return true
	})
	o.Executor = kinds
	return engine.Run(ctx, g, o)
}

func graph(t *testing.T, nodes ...engine.Node) *engine.Graph {
	t.Helper()
	g, err := engine.NewGraph(nodes...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func states(r *engine.Result) map[string]engine.State {
	out := map[string]engine.State{}
	for _, n := range r.Nodes {
		out[n.Name] = n.State
	}
	return out
}

func text(t *testing.T, r *engine.Result, ref engine.Ref) string {
	t.Helper()
	desc, err := r.Output(ref)
	if err != nil {
		t.Fatal(err)
	}
	data, err := engine.Get(t.Context(), r.Store, desc)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRun(t *testing.T) {
	g := graph(t,
		with(node("d", "x=b.out", "y=c.out"), join{text: "d"}),
		with(node("b", "a=a.out"), join{text: "b"}),
		with(node("c", "a/1=a.out", "a/2=b.out"), join{text: "c"}),
		with(node("a"), join{text: "a"}),
	)
	for _, workers := range []int{0, 1, 2} {
		var events []string
		r, err := runGraph(t.Context(), g, engine.Options{Workers: workers, Events: func(e engine.Event) {
			if e.At.IsZero() {
				t.Error("an event has no time")
			}
			events = append(events, e.Node+" "+string(e.State))
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := text(t, r, "d.out"), "x(a(a) b) y(a/1(a) a/2(a(a) b) c) d"; got != want {
			t.Errorf("%d workers made %q, want %q", workers, got, want)
		}
		want := []string{
			"a waiting", "b waiting", "c waiting", "d waiting",
			"a running", "a done", "b running", "b done", "c running", "c done", "d running", "d done",
		}
		if diff := cmp.Diff(want, events); diff != "" {
			t.Errorf("%d workers: events differ (-want +got):\n%s", workers, diff)
		}
		for _, n := range r.Nodes {
			if n.State != engine.Done || n.Seconds < 0 || n.Key != "" {
				t.Errorf("result %+v", n)
			}
		}
	}
}

func TestNoOutput(t *testing.T) {
	r, err := runGraph(t.Context(), graph(t, with(node("a"), join{text: "a"})), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Output("b.out"); err == nil || err.Error() != `the run has no output "b.out"` {
		t.Errorf("output of a node that did not run: %v", err)
	}
}

func TestRunGivesStagesWhatTheyNeed(t *testing.T) {
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	g := graph(t, with(node("a"), stage(func(ctx context.Context, task *engine.Task) (engine.Outputs, error) {
		if name, ok := namespaces.Namespace(ctx); !ok || name != "tape" {
			t.Errorf("namespace %q", name)
		}
		task.Log.Info("hello")
		return nil, nil
	})))
	if _, err := runGraph(t.Context(), g, engine.Options{Log: log}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logged.String(), "msg=hello node=a") {
		t.Errorf("log: %s", logged.String())
	}
}

// Four stages that wait for each other only end if four run concurrently; a fifth is not
// started meanwhile.
func TestRunUsesAllWorkersAndNoMore(t *testing.T) {
	const workers = 4
	var busy, most atomic.Int32
	met := make(chan struct{})
	meet := stage(func(ctx context.Context, _ *engine.Task) (engine.Outputs, error) {
		n := busy.Add(1)
		defer busy.Add(-1)
		for {
			was := most.Load()
			if n <= was || most.CompareAndSwap(was, n) {
				break
			}
		}
		if n == workers {
			close(met)
		}
		select {
		case <-met:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	var nodes []engine.Node
	for i := range workers {
		nodes = append(nodes, with(node(fmt.Sprint("n", i)), meet))
	}
	pass := stage(func(context.Context, *engine.Task) (engine.Outputs, error) {
		if n := busy.Add(1); n > workers {
			t.Errorf("%d stages at once", n)
		}
		busy.Add(-1)
		return nil, nil
	})
	nodes = append(nodes, with(node("n9"), pass))
	if _, err := runGraph(t.Context(), graph(t, nodes...), engine.Options{Workers: workers}); err != nil {
		t.Fatal(err)
	}
	if most.Load() != workers {
		t.Errorf("%d stages ran at once, want %d", most.Load(), workers)
	}
}

func TestFirstFailureWins(t *testing.T) {
	boom := errors.New("boom")
	waiting := make(chan struct{})
	var drained atomic.Bool
	slow := stage(func(ctx context.Context, _ *engine.Task) (engine.Outputs, error) {
		close(waiting)
		<-ctx.Done()
		drained.Store(true)
		return nil, fmt.Errorf("uploading: %w", context.Cause(ctx))
	})
	failing := stage(func(context.Context, *engine.Task) (engine.Outputs, error) {
		<-waiting
		return nil, fmt.Errorf("resolve nginx: %w", boom)
	})
	g := graph(t, with(node("mirror"), slow), with(node("resolve"), failing), node("push", "images=resolve.images"), node("last", "moved=mirror.moved"))
	var failed []engine.Event
	r, err := runGraph(t.Context(), g, engine.Options{Workers: 2, Events: func(e engine.Event) {
		if e.Err != "" {
			failed = append(failed, e)
		}
	}})
	var stageErr *engine.StageError
	if !errors.As(err, &stageErr) || stageErr.Node != "resolve" || !errors.Is(err, boom) || err.Error() != "resolve: resolve nginx: boom" {
		t.Errorf("error %v", err)
	}
	if !drained.Load() {
		t.Error("the run returned before its stages")
	}
	want := map[string]engine.State{"mirror": engine.Cancelled, "resolve": engine.Failed, "push": engine.Cancelled, "last": engine.Cancelled}
	if diff := cmp.Diff(want, states(r)); diff != "" {
		t.Errorf("states differ (-want +got):\n%s", diff)
	}
	if len(failed) != 1 || failed[0].Node != "resolve" || failed[0].State != engine.Failed || failed[0].Err != "resolve nginx: boom" {
		t.Errorf("events with an error: %+v", failed)
	}
}

// The error of a cancelled stage is not the cause of the failure.
func TestFailureIsNotMaskedByCancelledStages(t *testing.T) {
	waiting := make(chan struct{})
	first := stage(func(ctx context.Context, _ *engine.Task) (engine.Outputs, error) {
		close(waiting)
		<-ctx.Done()
		return nil, errors.New("connection reset")
	})
	g := graph(t, with(node("a"), first), with(node("b"), stage(func(context.Context, *engine.Task) (engine.Outputs, error) {
		<-waiting
		return nil, errors.New("unauthorised")
	})))
	r, err := runGraph(t.Context(), g, engine.Options{Workers: 2})
	if err == nil || err.Error() != "b: unauthorised" {
		t.Errorf("error %v", err)
	}
	if got := states(r)["a"]; got != engine.Cancelled {
		t.Errorf("a is %s", got)
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	running := make(chan struct{})
	slow := stage(func(ctx context.Context, _ *engine.Task) (engine.Outputs, error) {
		close(running)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	g := graph(t, with(node("mirror"), slow), node("push", "x=mirror.y"))
	go func() {
		<-running
		cancel(interrupted)
	}()
	r, err := runGraph(ctx, g, engine.Options{})
	if !errors.Is(err, interrupted) || err.Error() != "stopped while running mirror: interrupted" {
		t.Errorf("error %v", err)
	}
	want := map[string]engine.State{"mirror": engine.Cancelled, "push": engine.Cancelled}
	if diff := cmp.Diff(want, states(r)); diff != "" {
		t.Errorf("states differ (-want +got):\n%s", diff)
	}

	r, err = runGraph(ctx, graph(t, node("a")), engine.Options{})
	if !errors.Is(err, interrupted) || err.Error() != "stopped: interrupted" || states(r)["a"] != engine.Cancelled {
		t.Errorf("a run that could not start: %v, %v", states(r), err)
	}
}

// A stage that succeeds in spite of the cancellation has succeeded.
func TestRunThatCompletesIsNotStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	g := graph(t, with(node("a"), stage(func(context.Context, *engine.Task) (engine.Outputs, error) {
		cancel(errors.New("too late"))
		return nil, nil
	})))
	if r, err := runGraph(ctx, g, engine.Options{}); err != nil || states(r)["a"] != engine.Done {
		t.Errorf("%v, %v", states(r), err)
	}
}

func TestStageThatPanics(t *testing.T) {
	tests := map[string]struct {
		stage engine.Stage
		want  string
	}{
		"panic": {
			stage(func(context.Context, *engine.Task) (engine.Outputs, error) { panic("at the disco") }),
			"bad: the stage panicked: at the disco",
		},
		"exit": {
			stage(func(context.Context, *engine.Task) (engine.Outputs, error) { runtime.Goexit(); return nil, nil }),
			"bad: the stage ended its goroutine",
		},
		"key": {panicsInKey{}, "bad: the stage panicked: no key"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := runGraph(t.Context(), graph(t, with(node("bad"), tt.stage), node("next", "x=bad.y")), engine.Options{})
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			var p *engine.PanicError
			if errors.As(err, &p) && !bytes.Contains(p.Stack, []byte("run_test.go")) {
				t.Errorf("stack does not lead to the stage:\n%s", p.Stack)
			}
			want := map[string]engine.State{"bad": engine.Failed, "next": engine.Cancelled}
			if diff := cmp.Diff(want, states(r)); diff != "" {
				t.Errorf("states differ (-want +got):\n%s", diff)
			}
		})
	}
}

type panicsInKey struct{ join }

func (panicsInKey) Key(context.Context, *engine.Task) (digest.Digest, error) { panic("no key") }

func TestOutputsAreChecked(t *testing.T) {
	missing := ocispec.Descriptor{Digest: digest.FromString("nowhere"), Size: 7}
	tests := map[string]struct {
		run  stage
		want string
	}{
		"not made": {
			func(context.Context, *engine.Task) (engine.Outputs, error) { return nil, nil },
			`a: the stage did not make its output "out"`,
		},
		"not stored": {
			func(context.Context, *engine.Task) (engine.Outputs, error) {
				return engine.Outputs{"out": missing}, nil
			},
			`a: output "out": blob ` + missing.Digest.String() + `: not found`,
		},
		"wrong size": {
			func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
				desc, err := engine.Put(ctx, t.Store, "text/plain", []byte("four"))
				desc.Size = 5
				return engine.Outputs{"out": desc}, err
			},
			`a: output "out" is declared with 5 bytes and has 4`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := runGraph(t.Context(), graph(t, with(node("a"), tt.run), node("b", "x=a.out")), engine.Options{})
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestEventsAreFilledInAndEndWithTheRun(t *testing.T) {
	var late func(engine.Event)
	noisy := stage(func(_ context.Context, task *engine.Task) (engine.Outputs, error) {
		late = task.Report
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				task.Report(engine.Event{Node: "forged", State: engine.Failed, Level: engine.Warning, Message: fmt.Sprint("warning ", i)})
			})
		}
		wg.Wait()
		task.Report(engine.Event{Current: 1, Total: 2, Unit: "bytes"})
		return nil, nil
	})
	var events []engine.Event
	r, err := runGraph(t.Context(), graph(t, with(node("b"), noisy)), engine.Options{Events: func(e engine.Event) { events = append(events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	told := len(events)
	late(engine.Event{Message: "too late"})
	if len(events) != told || told != 3+9 {
		t.Errorf("%d events, %d after the run", told, len(events)-told)
	}
	var messages []string
	for _, w := range r.Warnings {
		if w.Node != "b" || w.State != "" || w.At.IsZero() {
			t.Errorf("warning %+v", w)
		}
		messages = append(messages, w.Message)
	}
	if !slices.IsSorted(messages) || len(messages) != 8 {
		t.Errorf("warnings %q", messages)
	}
}

// chain is a kept node between two that are not kept.
func chain(t *testing.T, source, config string, runs *atomic.Int32) *engine.Graph {
	return graph(t,
		with(node("source"), join{text: source}),
		with(node("render", "files=source.out"), kept{join{config, runs}, config}),
		with(node("scan", "manifests=render.out"), join{text: "scan"}),
	)
}

func TestResultsAreKept(t *testing.T) {
	s := open(t, t.TempDir())
	var runs atomic.Int32
	o := engine.Options{Store: s, Cache: s.Cache()}
	noCache := o
	noCache.NoCache = true
	steps := []struct {
		name           string
		source, config string
		o              engine.Options
		runs           int32
		state          engine.State
	}{
		{"first", "1", "helm", o, 1, engine.Done},
		{"same", "1", "helm", o, 1, engine.Cached},
		{"other source", "2", "helm", o, 2, engine.Done},
		{"other config", "2", "cue", o, 3, engine.Done},
		{"back", "1", "helm", o, 3, engine.Cached},
		{"told to run", "1", "helm", noCache, 4, engine.Done},
		{"no key", "1", "", o, 5, engine.Done},
		{"still no key", "1", "", o, 6, engine.Done},
		{"no cache", "1", "helm", engine.Options{Store: s}, 7, engine.Done},
		{"no store", "1", "helm", engine.Options{Cache: s.Cache()}, 8, engine.Done},
	}
	for _, step := range steps {
		r, err := runGraph(t.Context(), chain(t, step.source, step.config, &runs), step.o)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := states(r)["render"]; got != step.state || runs.Load() != step.runs {
			t.Errorf("%s: %s after %d runs, want %s after %d", step.name, got, runs.Load(), step.state, step.runs)
		}
		if got, want := text(t, r, "scan.out"), fmt.Sprintf("manifests(files(%s) %s) scan", step.source, step.config); got != want {
			t.Errorf("%s: made %q, want %q", step.name, got, want)
		}
	}

	// Only kept outputs are on disk.
	var stored []string
	if err := s.Walk(t.Context(), func(info content.Info) error {
		data, err := engine.Get(t.Context(), s, ocispec.Descriptor{Digest: info.Digest, Size: info.Size})
		stored = append(stored, string(data))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(stored)
	want := []string{"files(1) helm", "files(2) cue", "files(2) helm"}
	if diff := cmp.Diff(want, stored); diff != "" {
		t.Errorf("stored blobs differ (-want +got):\n%s", diff)
	}
}

// upper returns the same for "a" and "A".
type upper struct{ kept }

func (u upper) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	u.runs.Add(1)
	data, err := engine.Get(ctx, t.Store, t.Inputs["x"])
	if err != nil {
		return nil, err
	}
	desc, err := engine.Put(ctx, t.Store, "text/plain", bytes.ToUpper(data))
	return engine.Outputs{"out": desc}, err
}

func TestUnchangedOutputStopsTheRebuild(t *testing.T) {
	s := open(t, t.TempDir())
	var uppers, below atomic.Int32
	for i, source := range []string{"a", "A"} {
		g := graph(t,
			with(node("source"), join{text: source}),
			with(node("upper", "x=source.out"), upper{kept{join{runs: &uppers}, "upper"}}),
			with(node("below", "y=upper.out"), kept{join{"below", &below}, "below"}),
		)
		r, err := runGraph(t.Context(), g, engine.Options{Store: s, Cache: s.Cache()})
		if err != nil {
			t.Fatal(err)
		}
		if got := states(r)["upper"]; got != engine.Done {
			t.Errorf("run %d: upper is %s", i, got)
		}
	}
	if uppers.Load() != 2 || below.Load() != 1 {
		t.Errorf("upper ran %d times and below %d, want 2 and 1", uppers.Load(), below.Load())
	}
}

func TestDoNotKeep(t *testing.T) {
	s := open(t, t.TempDir())
	var runs atomic.Int32
	for range 2 {
		g := graph(t, with(node("a"), fickle{kept{join{"a", &runs}, "a"}}))
		if _, err := runGraph(t.Context(), g, engine.Options{Store: s, Cache: s.Cache()}); err != nil {
			t.Fatal(err)
		}
	}
	if runs.Load() != 2 {
		t.Errorf("ran %d times, want 2", runs.Load())
	}
}

// An executor that runs a copy of a task passes on what the stage asked for.
func TestDoNotKeepElsewhere(t *testing.T) {
	s := open(t, t.TempDir())
	var runs atomic.Int32
	n := with(node("a"), skipping{fickle{kept{join{"a", &runs}, "a"}}})
	here := engine.Stages{n.Kind: func(json.RawMessage) (engine.Stage, error) {
		made, _ := stages.Load(n.Kind)
		return made.(engine.Stage), nil
	}}
	for range 2 {
		r, err := engine.Run(t.Context(), graph(t, n), engine.Options{Executor: copying{here}, Store: s, Cache: s.Cache()})
		if err != nil {
			t.Fatal(err)
		}
		if got := states(r)["a"]; got != engine.Skipped {
			t.Errorf("state %s, want %s", got, engine.Skipped)
		}
	}
	if runs.Load() != 2 {
		t.Errorf("ran %d times, want 2", runs.Load())
	}
}

// copying is an executor that runs copies of tasks.
type copying struct{ engine.Stages }

func (c copying) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	there := &engine.Task{Node: t.Node, Inputs: t.Inputs, Store: t.Store, Log: t.Log, Report: t.Report}
	outputs, err := c.Stages.Run(ctx, there)
	skip, doNotKeep := there.Asked()
	t.Skip(skip)
	if doNotKeep {
		t.DoNotKeep()
	}
	return outputs, err
}

type skipping struct{ fickle }

func (s skipping) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	t.Skip("no key")
	return s.fickle.Run(ctx, t)
}

// A cache's map is not changed.
func TestCacheKeepsItsMap(t *testing.T) {
	s := open(t, t.TempDir())
	c := remembering{}
	for range 2 {
		g := graph(t, with(node("a"), manifesting{}))
		if _, err := runGraph(t.Context(), g, engine.Options{Store: s, Cache: c}); err != nil {
			t.Fatal(err)
		}
	}
	for _, outputs := range c {
		if len(outputs) != 2 {
			t.Errorf("the cache has %d entries of the manifest and its blob: %v", len(outputs), outputs)
		}
	}
	if len(c) != 1 {
		t.Errorf("the cache has %d keys", len(c))
	}
}

// remembering is a cache in memory, for one run at a time.
type remembering map[digest.Digest]map[string]ocispec.Descriptor

func (r remembering) Get(_ context.Context, key digest.Digest) (map[string]ocispec.Descriptor, error) {
	if outputs, ok := r[key]; ok {
		return outputs, nil
	}
	return nil, errdefs.ErrNotFound
}

func (r remembering) Put(_ context.Context, key digest.Digest, outputs map[string]ocispec.Descriptor) error {
	r[key] = outputs
	return nil
}

// manifesting makes a manifest that lists one blob.
type manifesting struct{}

func (manifesting) Key(context.Context, *engine.Task) (digest.Digest, error) {
	return digest.FromString("manifesting"), nil
}

func (manifesting) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	blob, err := engine.PutJSON(ctx, t.Store, ocispec.MediaTypeEmptyJSON, struct{}{})
	if err != nil {
		return nil, err
	}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blob, Layers: []ocispec.Descriptor{blob}}
	desc, err := engine.PutJSON(ctx, t.Store, ocispec.MediaTypeImageManifest, manifest)
	return engine.Outputs{"out": desc}, err
}

type fickle struct{ kept }

func (f fickle) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	t.DoNotKeep()
	return f.kept.Run(ctx, t)
}

// A cached stage still repeats its messages.
func TestReplay(t *testing.T) {
	s := open(t, t.TempDir())
	var runs atomic.Int32
	for _, want := range []engine.State{engine.Done, engine.Cached} {
		r, err := runGraph(t.Context(), graph(t, with(node("a"), telling{kept{join{"a", &runs}, "a"}})), engine.Options{Store: s, Cache: s.Cache()})
		if err != nil {
			t.Fatal(err)
		}
		if got := states(r)["a"]; got != want {
			t.Errorf("state %s, want %s", got, want)
		}
		if len(r.Warnings) != 1 || r.Warnings[0].Message != "out" || r.Warnings[0].Node != "a" {
			t.Errorf("%s: warnings %+v", want, r.Warnings)
		}
	}
}

// live is a cache that fails if its context has ended.
type live struct{ engine.Cache }

func (l live) Put(ctx context.Context, key digest.Digest, outputs map[string]ocispec.Descriptor) error {
	return errors.Join(ctx.Err(), l.Cache.Put(ctx, key, outputs))
}

func TestCacheGetsAContextThatGoesOn(t *testing.T) {
	s := open(t, t.TempDir())
	var runs atomic.Int32
	r, err := runGraph(t.Context(), graph(t, with(node("a"), kept{join{"a", &runs}, "a"})), engine.Options{Store: s, Cache: live{s.Cache()}})
	if err != nil || len(r.Warnings) > 0 {
		t.Errorf("%v, %+v", err, r.Warnings)
	}
}

// An audit runs cached nodes again. An equal result counts as cached, with only the warnings of
// the replay; a difference fails the run and names the key.
func TestAudit(t *testing.T) {
	s := open(t, t.TempDir())
	var runs atomic.Int32
	audited := 0
	o := engine.Options{Store: s, Cache: s.Cache(), Audit: func(digest.Digest) bool { audited++; return true }}
	made := graph(t, with(node("a"), telling{kept{join{"a", &runs}, "a"}}))
	for n, want := range []engine.State{engine.Done, engine.Cached, engine.Cached} {
		r, err := runGraph(t.Context(), made, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := states(r)["a"]; got != want || int(runs.Load()) != n+1 || audited != n || len(r.Warnings) != 1 {
			t.Errorf("run %d: %s after %d runs and %d audits, warnings %+v", n+1, got, runs.Load(), audited, r.Warnings)
		}
	}
	// A stage with another result under the same key is like a tampered entry.
	other := graph(t, with(node("a"), telling{kept{join{"b", &runs}, "a"}}))
	r, err := runGraph(t.Context(), other, o)
	found, ok := errors.AsType[*engine.AuditError](err)
	if !ok || found.Output != "out" || found.Kept != digest.FromString("a") || found.Made != digest.FromString("b") || !strings.Contains(err.Error(), found.Key.String()) {
		t.Errorf("audit of another result: %v", err)
	}
	if got := states(r)["a"]; got != engine.Failed {
		t.Errorf("state %s", got)
	}
	o.Audit = func(digest.Digest) bool { return false }
	if r, err := runGraph(t.Context(), other, o); err != nil || states(r)["a"] != engine.Cached {
		t.Errorf("without an audit: %v, %v", states(r), err)
	}
}

// telling warns about the names of its outputs.
type telling struct{ kept }

func (s telling) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	out, err := s.kept.Run(ctx, t)
	if err == nil {
		err = s.Replay(ctx, t, out)
	}
	return out, err
}

func (telling) Replay(_ context.Context, t *engine.Task, outputs engine.Outputs) error {
	for name := range outputs {
		t.Report(engine.Event{Level: engine.Warning, Message: name})
	}
	return nil
}

// Whatever happens to the store between two runs, the second run has the right result.
func TestSpoiledStore(t *testing.T) {
	spoil := map[string]func(t *testing.T, blob, key string){
		"blob missing":   func(t *testing.T, blob, _ string) { check(t, os.Remove(blob)) },
		"blob tampered":  func(t *testing.T, blob, _ string) { overwrite(t, blob, "files(1) hell") },
		"blob cut off":   func(t *testing.T, blob, _ string) { overwrite(t, blob, "") },
		"entry missing":  func(t *testing.T, _, key string) { check(t, os.Remove(key)) },
		"entry tampered": func(t *testing.T, _, key string) { overwrite(t, key, "{}") },
		"both": func(t *testing.T, blob, key string) {
			overwrite(t, blob, "files(1) hell")
			overwrite(t, key, "")
		},
	}
	for name, spoil := range spoil {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var runs atomic.Int32
			for i, want := range []engine.State{engine.Done, engine.Done, engine.Cached} {
				// Every run is a separate process.
				s, err := store.Open(t.Context(), dir, store.Options{})
				check(t, err)
				r, err := runGraph(t.Context(), chain(t, "1", "helm", &runs), engine.Options{Store: s, Cache: s.Cache()})
				check(t, err)
				if got := states(r)["render"]; got != want {
					t.Errorf("run %d: render is %s, want %s", i, got, want)
				}
				if got, want := text(t, r, "scan.out"), "manifests(files(1) helm) scan"; got != want {
					t.Errorf("run %d made %q, want %q", i, got, want)
				}
				if len(r.Warnings) > 0 {
					t.Errorf("run %d warns: %v", i, r.Warnings)
				}
				check(t, s.Close())
				if i == 0 {
					spoil(t, only(t, dir, "blobs", "sha256", "*"), only(t, dir, "keys", "*", "*"))
				}
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, file, data string) {
	t.Helper()
	check(t, os.Chmod(file, 0o600))
	check(t, os.WriteFile(file, []byte(data), 0o600))
}

func only(t *testing.T, pattern ...string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q: %q, %v", pattern, found, err)
	}
	return found[0]
}

// fullDisk accepts no more blobs.
type fullDisk struct{ *store.Store }

func (fullDisk) Writer(context.Context, ...content.WriterOpt) (content.Writer, error) {
	return nil, fmt.Errorf("write ingest: %w", syscall.ENOSPC)
}

func TestFullDiskIsAWarning(t *testing.T) {
	s := open(t, t.TempDir())
	var runs atomic.Int32
	for i := range 2 {
		r, err := runGraph(t.Context(), chain(t, "1", "helm", &runs), engine.Options{Store: fullDisk{s}, Cache: s.Cache()})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Warnings) != 1 || r.Warnings[0].Node != "render" ||
			!strings.HasPrefix(r.Warnings[0].Message, "the result is not kept for the next run: ") ||
			!strings.Contains(r.Warnings[0].Message, syscall.ENOSPC.Error()) {
			t.Errorf("run %d: warnings %+v", i, r.Warnings)
		}
	}
	if runs.Load() != 2 {
		t.Errorf("ran %d times, want 2", runs.Load())
	}
	if entries, err := s.Cache().Entries(); len(entries) != 0 || err != nil {
		t.Errorf("entries without blobs: %v, %v", entries, err)
	}
}

// A cache entry without an output that is needed is a miss.
func TestEntryWithoutWantedOutput(t *testing.T) {
	s := open(t, t.TempDir())
	var runs atomic.Int32
	o := engine.Options{Store: s, Cache: s.Cache()}
	r, err := runGraph(t.Context(), chain(t, "1", "helm", &runs), o)
	check(t, err)
	for _, n := range r.Nodes {
		if n.Name == "render" {
			check(t, s.Cache().Put(t.Context(), n.Key, map[string]ocispec.Descriptor{"old": n.Outputs["out"]}))
		}
	}
	r, err = runGraph(t.Context(), chain(t, "1", "helm", &runs), o)
	if err != nil || states(r)["render"] != engine.Done || runs.Load() != 2 {
		t.Errorf("%v after %d runs, %v", states(r), runs.Load(), err)
	}
}

func TestSeveralRunsAtOnce(t *testing.T) {
	dir := t.TempDir()
	var runs atomic.Int32
	g := chain(t, "1", "helm", &runs)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := store.Open(t.Context(), dir, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for range 4 {
				r, err := runGraph(t.Context(), g, engine.Options{Store: s, Cache: s.Cache()})
				if err != nil {
					t.Error(err)
					return
				}
				if len(r.Warnings) > 0 {
					t.Errorf("warnings %v", r.Warnings)
				}
				if got := text(t, r, "scan.out"); got != "manifests(files(1) helm) scan" {
					t.Errorf("made %q", got)
				}
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(filepath.Join(dir, "ingest")); len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ingests left: %v, %v", left, err)
	}
}

func TestPutGetJSON(t *testing.T) {
	type document struct {
		B map[string]string `json:"b"`
		A string            `json:"a"`
	}
	ctx, s := t.Context(), store.NewOverlay(nil)
	in := document{B: map[string]string{"y": "1", "x": "<&>"}, A: "é"}
	desc, err := engine.PutJSON(ctx, s, "text/x", in)
	check(t, err)
	data, err := engine.Get(ctx, s, desc)
	check(t, err)
	if got, want := string(data), `{"b":{"x":"<&>","y":"1"},"a":"é"}`; got != want {
		t.Errorf("encoded %s, want %s", got, want)
	}
	again, err := engine.PutJSON(ctx, s, "text/x", in)
	if err != nil || again.Digest != desc.Digest {
		t.Errorf("put again: %v, %v", again, err)
	}
	var out document
	check(t, engine.GetJSON(ctx, s, desc, "text/x", &out))
	if diff := cmp.Diff(in, out); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}

	if err := engine.GetJSON(ctx, s, desc, "text/y", &out); err == nil || err.Error() != "input is text/x, not text/y" {
		t.Errorf("wrong media type: %v", err)
	}
	if err := engine.GetJSON(ctx, s, ocispec.Descriptor{}, "text/y", &out); err == nil || err.Error() != "no input of type text/y" {
		t.Errorf("no input: %v", err)
	}
	if err := engine.GetJSON(ctx, s, desc, "text/x", &[]string{}); err == nil {
		t.Error("a wrong type was read")
	}
	huge := desc
	huge.Size = 1 << 40
	if _, err := engine.Get(ctx, s, huge); err == nil {
		t.Error("a terabyte was read")
	}
	if _, err := engine.Get(ctx, s, ocispec.Descriptor{Digest: digest.FromString("?"), Size: 1}); !errdefs.IsNotFound(err) {
		t.Errorf("missing blob: %v", err)
	}
	if _, err := engine.PutJSON(ctx, s, "text/x", func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

// TestSlowEvents checks that no stage waits for a consumer of events, which still receives
// every change of state, every message, and the latest progress.
func TestSlowEvents(t *testing.T) {
	const steps = 1000
	ended := make(chan struct{})
	busy := stage(func(_ context.Context, t *engine.Task) (engine.Outputs, error) {
		defer close(ended)
		for n := range int64(steps) {
			t.Report(engine.Event{Item: "blob", Current: n + 1, Total: steps})
		}
		t.Report(engine.Event{Level: engine.Warning, Message: "odd"})
		return nil, nil
	})
	var told []engine.Event
	_, err := runGraph(t.Context(), graph(t, with(node("a"), busy)), engine.Options{Events: func(e engine.Event) {
		if e.State == engine.Running {
			<-ended // the stage ends while the consumer is busy
		}
		told = append(told, e)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(told) > steps/2 {
		t.Errorf("%d events were told of %d steps that passed while one event was told", len(told), steps)
	}
	var got []string
	for _, e := range told {
		if e.Current == 0 || e.Current == steps { // the latest; earlier ones may have been received
			got = append(got, fmt.Sprint(e.State, e.Message, e.Current))
		}
	}
	want := []string{"waiting0", "running0", "1000", "odd0", "done0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestStrict checks that the first warning ends a strict run before later stages start.
func TestStrict(t *testing.T) {
	var pushed atomic.Int32
	warns := stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
		t.Report(engine.Event{Level: engine.Warning, Message: "odd"})
		desc, err := engine.Put(ctx, t.Store, "text/plain", []byte("x"))
		return engine.Outputs{"out": desc}, err
	})
	g := graph(t, with(node("a"), warns), with(node("push", "x=a.out"), join{runs: &pushed}))
	result, err := runGraph(t.Context(), g, engine.Options{Strict: true})
	if !errors.Is(err, engine.ErrWarning) || pushed.Load() != 0 || len(result.Warnings) != 1 {
		t.Errorf("error %v, pushed %d times, warnings %v", err, pushed.Load(), result.Warnings)
	}
	if _, err := runGraph(t.Context(), g, engine.Options{}); err != nil || pushed.Load() != 1 {
		t.Errorf("not strict: error %v, pushed %d times", err, pushed.Load())
	}
}
