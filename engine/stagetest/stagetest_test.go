// SPDX-License-Identifier: Apache-2.0

package stagetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/stagetest"
)

type stage func(ctx context.Context, t *engine.Task) (engine.Outputs, error)

func (s stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) { return s(ctx, t) }

type keyer struct {
	stage
	key func() digest.Digest
}

func (k keyer) Key(context.Context, *engine.Task) (digest.Digest, error) { return k.key(), nil }

type replayer struct {
	keyer
	replay func(t *engine.Task, outputs engine.Outputs) error
}

func (r replayer) Replay(_ context.Context, t *engine.Task, outputs engine.Outputs) error {
	return r.replay(t, outputs)
}

type checker struct {
	stage
	err error
}

func (c checker) Check(context.Context) error { return c.err }

// A Keyer that warns is correct if it repeats that.
func TestReplay(t *testing.T) {
	warn := func(t *engine.Task) { t.Report(engine.Event{Level: engine.Warning, Message: "careful"}) }
	correct := replayer{
		keyer{func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			warn(t)
			return upper(ctx, t)
		}, func() digest.Digest { return digest.FromString("key") }},
		func(t *engine.Task, _ engine.Outputs) error {
			warn(t)
			return nil
		},
	}
	if err := (stagetest.Case{Stage: correct, Inputs: inputs()}).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// upper is a correct stage.
func upper(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	data, err := engine.Get(ctx, t.Store, t.Inputs["text"])
	if err != nil {
		return nil, err
	}
	t.Report(engine.Event{Message: "read"})
	desc, err := engine.Put(ctx, t.Store, "text/upper", bytes.ToUpper(data))
	return engine.Outputs{"upper": desc}, err
}

func inputs() map[string]stagetest.Blob {
	return map[string]stagetest.Blob{"text": {MediaType: "text/plain", Data: []byte("hello")}}
}

func TestRun(t *testing.T) {
	c := stagetest.Case{Stage: stage(upper), Inputs: inputs()}
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]stagetest.Blob{"upper": {MediaType: "text/upper", Data: []byte("HELLO")}}
	if diff := cmp.Diff(want, r.Outputs); diff != "" {
		t.Errorf("outputs differ (-want +got):\n%s", diff)
	}
	if len(r.Events) != 1 || r.Events[0].Message != "read" || r.Events[0].Node != "test" || r.Events[0].At.IsZero() {
		t.Errorf("events %+v", r.Events)
	}
	if r.Descriptors["upper"].Digest != digest.FromString("HELLO") {
		t.Errorf("descriptors %+v", r.Descriptors)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAlso(t *testing.T) {
	named := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString("named"), Size: 5}
	index, err := stagetest.JSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{named},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := stagetest.Case{
		Stage: stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			_, err := engine.Get(ctx, t.Store, named)
			return nil, err
		}),
		Inputs: map[string]stagetest.Blob{"root": index},
		Also:   []stagetest.Blob{{MediaType: "text/plain", Data: []byte("named")}},
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	// Without a list of it, another process would not have it.
	c.Inputs = nil
	want := fmt.Sprintf("the stage read blob %s, which is neither an input nor listed by one", named.Digest)
	if err := c.Check(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A stage may read what it wrote itself.
func TestReadsItsOwn(t *testing.T) {
	c := stagetest.Case{Inputs: inputs(), Stage: stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
		out, err := upper(ctx, t)
		if err == nil {
			_, err = engine.Get(ctx, t.Store, out["upper"])
		}
		return out, err
	})}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// A stage gets its node, and the values of secrets.
func TestNode(t *testing.T) {
	c := stagetest.Case{
		Node:    engine.Node{Kind: "kind", Config: json.RawMessage(`{"key":"secret://key"}`), Outputs: []string{"config"}},
		Secrets: map[string]string{"key": `hush "hush"`},
		Stage: stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			revealed, err := t.Reveal(ctx, t.Node.Config)
			if err != nil {
				return nil, err
			}
			if string(revealed) != `{"key":"hush \"hush\""}` || t.Node.Kind != "kind" {
				return nil, fmt.Errorf("%s, %+v", revealed, t.Node)
			}
			concealed, err := t.Conceal(ctx, revealed)
			if err != nil {
				return nil, err
			}
			desc, err := engine.Put(ctx, t.Store, "text/x", concealed)
			return engine.Outputs{"config": desc}, err
		}),
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestJSON(t *testing.T) {
	in := map[string]int{"a": 1}
	blob, err := stagetest.JSON("text/x", in)
	if err != nil || blob.MediaType != "text/x" || string(blob.Data) != `{"a":1}` {
		t.Fatalf("%+v, %v", blob, err)
	}
	var out map[string]int
	if err := blob.Decode(&out); err != nil || !cmp.Equal(in, out) {
		t.Errorf("%v, %v", out, err)
	}
}

func TestCheckFinds(t *testing.T) {
	boom := errors.New("boom")
	// counting returns a different result every time.
	counting := func(output, mediaType func(n int32) string, data func(n int32) string) engine.Stage {
		var n atomic.Int32
		return stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			n := n.Add(1)
			desc, err := engine.Put(ctx, t.Store, mediaType(n), []byte(data(n)))
			return engine.Outputs{output(n): desc}, err
		})
	}
	always := func(s string) func(int32) string { return func(int32) string { return s } }
	numbered := func(s string) func(int32) string { return func(n int32) string { return fmt.Sprint(s, n%2) } }
	var keys atomic.Int32
	type test struct {
		stage engine.Stage
		want  string
	}
	declared := map[string][]string{"undeclared": {"upper"}, "not made": {"upper", "lower"}}
	tests := map[string]test{
		"failure": {stage(func(context.Context, *engine.Task) (engine.Outputs, error) { return nil, boom }), "boom"},
		"bytes":   {counting(always("a"), always("text/x"), numbered("same until here ")), `two runs differ: output "a" from byte 16: "`},
		"type":    {counting(always("a"), numbered("text/"), always("x")), `two runs differ: output "a" is text/`},
		"names":   {counting(numbered("a"), always("text/x"), always("x")), `two runs differ: outputs are a`},
		"not stored": {stage(func(context.Context, *engine.Task) (engine.Outputs, error) {
			return engine.Outputs{"a": {Digest: digest.FromString("nowhere"), Size: 1}}, nil
		}), `output "a": read sha256:`},
		"size": {stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			desc, err := engine.Put(ctx, t.Store, "text/x", []byte("x"))
			desc.Size = 2
			return engine.Outputs{"a": desc}, err
		}), `output "a" is declared with 2 bytes and has 1`},
		"inputs": {stage(func(_ context.Context, t *engine.Task) (engine.Outputs, error) {
			delete(t.Inputs, "text")
			return nil, nil
		}), "the stage changed its inputs"},
		"keys": {keyer{upper, func() digest.Digest { return digest.FromString(fmt.Sprint(keys.Add(1))) }}, "two keys differ: sha256:"},
		"key":  {keyer{upper, func() digest.Digest { return "render" }}, `key "render" is not a digest`},
		"deaf": {stage(func(context.Context, *engine.Task) (engine.Outputs, error) { return nil, nil }), "the stage succeeded although its context ended before it started"},
		"half": {stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			out, err := upper(ctx, t)
			// An error of an additional write is ignored.
			_, _ = engine.Put(ctx, t.Store, "text/x", []byte("more"))
			return out, err
		}), "the stage succeeded although its context ended at use 3 of its store"},
		"reason": {stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			out, err := upper(ctx, t)
			if err != nil {
				err = errors.New("something went wrong")
			}
			return out, err
		}), "the context ended before it started, and the stage's error does not wrap the reason: something went wrong"},
	}
	tests["undeclared"] = test{stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
		desc, err := engine.Put(ctx, t.Store, "text/x", nil)
		return engine.Outputs{"uper": desc}, err
	}), `output "uper" is not declared (declared: upper)`}
	reveals := func(tell func(t *engine.Task, data []byte) []byte) engine.Stage {
		return stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			data, err := t.Reveal(ctx, []byte(`["secret://key"]`))
			if err != nil {
				return nil, err
			}
			desc, err := engine.Put(ctx, t.Store, "text/x", tell(t, data))
			return engine.Outputs{"a": desc}, err
		})
	}
	tests["secret put"] = test{reveals(func(_ *engine.Task, data []byte) []byte { return data }), `output "a" has the value of secret key`}
	tests["secret told"] = test{reveals(func(t *engine.Task, data []byte) []byte {
		t.Report(engine.Event{Message: "read " + string(data)})
		return nil
	}), "an event has the value of secret key"}
	// Its last event is reported during the next run.
	var last atomic.Pointer[engine.Task]
	tests["late"] = test{stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
		if before := last.Swap(t); before != nil {
			before.Report(engine.Event{Message: "by the way"})
		}
		return upper(ctx, t)
	}), "the stage reported an event after its run"}
	// changing returns the stage upper, which calls change first.
	changing := func(change func(ctx context.Context, t *engine.Task)) stage {
		return func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			change(ctx, t)
			return upper(ctx, t)
		}
	}
	warns := changing(func(_ context.Context, t *engine.Task) {
		t.Report(engine.Event{Level: engine.Warning, Message: "careful"})
	})
	key := func() digest.Digest { return digest.FromString("key") }
	tests["not made"] = test{stage(upper), `the stage did not make its output "lower"`}
	tests["no type"] = test{counting(always("a"), always(""), always("x")), `output "a" has no media type`}
	tests["input bytes"] = test{changing(func(ctx context.Context, t *engine.Task) {
		if data, err := engine.Get(ctx, t.Store, t.Inputs["text"]); err == nil {
			data[0] = 'j'
		}
	}), `the stage changed the bytes of its input "text"`}
	tests["config"] = test{changing(func(_ context.Context, t *engine.Task) { t.Node.Config[0] = '[' }), "the stage changed the configuration of its node"}
	var described atomic.Int32
	tests["description"] = test{stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
		outputs, err := upper(ctx, t)
		for name, desc := range outputs {
			desc.Annotations = map[string]string{"n": fmt.Sprint(described.Add(1))}
			outputs[name] = desc
		}
		return outputs, err
	}), `output "upper" is described as`}
	tests["panic"] = test{changing(func(context.Context, *engine.Task) { panic("odd") }), "the stage panicked: odd\n"}
	tests["panic in key"] = test{keyer{upper, func() digest.Digest { panic("odd") }}, "key: the stage panicked: odd\n"}
	tests["silent when kept"] = test{keyer{warns, key}, `a run reports ["warning: careful"], and one that uses its kept outputs []`}
	tests["silent replay"] = test{replayer{keyer{warns, key}, func(*engine.Task, engine.Outputs) error { return nil }}, `and one that uses its kept outputs []`}
	tests["replay fails"] = test{replayer{keyer{upper, key}, func(*engine.Task, engine.Outputs) error { return boom }}, "replay: boom"}
	tests["replay changes"] = test{replayer{keyer{upper, key}, func(_ *engine.Task, outputs engine.Outputs) error {
		delete(outputs, "upper")
		return nil
	}}, "replay changed the outputs"}
	tests["check"] = test{checker{upper, boom}, "check of a stage that succeeds: boom"}
	tests["asks for another"] = test{changing(func(ctx context.Context, t *engine.Task) {
		_, _ = t.Store.Info(ctx, digest.FromString("nowhere"))
	}), "the stage read blob " + digest.FromString("nowhere").String()}
	tests["secret logged"] = test{changing(func(ctx context.Context, t *engine.Task) {
		value, _ := t.Secrets(ctx, "key")
		t.Log.Debug("read", "value", value)
	}), "the log has the value of secret key"}
	tests["secret in error"] = test{stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
		outputs, err := upper(ctx, t)
		if err != nil {
			value, _ := t.Secrets(ctx, "key")
			err = fmt.Errorf("with %s: %w", value, err)
		}
		return outputs, err
	}), "an error has the value of secret key"}
	var mu sync.Mutex
	var before []*engine.Task
	tests["late use"] = test{changing(func(ctx context.Context, t *engine.Task) {
		mu.Lock()
		defer mu.Unlock()
		for _, task := range before {
			_, _ = engine.Put(context.WithoutCancel(ctx), task.Store, "text/x", []byte("late"))
		}
		before = append(before, t)
	}), "the stage used its store after its run"}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := stagetest.Case{
				Stage: tt.stage, Inputs: inputs(), Secrets: map[string]string{"key": "hush\nhush"},
				Node: engine.Node{Config: []byte(`{"a": 1}`), Outputs: declared[name]},
			}.Check(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}
