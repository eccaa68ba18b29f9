// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/transfer"
)

// A referrer that is listed and not there is reported; one of which a part is missing is named
// with its subject.
func TestMissingReferrer(t *testing.T) {
	for name, without := range map[string]func(http.Handler) http.Handler{
		"API": func(h http.Handler) http.Handler { return h }, "fallback tag": registrytest.NoReferrers,
	} {
		for _, empty := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				var gone string
				content := registrytest.GGCR()
				up := registrytest.Misbehave(without(content), func(r *http.Request) bool { return gone != "" && strings.Contains(r.URL.Path, gone) }, registrytest.Status(http.StatusNotFound))
				l := newLab(t, up, registrytest.GGCR())
				image, layer := put(t, l.from, nil), ocispec.Descriptor{}
				put(t, l.from, &image, &layer)
				referrers, err := l.from.Referrers(t.Context(), image.Digest)
				if err != nil || len(referrers) != 1 {
					t.Fatalf("Referrers = %v, %v", referrers, err)
				}
				referrer := referrers[0].Digest
				fresh := l.repository(t, registrytest.Serve(t, up)+"/lib/app") // without what was remembered

				gone = "manifests/" + referrer.String()
				want := transfer.MissingReferrer{Subject: image.Digest, Digest: referrer}
				var missing []transfer.MissingReferrer
				report := func(m transfer.MissingReferrer) { missing = append(missing, m) }
				c := transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{Empty: empty, Missing: report})
				if _, err := c.Whole(t.Context(), fresh, image, []digest.Digest{image.Digest}); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(missing, []transfer.MissingReferrer{want}) {
					t.Errorf("missing are %v, want %v", missing, want)
				}
				missing = nil
				if attached, err := transfer.Attached(t.Context(), fresh, []digest.Digest{image.Digest}, nil, report); err != nil || len(attached) > 0 || len(missing) != 1 {
					t.Errorf("Attached = %v, %v; missing are %v", attached, err, missing)
				}

				gone = "blobs/" + layer.Digest.String()
				c = transfer.NewCopier(transfer.ToRepository(l.client, l.to), transfer.Options{Empty: empty})
				_, err = c.Whole(t.Context(), fresh, image, []digest.Digest{image.Digest})
				if text := referrer.String() + ", which is about " + image.Digest.String() + ": "; err == nil || !strings.HasPrefix(err.Error(), text) || !strings.HasSuffix(err.Error(), "must be pushed again; or delete it there") {
					t.Errorf("got %v, want %s…", err, text)
				}
			})
		}
	}
}

// put pushes a manifest, which may have a subject, and returns its descriptor and its layer.
func put(t *testing.T, r *registry.Repository, subject *ocispec.Descriptor, layer ...*ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	push := func(mediaType, text string) ocispec.Descriptor {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
		if err := r.PushBytes(t.Context(), desc, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: push(ocispec.MediaTypeImageConfig, "{}"), Subject: subject}
	manifest.SchemaVersion = 2
	for _, l := range layer {
		*l = push("application/x", "the layer of a referrer")
		manifest.Layers = append(manifest.Layers, *l)
	}
	data, err := engine.MarshalJSON(manifest)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: manifest.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if subject != nil {
		err = r.PushReferrer(t.Context(), desc, data)
	} else {
		err = r.PushManifest(t.Context(), desc, data, "1")
	}
	if err != nil {
		t.Fatal(err)
	}
	return desc
}
