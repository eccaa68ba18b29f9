// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/store"
)

// lister makes an index of a manifest with one layer, which is not itself an output. It is
// kept.
type lister struct{ runs *atomic.Int32 }

func (lister) Key(context.Context, *engine.Task) (digest.Digest, error) {
	return digest.FromString("lister"), nil
}

func (l lister) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	l.runs.Add(1)
	if _, err := engine.Put(ctx, t.Store, "text/plain", []byte("named by no output")); err != nil {
		return nil, err
	}
	layer, err := engine.Put(ctx, t.Store, "text/plain", []byte("layer"))
	if err != nil {
		return nil, err
	}
	config, err := engine.Put(ctx, t.Store, ocispec.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return nil, err
	}
	manifest, err := engine.PutJSON(ctx, t.Store, ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}})
	if err != nil {
		return nil, err
	}
	elsewhere := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("in a registry"), Size: 7}
	index, err := engine.PutJSON(ctx, t.Store, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{manifest, elsewhere}})
	return engine.Outputs{"index": index}, err
}

// reads returns a stage that reads blobs by their text.
func reads(texts ...string) engine.Stage {
	return stage(func(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
		for _, text := range texts {
			if _, err := engine.Get(ctx, t.Store, ocispec.Descriptor{Digest: digest.FromString(text), Size: int64(len(text))}); err != nil {
				return nil, fmt.Errorf("%s: %w", text, err)
			}
		}
		return nil, nil
	})
}

// Everything that an output lists is kept with it and survives a prune; a result that lacks
// some of it is made again.
func TestKeptClosure(t *testing.T) {
	dir := t.TempDir()
	var runs atomic.Int32
	g := graph(t, with(node("list"), lister{&runs}), with(node("read", "x=list.index"), reads("layer", "{}")))
	run := func(want int32) {
		t.Helper()
		s, err := store.Open(t.Context(), dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = runGraph(t.Context(), g, engine.Options{Store: s, Cache: s.Cache()})
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		if got := runs.Load(); got != want {
			t.Errorf("it ran %d times, want %d", got, want)
		}
	}
	run(1)
	if _, err := store.Prune(t.Context(), dir, store.PruneOptions{MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	run(1)
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Delete(t.Context(), digest.FromString("layer"))
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	run(2)
}

// Stages only exchange outputs and what these list.
func TestUndeclared(t *testing.T) {
	var runs atomic.Int32
	g := graph(t, with(node("list"), lister{&runs}), with(node("read", "x=list.index"), reads("layer", "named by no output")))
	if _, err := runGraph(t.Context(), g, engine.Options{}); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "read: named by no output") {
		t.Error(err)
	}
}

// Outputs leave memory when their last reader has ended, unless the caller reads them.
func TestRelease(t *testing.T) {
	g := graph(t,
		with(node("a"), join{text: "a"}),
		with(node("same"), join{text: "a"}), // the same blob
		with(node("b", "x=a.out"), join{text: "b"}),
		with(node("c", "x=a.out", "y=b.out"), join{text: "c"}),
		with(node("d", "x=c.out"), join{text: "d"}),
		with(node("e", "x=same.out", "y=d.out"), join{text: "e"}),
	)
	for name, tt := range map[string]struct {
		results []engine.Ref
		there   map[engine.Ref]bool
	}{
		"all":  {nil, map[engine.Ref]bool{"a.out": true, "b.out": true, "c.out": true, "d.out": true, "e.out": true}},
		"some": {[]engine.Ref{"b.out"}, map[engine.Ref]bool{"a.out": false, "b.out": true, "c.out": false, "d.out": false, "e.out": false}},
		"none": {[]engine.Ref{}, map[engine.Ref]bool{"a.out": false, "b.out": false, "c.out": false, "d.out": false, "e.out": false}},
		"twin": {[]engine.Ref{"same.out"}, map[engine.Ref]bool{"a.out": true, "same.out": true, "b.out": false}},
	} {
		for _, workers := range []int{1, 4} {
			r, err := runGraph(t.Context(), g, engine.Options{Results: tt.results, Workers: workers})
			if err != nil {
				t.Fatal(err)
			}
			for ref, want := range tt.there {
				desc, err := r.Output(ref)
				if err != nil {
					t.Fatal(err)
				}
				_, err = engine.Get(t.Context(), r.Store, desc)
				if (err == nil) != want || err != nil && !errdefs.IsNotFound(err) {
					t.Errorf("%s, %d workers: %s is there: %v, want %t", name, workers, ref, err, want)
				}
			}
		}
	}
}
