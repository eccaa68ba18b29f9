// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/transfer"
)

// drawer is a layout with arbitrary content.
type drawer struct {
	t   *testing.T
	dir string
}

func newDrawer(t *testing.T) *drawer {
	d := &drawer{t, t.TempDir()}
	if err := os.MkdirAll(filepath.Join(d.dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *drawer) blob(mediaType, text string) ocispec.Descriptor {
	d.t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
	if err := os.WriteFile(filepath.Join(d.dir, "blobs", "sha256", desc.Digest.Encoded()), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return desc
}

func (d *drawer) json(mediaType string, fields map[string]any) ocispec.Descriptor {
	d.t.Helper()
	fields["schemaVersion"], fields["mediaType"] = 2, mediaType
	data, err := json.Marshal(fields)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.blob(mediaType, string(data))
}

func (d *drawer) image(name string, layers ...ocispec.Descriptor) ocispec.Descriptor {
	d.t.Helper()
	layers = append([]ocispec.Descriptor{d.blob(ocispec.MediaTypeImageLayer, "layer of "+name)}, layers...)
	return d.json(ocispec.MediaTypeImageManifest, map[string]any{
		"config": d.blob(ocispec.MediaTypeImageConfig, "{}"), "layers": layers, "annotations": map[string]string{"name": name},
	})
}

func (d *drawer) index(children ...ocispec.Descriptor) ocispec.Descriptor {
	d.t.Helper()
	return d.json(ocispec.MediaTypeImageIndex, map[string]any{"manifests": children})
}

func (d *drawer) open() *layout.Layout {
	d.t.Helper()
	for name, text := range map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"manifests":[]}`} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	l, err := layout.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

func sized(desc ocispec.Descriptor, by int64) ocispec.Descriptor {
	desc.Size += by
	return desc
}

// An error anywhere below a manifest is one error of a copy and of a save, before anything is
// written.
func TestWrongBelow(t *testing.T) {
	const unknown = "application/vnd.example.thing.v1+json"
	for name, tt := range map[string]struct {
		top  func(d *drawer) ocispec.Descriptor
		want string // "" is valid
	}{
		"image":                  {func(d *drawer) ocispec.Descriptor { return d.image("a") }, ""},
		"nested":                 {func(d *drawer) ocispec.Descriptor { return d.index(d.index(d.image("a")), d.image("b")) }, ""},
		"one byte more":          {func(d *drawer) ocispec.Descriptor { return d.index(d.image("a"), sized(d.image("b"), 1)) }, "bytes"},
		"one byte less, deep":    {func(d *drawer) ocispec.Descriptor { return d.index(d.image("a"), d.index(sized(d.image("b"), -1))) }, "bytes"},
		"two sizes of one image": {func(d *drawer) ocispec.Descriptor { return d.index(d.image("a"), d.index(sized(d.image("a"), 1))) }, "bytes"},
		"two sizes of one layer": {func(d *drawer) ocispec.Descriptor {
			l := d.blob(ocispec.MediaTypeImageLayer, "shared")
			return d.index(d.image("a", l), d.image("b", sized(l, 1)))
		}, "bytes"},
		"a layer of 0 bytes": {func(d *drawer) ocispec.Descriptor {
			return d.index(d.image("a", ocispec.Descriptor{Digest: digest.FromString("x")}))
		}, "has size 0"},
		"a layer of -1 bytes": {func(d *drawer) ocispec.Descriptor {
			return d.index(d.image("a", ocispec.Descriptor{Digest: digest.FromString("x"), Size: -1}))
		}, "has size -1"},
		"an empty layer": {func(d *drawer) ocispec.Descriptor { return d.image("a", d.blob(ocispec.MediaTypeImageLayer, "")) }, ""},
		"a blob":         {func(d *drawer) ocispec.Descriptor { return d.index(d.image("a"), d.blob("text/plain", "hello")) }, ""},
		"of an unknown type": {func(d *drawer) ocispec.Descriptor {
			return d.index(d.image("a"), d.json(unknown, map[string]any{"x": 1}))
		}, ""},
		"without a type": {func(d *drawer) ocispec.Descriptor { m := d.image("a"); m.MediaType = ""; return d.index(m) }, ""},
		"depth": {func(d *drawer) ocispec.Descriptor {
			m := d.image("a")
			for range registry.MaxDepth + 1 {
				m = d.index(m)
			}
			return m
		}, "indexes"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDrawer(t)
			top := tt.top(d)
			from := d.open()
			check := func(what string, err error) {
				t.Helper()
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: got %v, want %q", what, err, tt.want)
				}
			}
			l := newLab(t, upstream(registrytest.Image{}), registrytest.GGCR())
			_, err := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{}).Manifest(t.Context(), from, top)
			check("copy", err)
			if requests := l.down.Stats().Requests; tt.want != "" && requests["POST uploads"]+requests["PUT uploads"]+requests["PUT manifests"] > 0 {
				t.Errorf("copy wrote before it failed: %v", requests)
			}
			var tree transfer.Tree
			check("save", tree.Add(t.Context(), from, nil, top))
		})
	}
}

// The list of everything below an index is in the order of the index, and has a nested index
// once. The indexes are read concurrently: each waits here for all.
func TestBelow(t *testing.T) {
	d := newDrawer(t)
	var want []digest.Digest
	var children []ocispec.Descriptor
	list := func(desc ocispec.Descriptor) ocispec.Descriptor {
		want = append(want, desc.Digest)
		return desc
	}
	shared := d.index(d.image("shared"))
	for i := range 8 {
		image := d.image(fmt.Sprint(i))
		index := d.index(image, shared)
		list(index)
		list(image)
		if list(shared); i == 0 {
			list(d.image("shared"))
		}
		children = append(children, index, list(d.image("plain")))
	}
	top := d.index(children...)
	from := &meeting{Provider: d.open(), together: map[digest.Digest]bool{}, met: make(chan struct{}), read: map[digest.Digest]int{}}
	for i := range 8 {
		from.together[children[2*i].Digest] = true
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	below, err := transfer.Below(ctx, from, top)
	if err != nil {
		t.Fatal(err)
	}
	got := []digest.Digest{}
	for _, desc := range below {
		got = append(got, desc.Digest)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for dgst, n := range from.read {
		if n > 1 {
			t.Errorf("%s was read %d times", dgst, n)
		}
	}
}

// meeting returns some blobs only when all of them are requested.
type meeting struct {
	content.Provider
	mu       sync.Mutex
	together map[digest.Digest]bool
	met      chan struct{}
	read     map[digest.Digest]int
}

func (m *meeting) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	m.mu.Lock()
	m.read[desc.Digest]++
	waits := m.together[desc.Digest]
	if delete(m.together, desc.Digest); waits && len(m.together) == 0 {
		close(m.met)
	}
	m.mu.Unlock()
	if waits {
		select {
		case <-m.met:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return m.Provider.ReaderAt(ctx, desc)
}

// The indexes below one must fit into memory.
func TestBelowTooLarge(t *testing.T) {
	d := newDrawer(t)
	index := func(note string, children ...ocispec.Descriptor) ocispec.Descriptor {
		return d.json(ocispec.MediaTypeImageIndex, map[string]any{"manifests": children, "annotations": map[string]string{"note": note}})
	}
	note := strings.Repeat("x", 4_000_000)
	var children []ocispec.Descriptor
	for i := range 17 {
		children = append(children, index(fmt.Sprint(i, note)))
	}
	if below, err := transfer.Below(t.Context(), d.open(), index("", children[:16]...)); err != nil || len(below) != 16 {
		t.Errorf("%d manifests, %v", len(below), err)
	}
	if _, err := transfer.Below(t.Context(), d.open(), index("", children...)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v, want an error that it is too large", err)
	}
}

// A missing blob is an error of the manifest that has no URL for it, whichever comes first.
func TestURLs(t *testing.T) {
	for i := range 8 {
		d := newDrawer(t)
		absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("absent"), Size: 6}
		elsewhere := absent
		elsewhere.URLs = []string{"https://example.com/absent"}
		alone, both := d.index(d.image("a", elsewhere)), d.index(d.image("a", elsewhere), d.image(fmt.Sprint("b", i), absent))
		from := d.open()
		for top, want := range map[*ocispec.Descriptor]bool{&alone: true, &both: false} {
			to, err := transfer.ToLayout(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := transfer.NewCopier(to, transfer.Options{}).Manifest(t.Context(), from, *top); (err == nil) != want {
				t.Errorf("copy: %v", err)
			}
			var tree transfer.Tree
			if err := tree.Add(t.Context(), from, nil, *top); err != nil {
				t.Errorf("tree: %v", err)
			}
			if tree.Has(absent.Digest) == want { // then it cannot be opened
				t.Errorf("tree has it: %v", !want)
			}
		}
	}
}
