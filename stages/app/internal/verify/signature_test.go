// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/sign"
)

// place has blobs, and claims to have any.
type place struct {
	layout.Repository
	blobs map[digest.Digest][]byte
}

func (p place) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	data, ok := p.blobs[desc.Digest]
	if !ok {
		panic("it is read")
	}
	return reader{bytes.NewReader(data)}, nil
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

func (p place) put(t *testing.T, v any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}
	p.blobs[desc.Digest] = data
	return desc
}

// A signature that is too large is not read, in whatever form it is published.
func TestLargeSignatures(t *testing.T) {
	p := place{blobs: map[digest.Digest][]byte{}}
	c := &chain{place: p, o: Options{Images: []*trust.Authority{{Name: "publisher"}}}}
	for _, mediaType := range []string{trust.SimpleSigning, sign.MediaType} {
		for _, size := range []int64{4<<20 + 1, -1} {
			desc := p.put(t, ocispec.Manifest{Layers: []ocispec.Descriptor{{MediaType: mediaType, Digest: digest.FromString("large"), Size: size}}})
			_, err := c.imageSigned(t.Context(), digest.FromString("image"), []ocispec.Descriptor{desc})
			if err == nil || !strings.Contains(err.Error(), "more than the 4194304 allowed") {
				t.Errorf("%s of %d bytes: error %v", mediaType, size, err)
			}
			if mediaType != sign.MediaType {
				continue
			}
			if _, err := sign.Attached(t.Context(), p, desc); err == nil || !strings.Contains(err.Error(), "more than the 4194304 allowed") {
				t.Errorf("attached bundle of %d bytes: error %v", size, err)
			}
		}
	}
}
