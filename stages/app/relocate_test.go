// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
)

// TestRelocateKeepsDigests relocates into registries of both kinds: every image and what is
// attached to it is the same, and the new root names the old one and its signatures.
func TestRelocateKeepsDigests(t *testing.T) {
	for kind, make := range twoRegistries() {
		t.Run(kind, func(t *testing.T) {
			a := newSignedApp(t, make())
			to := registrytest.Serve(t, make()) + "/inside"
			result, err := app.Relocate(t.Context(), app.RelocateOptions{
				Options: app.Options{Environment: a.env}, Source: a.ref, Prefix: to, Repository: to + "/shop",
			})
			if err != nil {
				t.Fatal(err)
			}
			was, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: a.ref})
			if err != nil {
				t.Fatal(err)
			}
			is, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: result.Root.Ref})
			if err != nil {
				t.Fatal(err)
			}
			if len(is.Images) != len(was.Images) || is.Images[0].Digest != was.Images[0].Digest || len(is.Images[0].Related) != len(was.Images[0].Related) {
				t.Errorf("images %+v, not %+v", is.Images, was.Images)
			}
			var named []string
			for _, s := range is.Statements {
				var p artifact.Provenance
				if s.PredicateType != artifact.PredicateProvenance {
					continue
				}
				if err := json.Unmarshal(s.Predicate, &p); err != nil {
					t.Fatal(err)
				}
				for _, d := range p.BuildDefinition.ResolvedDependencies {
					if d.Name == "root" && d.Digest["sha256"] == a.root.Encoded() || d.Name == "signature" {
						named = append(named, d.Name)
					}
				}
			}
			if got := strings.Join(named, " "); got != "root signature signature" {
				t.Errorf("the provenance names %q", got)
			}
			if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: result.Root.Ref, Signer: a.signer}); err != nil {
				t.Fatal(err)
			}
			if got := a.verify(t, app.VerifyOptions{Ref: result.Root.Ref}); !got.OK {
				t.Errorf("%v", failing(got))
			}
		})
	}
}

// TestRelocateInPlace checks that an application whose manifests already have the new names is
// left as it is, because a new root would take the tags of a signed one. A copy may be relocated
// where it is.
func TestRelocateInPlace(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	o := app.RelocateOptions{Options: app.Options{Environment: a.env}, Source: a.ref, Repository: a.host + "/team/shop"}
	if _, err := app.Relocate(t.Context(), o); err == nil || !strings.Contains(err.Error(), "nothing to relocate") {
		t.Errorf("in place: %v", err)
	}
	if got := a.verify(t, app.VerifyOptions{Ref: a.ref}); got.Root != a.root || !got.OK {
		t.Errorf("%s was %s: %v", got.Root, a.root, failing(got))
	}
	o.Repository = a.host + "/team/copied"
	if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: a.ref, Target: o.Repository + ":v1"}}}); err != nil {
		t.Fatal(err)
	}
	o.Source = o.Repository + ":v1"
	if _, err := app.Relocate(t.Context(), o); err != nil {
		t.Errorf("a copy: %v", err)
	}
}

// TestRelocateOriginal makes an application from the format of the original tape.
func TestRelocateOriginal(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	dir := filepath.Join(t.TempDir(), "original")
	original(t, dir, shop)
	o := app.RelocateOptions{
		Options: app.Options{Environment: a.env}, Source: dir, Repository: a.host + "/team/anew", Tags: []string{"v1"},
	}
	result, err := app.Relocate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: result.Root.Ref, Signer: a.signer}); err != nil {
		t.Fatal(err)
	}
	if got := a.verify(t, app.VerifyOptions{Ref: result.Root.Ref}); !got.OK {
		t.Errorf("%v", failing(got))
	}
	again, err := app.Relocate(t.Context(), o)
	if err != nil || again.Root.Digest != result.Root.Digest {
		t.Errorf("again: %+v, %v", again, err)
	}
}

// original writes an application of format v1alpha1 into a layout.
func original(t *testing.T, dir, manifests string) {
	t.Helper()
	w, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		desc, err := engine.Put(t.Context(), w.Store(), mediaType, data)
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	putJSON := func(mediaType string, v any) ocispec.Descriptor {
		data, err := engine.MarshalJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		return put(mediaType, data)
	}
	part := func(mediaType string, data []byte) ocispec.Descriptor {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		desc := putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: put(mediaType, []byte("{}")), Layers: []ocispec.Descriptor{put(mediaType, packed.Bytes())},
		})
		desc.ArtifactType, desc.Platform = mediaType, &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		return desc
	}
	var content bytes.Buffer
	if err := files.Write(&content, []files.File{{Name: "shop.yaml", Data: []byte(manifests)}}); err != nil {
		t.Fatal(err)
	}
	root := putJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{
			part("application/vnd.docker.tape.content.v1alpha1.tar+gzip", content.Bytes()),
			part("application/vnd.docker.tape.attest.v1alpha1.jsonl+gzip", nil),
		},
	})
	w.Add(root)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
