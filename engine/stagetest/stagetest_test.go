// SPDX-License-Identifier: Apache-2.0

package stagetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
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

// upper is a stage without fault.
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
	named := digest.FromString("named")
	c := stagetest.Case{
		Stage: stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			_, err := engine.Get(ctx, t.Store, ocispec.Descriptor{Digest: named, Size: 5})
			return nil, err
		}),
		Also: []stagetest.Blob{{Data: []byte("named")}},
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
	// counting makes something else every time.
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
	tests := map[string]struct {
		stage engine.Stage
		want  string
	}{
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
		}), `output "a" is said to have 2 bytes and has 1`},
		"inputs": {stage(func(_ context.Context, t *engine.Task) (engine.Outputs, error) {
			delete(t.Inputs, "text")
			return nil, nil
		}), "the stage changed its inputs"},
		"keys": {keyer{upper, func() digest.Digest { return digest.FromString(fmt.Sprint(keys.Add(1))) }}, "two keys differ: sha256:"},
		"key":  {keyer{upper, func() digest.Digest { return "render" }}, `key "render" is not a digest`},
		"deaf": {stage(func(context.Context, *engine.Task) (engine.Outputs, error) { return nil, nil }), "the stage succeeded although its context ended before it started"},
		"half": {stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
			out, err := upper(ctx, t)
			// What it wants besides, it does without.
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
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := stagetest.Case{Stage: tt.stage, Inputs: inputs()}.Check(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}
