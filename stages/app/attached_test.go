// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/stages/app"
)

// shelf is a repository that tests push manifests into.
type shelf struct {
	t *testing.T
	*registry.Repository
}

func (s shelf) blob(mediaType, text string) ocispec.Descriptor {
	s.t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
	_, err := s.PushBlob(s.t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte(text))), nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return desc
}

func (s shelf) put(mediaType, tag string, fields map[string]any) ocispec.Descriptor {
	s.t.Helper()
	fields["schemaVersion"], fields["mediaType"] = 2, mediaType
	data, err := json.Marshal(fields)
	if err != nil {
		s.t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := s.PushManifest(s.t.Context(), desc, data, tag); err != nil {
		s.t.Fatal(err)
	}
	if subject, entry, err := registry.Referrer(desc, data); err == nil {
		if err := s.AddReferrers(s.t.Context(), subject, entry); err != nil {
			s.t.Fatal(err)
		}
	}
	return desc
}

func (s shelf) image(tag string) ocispec.Descriptor {
	s.t.Helper()
	return s.put(ocispec.MediaTypeImageManifest, tag, map[string]any{
		"config": s.blob(ocispec.MediaTypeImageConfig, `{"os":"linux","architecture":"amd64"}`),
		"layers": []ocispec.Descriptor{s.blob(ocispec.MediaTypeImageLayer, "layer")},
	})
}

// about pushes a manifest with a subject.
func (s shelf) about(subject ocispec.Descriptor, artifactType string) ocispec.Descriptor {
	s.t.Helper()
	return s.put(ocispec.MediaTypeImageManifest, "", map[string]any{
		"artifactType": artifactType, "config": s.blob(ocispec.MediaTypeEmptyJSON, "{}"),
		"layers":  []ocispec.Descriptor{s.blob(artifactType, "about "+subject.Digest.String())},
		"subject": ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
}

// Everything attached to an image is copied from every level of it, in the same way by package,
// copy and save: of an index in an index, of platforms, of attachments to those. A manifest
// that is only listed as a referrer is not.
func TestAttachedAtEveryLevel(t *testing.T) {
	const (
		sbom      = "application/spdx+json"
		signature = "application/vnd.cncf.notary.signature"
		artifact  = "application/vnd.oci.artifact.manifest.v1+json"
		oras      = "application/vnd.cncf.oras.artifact.manifest.v1+json"
	)
	for name, dst := range map[string]func() http.Handler{"without referrers": func() http.Handler { return registrytest.NoReferrers(registrytest.GGCR()) }, "with referrers": func() http.Handler { return registrytest.GGCR() }} {
		t.Run(name, func(t *testing.T) {
			up, down := registrytest.Serve(t, registrytest.NoReferrers(registrytest.GGCR())), registrytest.Serve(t, dst())
			env := environmentOf(t, t.TempDir())
			kept, err := store.Open(t.Context(), t.TempDir(), store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			env.Store = kept
			open := func(name string) shelf {
				r, err := env.Registry.Repository(name)
				if err != nil {
					t.Fatal(err)
				}
				return shelf{t, r}
			}
			s := open(up + "/lib/web")
			image := s.image("")
			inner := s.put(ocispec.MediaTypeImageIndex, "", map[string]any{"manifests": []ocispec.Descriptor{image}})
			inner.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
			top := s.put(ocispec.MediaTypeImageIndex, "1.0", map[string]any{"manifests": []ocispec.Descriptor{inner}})
			want := map[string]ocispec.Descriptor{"image": s.about(image, sbom), "inner index": s.about(inner, sbom), "top": s.about(top, sbom)}
			want["signature of an SBOM"] = s.about(want["image"], signature)
			want["SBOM, by cosign's tag"] = s.put(ocispec.MediaTypeImageManifest, registry.AttachedTag(want["image"].Digest, ".sig"), map[string]any{
				"config": s.blob(ocispec.MediaTypeImageConfig, "{}"), "layers": []ocispec.Descriptor{s.blob("application/x", "signature of the SBOM")},
			})
			want["signature of a signature"] = s.about(want["signature of an SBOM"], signature)
			for i, mediaType := range []string{artifact, oras} {
				want[mediaType] = s.put(mediaType, "", map[string]any{
					"artifactType": sbom, "blobs": []ocispec.Descriptor{s.blob(sbom, fmt.Sprint("blob", i))},
					"subject": ocispec.Descriptor{MediaType: top.MediaType, Digest: top.Digest, Size: top.Size},
				})
			}
			stranger := s.about(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("other"), Size: 5}, sbom)
			stranger.ArtifactType = sbom
			if err := s.AddReferrers(t.Context(), top.Digest, stranger); err != nil {
				t.Fatal(err)
			}
			all := func(what string, has func(digest.Digest) bool) {
				t.Helper()
				for level, desc := range want {
					if !has(desc.Digest) {
						t.Errorf("%s: what is about the %s is left behind", what, level)
					}
				}
				if has(stranger.Digest) {
					t.Errorf("%s takes what is about something else", what)
				}
			}
			in := func(name string) func(digest.Digest) bool {
				r := open(name)
				return func(dgst digest.Digest) bool {
					there, err := r.Exists(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: dgst})
					if err != nil {
						t.Fatal(err)
					}
					return there
				}
			}
			copyTo := func(from, to string) {
				t.Helper()
				if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: env, Pairs: []app.CopyPair{{Source: from, Target: to}}}); err != nil {
					t.Fatal(err)
				}
			}
			copyTo(up+"/lib/web:1.0", down+"/copied/image")
			all("copy of the image", in(down+"/copied/image"))

			source := t.TempDir()
			pod := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: '%s/lib/web:1.0'}]}\n", up)
			if err := os.WriteFile(filepath.Join(source, "pod.yaml"), []byte(pod), 0o644); err != nil {
				t.Fatal(err)
			}
			result, err := app.Package(t.Context(), app.PackageOptions{
				Options: app.Options{Environment: env, Sources: []app.Source{{Path: source}}}, Repository: down + "/team/app", Tags: []string{"v1"},
			})
			if err != nil {
				t.Fatal(err)
			}
			all("package", in(down+"/team/app"))

			// Some artifacts are attached later, to the application.
			destination := open(down + "/team/app")
			root, err := destination.Resolve(t.Context(), "v1")
			if err != nil || root.Digest != result.Root.Digest {
				t.Fatal(root, err)
			}
			want["root"] = destination.about(root, signature)
			want["signature of the root"] = destination.about(want["root"], signature)
			want["platform, later"] = destination.about(image, signature)
			want["SBOM, later"] = destination.about(want["inner index"], signature)
			copyTo(down+"/team/app:v1", down+"/copied/app")
			all("copy of the application", in(down+"/copied/app"))

			file := filepath.Join(t.TempDir(), "app.tar")
			if _, err := app.Save(t.Context(), app.SaveOptions{Environment: env, Ref: down + "/team/app:v1", File: file}); err != nil {
				t.Fatal(err)
			}
			l, err := layout.OpenArchive(t.Context(), file)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			blobs, err := l.Blobs()
			if err != nil {
				t.Fatal(err)
			}
			all("save", func(dgst digest.Digest) bool { _, found := slices.BinarySearch(blobs, dgst); return found })
			for _, ref := range []string{down + "/copied/app:v1", "archive:" + file} {
				if _, err := app.View(t.Context(), app.ViewOptions{Environment: env, Ref: ref}); err != nil {
					t.Errorf("view %s: %v", ref, err)
				}
			}
			copyTo("archive:"+file, down+"/loaded/app")
			all("load", in(down+"/loaded/app"))
		})
	}
}

// What cosign before version 3 attached by tag to any part of an application after it was packed
// is copied with it. An archive cannot contain it, which is a warning.
func TestTaggedLater(t *testing.T) {
	for name, src := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := newSignedApp(t, src())
			r, err := a.env.Registry.Repository(a.host + "/team/shop")
			if err != nil {
				t.Fatal(err)
			}
			s := shelf{t, r}
			var want []string
			attach := func(to digest.Digest, suffix string) ocispec.Descriptor {
				tag := registry.AttachedTag(to, suffix)
				want = append(want, tag)
				return s.put(ocispec.MediaTypeImageManifest, tag, map[string]any{
					"config": s.blob(ocispec.MediaTypeImageConfig, "{}"), "layers": []ocispec.Descriptor{s.blob("application/x", tag)},
				})
			}
			signature := attach(a.root, ".sig")
			attach(signature.Digest, ".sig")
			content, err := s.Resolve(t.Context(), "manifests.v1")
			if err != nil {
				t.Fatal(err)
			}
			attach(content.Digest, ".att")
			about := s.about(signature, "application/spdx+json")
			attach(digest.FromString("something else"), ".sig")
			want = want[:len(want)-1]

			host := registrytest.Serve(t, registrytest.GGCR())
			layout := filepath.Join(t.TempDir(), "layout")
			a.copyTo(t, a.ref, "oci:"+layout)
			for i, from := range []string{a.ref, "oci:" + layout + ":v1"} {
				repository := fmt.Sprintf("%s/copy/%d", host, i)
				a.copyTo(t, from, repository)
				got := tags(t, repository)
				for _, tag := range want {
					if !slices.Contains(got, tag) {
						t.Errorf("%s: %s is not copied: %v", from, tag, got)
					}
				}
				if slices.Contains(got, registry.AttachedTag(digest.FromString("something else"), ".sig")) {
					t.Errorf("%s: what is about another manifest is copied", from)
				}
				to, err := a.env.Registry.Repository(repository)
				if err != nil {
					t.Fatal(err)
				}
				if there, err := to.Exists(t.Context(), about); err != nil || !there {
					t.Errorf("%s: what is about a signature is not copied: %v", from, err)
				}
			}
			var said []string
			env := a.env
			env.Events = func(e engine.Event) {
				if e.Level == engine.Warning {
					said = append(said, e.Message)
				}
			}
			if _, err := app.Save(t.Context(), app.SaveOptions{Environment: env, Ref: a.ref, File: filepath.Join(t.TempDir(), "a.tar")}); err != nil {
				t.Fatal(err)
			}
			if len(said) != 1 || !strings.Contains(said[0], "attached 3 manifests by tag") {
				t.Errorf("save says %q", said)
			}
		})
	}
}
