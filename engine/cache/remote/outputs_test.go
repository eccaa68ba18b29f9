// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/cache/remote"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
)

// maker is a stage with a key.
type maker struct {
	runs *atomic.Int64
	text string
}

func (m maker) Key(context.Context, *engine.Task) (digest.Digest, error) {
	return digest.FromString("maker"), nil
}

func (m maker) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	m.runs.Add(1)
	text, err := engine.Put(ctx, t.Store, "text/plain", []byte(m.text))
	if err != nil {
		return nil, err
	}
	// The content that an index lists is kept with it.
	listed, err := engine.Put(ctx, t.Store, ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"layers":[]}`))
	if err != nil {
		return nil, err
	}
	index, err := engine.PutJSON(ctx, t.Store, ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{listed}})
	return engine.Outputs{"text": text, "index": index}, err
}

// machine returns a function that runs the stage with a new store and a cache.
func machine(t *testing.T) func(shared *remote.Cache, m maker) engine.NodeResult {
	t.Helper()
	kept, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	graph, err := engine.NewGraph(engine.Node{Name: "make", Kind: "maker", Outputs: []string{"text", "index"}})
	if err != nil {
		t.Fatal(err)
	}
	return func(shared *remote.Cache, m maker) engine.NodeResult {
		t.Helper()
		stages := engine.Stages{"maker": func(json.RawMessage) (engine.Stage, error) { return m, nil }}
		result, err := engine.Run(t.Context(), graph, engine.Options{Executor: stages, Store: kept, Cache: shared.Outputs(kept.Cache(), kept)})
		if err != nil {
			t.Fatal(err)
		}
		for name, desc := range result.Nodes[0].Outputs {
			if _, err := engine.Get(t.Context(), result.Store, desc); err != nil {
				t.Errorf("output %s: %v", name, err)
			}
		}
		return result.Nodes[0]
	}
}

func TestOutputs(t *testing.T) {
	counted := registrytest.Count(registrytest.GGCR())
	addr := registrytest.Serve(t, counted)
	log := &lines{}
	shared := func() *remote.Cache {
		return remote.New(repository(t, addr), remote.Options{Log: slog.New(log)})
	}
	m := maker{runs: new(atomic.Int64), text: "made"}
	first := machine(t)
	made := first(shared(), m)
	if made.State != engine.Done {
		t.Errorf("made: %s", made.State)
	}
	counted.Reset()
	if again := first(shared(), m); again.State != engine.Cached || counted.Reset().Total() > 0 {
		t.Errorf("made again on the same machine: %s", again.State)
	}
	second := machine(t)
	found := second(shared(), m)
	if found.State != engine.Cached || m.runs.Load() != 1 {
		t.Errorf("on another machine: %s after %d runs", found.State, m.runs.Load())
	}
	if diff := cmp.Diff(made.Outputs, found.Outputs); diff != "" {
		t.Errorf("outputs differ (-made +found):\n%s", diff)
	}
	if n := counted.Reset().Total(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	// It is stored locally now, and the registry is not needed.
	if again := second(shared(), m); again.State != engine.Cached || counted.Reset().Total() > 0 {
		t.Errorf("again on the other machine: %s", again.State)
	}
	if warned := log.of(slog.LevelWarn); len(warned) > 0 {
		t.Errorf("warned: %q", warned)
	}
}

// An entry whose content is wrong is a miss: the stage runs.
func TestOutputsThatAreNot(t *testing.T) {
	text := digest.FromString("made")
	listed := func(digest digest.Digest, size int) []byte {
		return fmt.Appendf(nil, `{"text":{"mediaType":"text/plain","digest":%q,"size":%d},"index":{"mediaType":"text/plain","digest":%q,"size":%d}}`, digest, size, digest, size)
	}
	for name, documents := range map[string]map[string][]byte{
		"empty":        {},
		"no JSON":      {"outputs": []byte("x")},
		"no blob":      {"outputs": listed(text, 4)},
		"another blob": {"outputs": listed(text, 4), text.String(): []byte("evil")},
		"another size": {"outputs": listed(text, 5), text.String(): []byte("made")},
		"no digest":    {"outputs": listed("../../x", 4), "../../x": []byte("made")},
	} {
		t.Run(name, func(t *testing.T) {
			addr := registrytest.Serve(t, registrytest.GGCR())
			m := maker{runs: new(atomic.Int64), text: "made"}
			// Run it once to find the key of the node.
			key := machine(t)(remote.New(repository(t, addr), remote.Options{}), m).Key
			put(t, remote.New(repository(t, addr), remote.Options{}), key, documents)
			if got := machine(t)(remote.New(repository(t, addr), remote.Options{}), m); got.State != engine.Done || m.runs.Load() != 2 {
				t.Errorf("%s after %d runs", got.State, m.runs.Load())
			}
			// The new result has replaced it.
			if got := machine(t)(remote.New(repository(t, addr), remote.Options{}), m); got.State != engine.Cached {
				t.Errorf("then: %s", got.State)
			}
		})
	}
}
