// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/transfer"
)

// gate is a source that holds one blob back: it reports when the blob is requested, and returns
// it when opened.
type gate struct {
	layout.Repository
	blob  digest.Digest
	asked chan struct{}
	opens chan error // its values are results
}

func newGate(from layout.Repository, blob digest.Digest) *gate {
	return &gate{from, blob, make(chan struct{}, 8), make(chan error, 8)}
}

func (g *gate) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.Digest != g.blob {
		return g.Repository.Blob(ctx, desc)
	}
	g.asked <- struct{}{}
	select {
	case err := <-g.opens:
		if err != nil {
			return nil, err
		}
		return g.Repository.Blob(ctx, desc)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// sharing returns a repository with two images, a and b, that share a layer.
func sharing(t *testing.T) (l *lab, images map[string]ocispec.Descriptor, shared digest.Digest) {
	t.Helper()
	l = newLab(t, upstream(registrytest.Image{Single: true, Layers: []int64{700}, Shared: []int64{5000}}), registrytest.GGCR())
	images = map[string]ocispec.Descriptor{"a": l.resolve(t, "a"), "b": l.resolve(t, "b")}
	seen := map[digest.Digest]bool{}
	for _, desc := range images {
		var m ocispec.Manifest
		_, data, err := l.from.Manifest(t.Context(), desc.Digest.String())
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range m.Layers {
			if seen[layer.Digest] {
				shared = layer.Digest
			}
			seen[layer.Digest] = true
		}
	}
	if shared == "" {
		t.Fatal("the images share no layer")
	}
	return l, images, shared
}

// Two images share a layer. Whatever happens to the first one that requests it, the other gets
// it.
func TestSharedBlob(t *testing.T) {
	stop := errors.New("given up")
	for name, test := range map[string]struct {
		fail func(g *gate, cancel context.CancelCauseFunc) // the first one
		want func(error) bool
		asks int // for the layer, from the first one's source
	}{
		"given up":         {func(_ *gate, cancel context.CancelCauseFunc) { cancel(stop) }, func(err error) bool { return errors.Is(err, stop) }, 1},
		"not in its place": {func(g *gate, _ context.CancelCauseFunc) { g.opens <- errdefs.ErrNotFound }, errdefs.IsNotFound, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, images, shared := sharing(t)
			first, second := newGate(l.from, shared), newGate(l.from, shared)
			c := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{})
			ctx, cancel := context.WithCancelCause(t.Context())
			errs := map[string]chan error{"a": make(chan error, 1), "b": make(chan error, 1)}
			go func() { errs["a"] <- c.Manifests(ctx, first, images["a"]) }()
			<-first.asked
			second.opens <- nil
			go func() { errs["b"] <- c.Manifests(t.Context(), second, images["b"]) }()
			test.fail(first, cancel)
			if err := <-errs["a"]; !test.want(err) {
				t.Errorf("the first: %v", err)
			}
			first.opens <- nil // for the second, which waits for the first
			if err := <-errs["b"]; err != nil {
				t.Errorf("the second: %v", err)
			}
			if there, err := l.to.Exists(t.Context(), images["b"]); err != nil || !there {
				t.Errorf("the second is there: %v, %v", there, err)
			}
			// The first one is copied afterwards.
			if err := c.Manifests(t.Context(), l.from, images["a"]); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// One image lacks its own layer: only that one fails, though all wait for the same one.
func TestFailsAlone(t *testing.T) {
	l, images, shared := sharing(t)
	var own digest.Digest
	_, data, err := l.from.Manifest(t.Context(), images["a"].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, layer := range m.Layers {
		if layer.Digest != shared {
			own = layer.Digest
		}
	}
	isOwn := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, own.String()) }
	broken := newLab(t, registrytest.Misbehave(l.up, isOwn, registrytest.Status(http.StatusNotFound)), registrytest.GGCR())
	c := transfer.NewCopier(transfer.ToRepository(broken.client, broken.to), transfer.Options{})
	held := newGate(broken.from, shared)
	errs := map[string]chan error{"a": make(chan error, 1), "b": make(chan error, 1)}
	go func() { errs["a"] <- c.Manifests(t.Context(), held, images["a"]) }()
	<-held.asked
	go func() { errs["b"] <- c.Manifests(t.Context(), held, images["b"]) }()
	if err := <-errs["a"]; !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), own.String()) {
		t.Errorf("the first: %v", err)
	}
	for range 2 { // b may have come too late to wait with a
		held.opens <- nil
	}
	if err := <-errs["b"]; err != nil {
		t.Errorf("the second: %v", err)
	}
}

// When all that wait for a blob give up, its copy is cancelled.
func TestAllGiveUp(t *testing.T) {
	l, images, shared := sharing(t)
	held := newGate(l.from, shared)
	c := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{})
	stop := errors.New("given up")
	ctx, cancel := context.WithCancelCause(t.Context())
	var group errgroup.Group
	for _, name := range []string{"a", "b"} {
		group.Go(func() error { return c.Manifests(ctx, held, images[name]) })
	}
	<-held.asked
	cancel(stop)
	if err := group.Wait(); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if got := c.Moved(); got.Blobs > 2*2 {
		t.Errorf("moved %+v", got)
	}
	held.opens <- nil
	if err := c.Manifests(t.Context(), held, images["a"]); err != nil {
		t.Errorf("again: %v", err)
	}
}
