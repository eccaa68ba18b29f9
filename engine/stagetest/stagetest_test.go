// SPDX-License-Identifier: Apache-2.0

package stagetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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
	}), `output "uper" is not declared (declared: a, a0, a1, upper)`}
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
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := stagetest.Case{
				Stage: tt.stage, Inputs: inputs(), Secrets: map[string]string{"key": "hush\nhush"},
				Node: engine.Node{Outputs: []string{"a", "a0", "a1", "upper"}},
			}.Check(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}
