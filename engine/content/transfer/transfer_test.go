// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/transfer"
)

// lab is a repository with images, and a destination.
type lab struct {
	client   *registry.Client
	up, down *registrytest.Counter
	from, to *registry.Repository
}

func newLab(t *testing.T, up, down http.Handler) *lab {
	t.Helper()
	client, err := registry.New(registry.Options{Credentials: func(string) (string, string, error) { return "", "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{client: client, up: registrytest.Count(up), down: registrytest.Count(down)}
	l.from = l.repository(t, registrytest.Serve(t, l.up)+"/lib/app")
	l.to = l.repository(t, registrytest.Serve(t, l.down)+"/team/app")
	return l
}

func (l *lab) repository(t *testing.T, name string) *registry.Repository {
	t.Helper()
	r, err := l.client.Repository(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (l *lab) resolve(t *testing.T, tag string) ocispec.Descriptor {
	t.Helper()
	desc, err := l.from.Resolve(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func upstream(image registrytest.Image) http.Handler {
	return &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) { return image, true }}
}

// TestOnce checks that content of several manifests is copied once, however many are copied
// concurrently, and that progress reaches its total.
func TestOnce(t *testing.T) {
	const images = 6
	l := newLab(t, upstream(registrytest.Image{Single: true, Layers: []int64{700}, Shared: []int64{5000, 1_200_000}}), registrytest.Distribution(""))
	var current, total int64
	progress := transfer.NewProgress(func(c, t int64) { current, total = c, t })
	c := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{Progress: progress})
	group, ctx := errgroup.WithContext(t.Context())
	for i := range images {
		desc := l.resolve(t, "v"+string(rune('0'+i)))
		for range 2 {
			group.Go(func() error { return c.Manifests(ctx, l.from, desc) })
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	progress.End()
	// Each has its own layer and config.
	if got := l.up.Stats().Requests["GET blobs"]; got != 2*images+2 || c.Moved().Blobs != got || c.Moved().Existing != 0 {
		t.Errorf("%d blobs were read, want %d; moved %+v", got, 2*images+2, c.Moved())
	}
	if current != total || current != c.Moved().Bytes {
		t.Errorf("progress ends with %d of %d bytes, and moved %+v", current, total, c.Moved())
	}
}

// TestCheck removes content of an index from a registry. Without Check the loss is not found;
// with Check the missing content, and nothing else, is copied again.
func TestCheck(t *testing.T) {
	l := newLab(t, upstream(registrytest.Image{Layers: []int64{700}}), registrytest.Distribution(""))
	index := l.resolve(t, "1")
	copied := func(check bool) transfer.Moved {
		t.Helper()
		c := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{Check: check})
		if err := c.Manifests(t.Context(), l.from, index); err != nil {
			t.Fatal(err)
		}
		return c.Moved()
	}
	if moved := copied(false); moved.Blobs != 4 {
		t.Fatalf("moved %+v", moved)
	}
	if moved := copied(true); moved.Blobs != 0 || moved.Existing != 7 {
		t.Errorf("of what is whole moved %+v, want three manifests and four blobs to be there", moved)
	}
	_, data, err := l.from.Manifest(t.Context(), index.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	var list ocispec.Index
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	lost := list.Manifests[1]
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete,
		"http://"+strings.Replace(l.to.Name(), "/", "/v2/", 1)+"/manifests/"+lost.Digest.String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		t.Fatal(response.Status)
	}
	for _, step := range []struct{ check, there bool }{{false, false}, {true, true}} {
		copied(step.check)
		if there, err := l.to.Exists(t.Context(), lost); err != nil || there != step.there {
			t.Errorf("checked: %v; it is there: %v, %v", step.check, there, err)
		}
	}
}

// circle is a source in which every list of referrers leads to all the others.
type circle struct {
	*registry.Repository
	all   []ocispec.Descriptor
	asked atomic.Int64
}

func (c *circle) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) {
	c.asked.Add(1)
	return c.all, nil
}

// TestCircle checks that copying terminates although lists of referrers are untrusted.
func TestCircle(t *testing.T) {
	for kind, down := range map[string]http.Handler{"distribution": registrytest.Distribution(""), "ggcr": registrytest.GGCR()} {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t, upstream(registrytest.Published()), down)
			index := l.resolve(t, "1")
			about, err := l.from.Referrers(t.Context(), index.Digest)
			if err != nil || len(about) == 0 {
				t.Fatalf("Referrers = %v, %v", about, err)
			}
			source := &circle{Repository: l.from, all: about}
			c := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{})
			if _, err := c.Whole(t.Context(), source, index, []digest.Digest{index.Digest}); err != nil {
				t.Fatal(err)
			}
			if err := c.List(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if got, want := source.asked.Load(), int64(1+len(about)); got != want {
				t.Errorf("asked %d times, want %d", got, want)
			}
			if got, err := l.to.Referrers(t.Context(), index.Digest); err != nil || len(got) != len(about) {
				t.Errorf("Referrers = %v, %v, want %d", got, err, len(about))
			}
		})
	}
}

// TestElsewhere checks that a blob that its registry lacks is skipped if its manifest has a URL
// for it, and is an error otherwise.
func TestElsewhere(t *testing.T) {
	l := newLab(t, registrytest.GGCR(), registrytest.GGCR())
	push := func(layer ocispec.Descriptor) ocispec.Descriptor {
		t.Helper()
		data, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: layer, Layers: []ocispec.Descriptor{}})
		if err != nil {
			t.Fatal(err)
		}
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := l.from.PushManifest(t.Context(), desc, data, ""); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("nowhere"), Size: 7}
	missing := push(layer)
	layer.URLs = []string{"https://example.com/layer"}
	elsewhere := push(layer)
	for _, c := range []struct {
		desc ocispec.Descriptor
		want func(error) bool
	}{{elsewhere, func(err error) bool { return err == nil }}, {missing, errdefs.IsNotFound}} {
		err := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{}).Manifests(t.Context(), l.from, c.desc)
		if !c.want(err) {
			t.Errorf("%s: %v", c.desc.Digest, err)
		}
		if there, e := l.to.Exists(t.Context(), c.desc); e != nil || there != (err == nil) {
			t.Errorf("%s is there: %v, %v; after %v", c.desc.Digest, there, e, err)
		}
	}
}

// A non-distributable layer is copied if it is in its registry and has no URLs.
func TestNonDistributable(t *testing.T) {
	data := []byte("a layer")
	layer := ocispec.Descriptor{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: digest.FromBytes(data), Size: int64(len(data))}
	for name, tt := range map[string]struct {
		there, urls, moved bool
	}{
		"there":               {there: true, moved: true},
		"there and elsewhere": {there: true, urls: true},
		"elsewhere":           {urls: true},
		"nowhere":             {},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, registrytest.GGCR(), registrytest.GGCR())
			if tt.there {
				if _, err := l.from.PushBlob(t.Context(), layer, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }); err != nil {
					t.Fatal(err)
				}
			}
			layer := layer
			if tt.urls {
				layer.URLs = []string{"https://example.com/layer"}
			}
			config := ocispec.DescriptorEmptyJSON
			if _, err := l.from.PushBlob(t.Context(), config, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config.Data)), nil }); err != nil {
				t.Fatal(err)
			}
			manifest, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}})
			if err != nil {
				t.Fatal(err)
			}
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
			if err := l.from.PushManifest(t.Context(), desc, manifest, ""); err != nil {
				t.Fatal(err)
			}
			if err := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{}).Manifests(t.Context(), l.from, desc); err != nil {
				t.Fatal(err)
			}
			if there, err := l.to.Exists(t.Context(), layer); err != nil || there != tt.moved {
				t.Errorf("moved: %v, %v", there, err)
			}
			var tree transfer.Tree
			if err := tree.Add(t.Context(), l.from, nil, desc); err != nil || tree.Has(layer.Digest) != tt.moved {
				t.Errorf("saved: %v, %v", tree.Has(layer.Digest), err)
			}
		})
	}
}

// TestToLayout checks that an interrupted blob is written again, and that a wrong one is never
// written.
func TestToLayout(t *testing.T) {
	const size = 1_500_000 // too large to be replayed from memory
	for name, test := range map[string]struct {
		fault registrytest.Fault
		times int32
		ok    bool
	}{
		"cut off once":     {registrytest.Cut(1000), 1, true},
		"wrong once":       {registrytest.Corrupt(1000), 1, true},
		"cut off for good": {registrytest.Cut(0), 100, false},
		"wrong for good":   {registrytest.Corrupt(1000), 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait between attempts
			var left atomic.Int32
			left.Store(test.times)
			isBlob := registrytest.Is(registrytest.Blobs, http.MethodGet)
			broken := registrytest.Misbehave(upstream(registrytest.Image{Single: true, Layers: []int64{size}}),
				func(r *http.Request) bool { return isBlob(r) && left.Add(-1) >= 0 }, test.fault)
			l := newLab(t, broken, registrytest.GGCR())
			dir := t.TempDir()
			target, err := transfer.ToLayout(dir)
			if err != nil {
				t.Fatal(err)
			}
			var current, total int64
			progress := transfer.NewProgress(func(c, t int64) { current, total = c, t })
			c := transfer.NewCopier(target, transfer.Options{Progress: progress})
			desc := l.resolve(t, "1")
			_, err = c.Manifest(t.Context(), l.from, desc)
			progress.End()
			if (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
			if current != total || current != c.Moved().Bytes {
				t.Errorf("progress ends with %d of %d bytes, and moved %+v", current, total, c.Moved())
			}
			_, err = os.Stat(filepath.Join(dir, "blobs", "sha256", desc.Digest.Encoded()))
			if (err == nil) != test.ok {
				t.Errorf("its manifest: %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "ingest", "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestTree checks that an index of which one manifest is kept only leads to the blobs of that,
// and that content that is read twice is fetched once.
func TestTree(t *testing.T) {
	l := newLab(t, upstream(registrytest.Image{Layers: []int64{700}}), registrytest.GGCR())
	index := l.resolve(t, "1")
	var tree transfer.Tree
	first := func(_ ocispec.Descriptor, list []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		return list[:1], nil
	}
	for range 2 {
		if err := tree.Add(t.Context(), l.from, first, index, index); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(tree.Descriptors()); got != 4 || !tree.Has(index.Digest) {
		t.Errorf("%d descriptors, want index, manifest, config and layer", got)
	}
	if got := l.up.Stats().Requests; got["GET manifests"] != 2 || got["GET blobs"] != 0 {
		t.Errorf("it asked %v", got)
	}
	for _, desc := range tree.Descriptors() {
		body, err := tree.Open(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := digest.FromReader(body); err != nil || got != desc.Digest {
			t.Errorf("%s reads as %s, %v", desc.Digest, got, err)
		}
		body.Close()
	}
	if _, err := tree.Open(context.Background(), ocispec.Descriptor{Digest: digest.FromString("x")}); !errdefs.IsNotFound(err) {
		t.Errorf("what it does not have: %v", err)
	}
}
