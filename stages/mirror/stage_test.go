// SPDX-License-Identifier: Apache-2.0

package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/mirror"
)

// destinations are the registries that everything is tested with.
var destinations = map[string]func() http.Handler{
	"distribution": func() http.Handler { return registrytest.Distribution("") },
	"ggcr":         registrytest.GGCR,
}

// lab is a source and a destination, both of which count requests.
type lab struct {
	t        *testing.T
	upstream *registrytest.Upstream
	up, down *registrytest.Counter
	src, dst string // hosts
	store    string // of the client
}

func newLab(t *testing.T, source, destination http.Handler) *lab {
	t.Helper()
	l := &lab{t: t, up: registrytest.Count(source), down: registrytest.Count(destination), store: filepath.Join(t.TempDir(), "manifests")}
	l.upstream, _ = source.(*registrytest.Upstream)
	l.src, l.dst = registrytest.Serve(t, l.up), registrytest.Serve(t, l.down)
	return l
}

func (l *lab) client() *registry.Client {
	l.t.Helper()
	client, err := registry.New(registry.Options{ManifestFile: l.store, Credentials: func(string) (string, string, error) { return "", "", nil }})
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

func (l *lab) repository() string { return l.dst + "/team/app" }

// image returns an image of the source like resolve and discover do.
func (l *lab) image(path, tag string) images.Image {
	l.t.Helper()
	desc, err := l.upstream.Resolve(path, tag)
	if err != nil {
		l.t.Fatal(err)
	}
	ref := l.src + "/" + path + ":" + tag
	image := images.Image{
		Source: ref, Name: ref, Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size,
		Locations: []images.Location{{File: "web.yaml", Line: 12, Column: 5}},
	}
	var index ocispec.Index
	if err := json.Unmarshal(l.upstream.Manifest(path, desc.Digest), &index); err != nil {
		l.t.Fatal(err)
	}
	about := []digest.Digest{desc.Digest}
	for _, child := range index.Manifests {
		about = append(about, child.Digest)
		if child.Annotations["vnd.docker.reference.type"] != "" {
			image.Related = append(image.Related, images.Related{Kind: images.Attestation, Via: images.Inline, Digest: child.Digest, To: desc.Digest})
		}
	}
	source, err := l.client().Source(l.src + "/" + path)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, to := range about {
		for _, suffix := range []string{".sig", ".att", ".sbom"} {
			tag := registry.FallbackTag(to) + suffix
			if found, err := l.upstream.Resolve(path, tag); err == nil {
				image.Related = append(image.Related, images.Related{
					Kind: images.Signature, Via: images.Tag, Tag: tag, Digest: found.Digest, MediaType: found.MediaType, Size: found.Size, To: to,
				})
			}
		}
		referrers, err := source.Referrers(l.t.Context(), to)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, found := range referrers {
			image.Related = append(image.Related, images.Related{
				Kind: images.SBOM, Via: images.Referrer, Digest: found.Digest, MediaType: found.MediaType, Size: found.Size, To: to,
			})
		}
	}
	return image
}

func (l *lab) forget() {
	l.up.Reset()
	l.down.Reset()
}

func (l *lab) stage(check bool) *mirror.Stage {
	l.t.Helper()
	stage, err := mirror.New(mirror.Config{Repository: l.repository(), Check: check}, images.Origins{Registry: l.client()}, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return stage
}

func (l *lab) kase(check bool, list ...images.Image) stagetest.Case {
	l.t.Helper()
	input, err := stagetest.JSON(images.MediaTypeList, images.List{Images: list})
	if err != nil {
		l.t.Fatal(err)
	}
	return stagetest.Case{Stage: l.stage(check), Inputs: map[string]stagetest.Blob{"images": input}}
}

// mirror runs the stage.
func (l *lab) mirror(check bool, list ...images.Image) (images.Moved, []engine.Event) {
	l.t.Helper()
	result, err := l.kase(check, list...).Run(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	var moved images.Moved
	if err := result.Outputs["moved"].Decode(&moved); err != nil {
		l.t.Fatal(err)
	}
	return moved, result.Events
}

// whole reads an image completely, with an independent library that verifies what it reads.
func (l *lab) whole(dgst digest.Digest) {
	l.t.Helper()
	repository, err := name.NewRepository(l.repository())
	if err != nil {
		l.t.Fatal(err)
	}
	found, err := remote.Get(repository.Digest(dgst.String()))
	if err != nil {
		l.t.Error(err)
		return
	}
	var manifest struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(found.Manifest, &manifest); err != nil {
		l.t.Fatal(err)
	}
	for _, child := range manifest.Manifests {
		l.whole(child.Digest)
	}
	if manifest.Config != nil {
		manifest.Layers = append(manifest.Layers, *manifest.Config)
	}
	for _, blob := range manifest.Layers {
		layer, err := remote.Layer(repository.Digest(blob.Digest.String()))
		if err != nil {
			l.t.Fatal(err)
		}
		body, err := layer.Compressed()
		if err != nil {
			l.t.Error(err)
			continue
		}
		if n, err := io.Copy(io.Discard, body); err != nil || n != blob.Size {
			l.t.Errorf("blob %s: %d bytes of %d, %v", blob.Digest, n, blob.Size, err)
		}
		body.Close()
	}
}

// tags returns the tags of the destination.
func (l *lab) tags() []string {
	l.t.Helper()
	repository, err := name.NewRepository(l.repository())
	if err != nil {
		l.t.Fatal(err)
	}
	tags, err := remote.List(repository)
	if err != nil && !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		l.t.Fatal(err)
	}
	return slices.DeleteFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, "sha256:") })
}

func published(name, tag string) (registrytest.Image, bool) {
	switch tag {
	case "docker":
		return registrytest.Image{Docker: true, Layers: []int64{3000}}, true
	case "single":
		return registrytest.Image{Single: true, Signatures: 1, Shared: []int64{5000}}, true
	case "deep":
		return registrytest.Image{Deep: true, Inline: 2, Signatures: 2, Attestations: 1, Referrers: []registrytest.Artifact{{Type: registrytest.SPDX}}, Shared: []int64{5000}}, true
	case "large":
		return registrytest.Image{Layers: []int64{3 << 20}}, true
	}
	return registrytest.Published(), true
}

func TestMirror(t *testing.T) {
	for kind, destination := range destinations {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t, &registrytest.Upstream{Image: published}, destination())
			var list []images.Image
			for _, tag := range []string{"docker", "single", "deep", "large", "1.0"} {
				list = append(list, l.image("lib/"+tag, tag))
			}
			again := list[2] // another name of the same
			again.Source += "-again"
			list = append(list, again)
			l.forget()

			moved, events := l.mirror(false, list...)
			up, down := l.up.Reset(), l.down.Reset()
			var tops, referrers int
			for _, image := range list[:5] {
				l.whole(image.Digest)
				tops++
				for _, related := range image.Related {
					if related.Via != images.Inline {
						l.whole(related.Digest)
						tops++
					}
					if related.Via == images.Referrer {
						referrers++
					}
				}
			}
			if tags := l.tags(); len(tags) != 0 {
				t.Errorf("tags %q", tags)
			}
			if gets := up.Requests["GET blobs"]; gets != moved.Blobs {
				t.Errorf("%d blobs read, %d moved", gets, moved.Blobs)
			}
			if len(moved.Copied) != tops || !slices.IsSorted(moved.Copied) {
				t.Errorf("%d copied, want %d: %v", len(moved.Copied), tops, moved.Copied)
			}
			if len(moved.Referrers) != referrers {
				t.Errorf("%d referrers, want %d", len(moved.Referrers), referrers)
			}
			// The repository is new: small blobs are not asked for, and nothing is written twice.
			down.Requests["HEAD blobs"] -= 2 // the large layers
			posts, puts := moved.Blobs, down.Requests["PUT uploads"]
			if kind == "distribution" { // it does not accept a blob in one request, which one of them finds out
				posts++
				puts = moved.Blobs
			} else if puts < 2 || puts == moved.Blobs { // the large layers, and those that did not wait for the first
				t.Errorf("%d blobs of %d took two requests", puts, moved.Blobs)
			}
			if diff := cmp.Diff(map[string]int{
				"GET tags": 1, "HEAD blobs": 0, "POST uploads": posts, "PUT uploads": puts, "PUT manifests": tops + 12,
			}, down.Requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			last := events[len(events)-1]
			if last.Current != moved.Bytes || last.Total != moved.Bytes || last.Unit != "bytes" {
				t.Errorf("last report %+v, moved %d bytes", last, moved.Bytes)
			}

			// Everything exists now: one request for each image and related manifest.
			l.forget()
			moved, _ = l.mirror(false, list...)
			want := images.Moved{Moved: transfer.Moved{Existing: tops}, Copied: []digest.Digest{}}
			if diff := cmp.Diff(want, moved, cmpopts.IgnoreFields(images.Moved{}, "Referrers")); diff != "" {
				t.Errorf("moved again (-want +got):\n%s", diff)
			}
			for _, r := range moved.Referrers {
				if !r.Existing {
					t.Errorf("referrer %+v", r)
				}
			}
			if diff := cmp.Diff(map[string]int{"HEAD manifests": tops}, l.down.Stats().Requests); diff != "" {
				t.Errorf("requests again (-want +got):\n%s", diff)
			}
			if got := l.up.Stats().Total(); got != 0 {
				t.Errorf("%d requests at the source", got)
			}
		})
	}
}

// Everything that the root pushed last refers to exists: one request finds out.
func TestTrustsTheLastRoot(t *testing.T) {
	l := newLab(t, &registrytest.Upstream{}, registrytest.Distribution(""))
	one, two := l.image("lib/one", "1"), l.image("lib/two", "1")
	l.mirror(false, one)
	repository, err := l.client().Repository(l.repository())
	if err != nil {
		t.Fatal(err)
	}
	root := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{{MediaType: one.MediaType, Digest: one.Digest, Size: one.Size}}}
	root.SchemaVersion = 2
	for _, r := range one.Related {
		if r.Via != images.Inline {
			root.Manifests = append(root.Manifests, ocispec.Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size})
		}
	}
	data, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: root.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := repository.PushManifest(t.Context(), desc, data, "v1"); err != nil {
		t.Fatal(err)
	}
	repository.Remember(t.Context(), desc, data)

	l.forget()
	moved, _ := l.mirror(false, one)
	if moved.Existing != 3 || len(moved.Referrers) != 0 {
		t.Errorf("moved %+v", moved)
	}
	if diff := cmp.Diff(map[string]int{"HEAD manifests": 1}, l.down.Reset().Requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	// New content is copied.
	if moved, _ = l.mirror(false, one, two); moved.Existing < 3 || moved.Blobs == 0 {
		t.Errorf("moved %+v", moved)
	}
	l.whole(two.Digest)
}

func TestCheck(t *testing.T) {
	l := newLab(t, &registrytest.Upstream{Image: published}, registrytest.Distribution(""))
	image := l.image("lib/app", "deep")
	l.mirror(false, image)
	var index ocispec.Index
	if err := json.Unmarshal(l.upstream.Manifest("lib/app", image.Digest), &index); err != nil {
		t.Fatal(err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(l.upstream.Manifest("lib/app", index.Manifests[0].Digest), &manifest); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"manifests/" + index.Manifests[1].Digest.String(), "blobs/" + manifest.Layers[0].Digest.String()} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+l.dst+"/v2/team/app/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusAccepted {
			t.Fatalf("delete %s: %v, %v", path, resp.Status, err)
		}
		resp.Body.Close()
	}
	// The index exists, and is trusted to be complete.
	if moved, _ := l.mirror(false, image); moved.Blobs != 0 {
		t.Errorf("moved %+v", moved)
	}
	if moved, _ := l.mirror(true, image); moved.Blobs != 1 || moved.Mounted != 0 {
		t.Errorf("moved %+v", moved)
	}
	l.whole(image.Digest)
}

// handmade pushes manifests to a registry that accepts anything.
func handmade(t *testing.T, l *lab, path, mediaType, text string) ocispec.Descriptor {
	t.Helper()
	repository, err := l.client().Repository(l.src + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
	if err := repository.PushManifest(t.Context(), desc, []byte(text), ""); err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestUnusualImages(t *testing.T) {
	const gone = "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	layer := func(mediaType, more string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":5,"urls":["https://example.com/config"]},"layers":[{"mediaType":%q,"digest":%q,"size":5%s}]}`,
			ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, gone, mediaType, gone, more)
	}
	tests := map[string]struct {
		text string
		err  error
	}{
		"a layer that may not be distributed":    {layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", ""), nil},
		"a foreign layer":                        {layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", `,"urls":["https://example.com/x"]`), nil},
		"a layer that lies elsewhere":            {layer(ocispec.MediaTypeImageLayerGzip, `,"urls":["https://example.com/x"]`), nil},
		"a layer that is missing at the source":  {layer(ocispec.MediaTypeImageLayerGzip, ""), errdefs.ErrNotFound},
		"an index of nothing":                    {`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`, nil},
		"a child that is missing at the source":  {`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + gone + `","size":5}]}`, errdefs.ErrNotFound},
		"a digest that is none, where a blob is": {strings.ReplaceAll(layer(ocispec.MediaTypeImageLayerGzip, ""), gone, "sha256:../../x"), errdefs.ErrInvalidArgument},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, lax{registrytest.GGCR()}, registrytest.GGCR())
			mediaType := ocispec.MediaTypeImageManifest
			if strings.Contains(test.text, `"manifests"`) {
				mediaType = ocispec.MediaTypeImageIndex
			}
			desc := handmade(t, l, "lib/x", mediaType, test.text)
			image := images.Image{Source: "x", Name: l.src + "/lib/x:1", Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}
			_, err := l.kase(false, image).Run(t.Context())
			if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			repository, e := l.client().Repository(l.repository())
			if e != nil {
				t.Fatal(e)
			}
			if there, e := repository.Exists(t.Context(), desc); e != nil || there != (test.err == nil) {
				t.Errorf("there: %t, %v", there, e)
			}
		})
	}
	t.Run("an index in an index", func(t *testing.T) {
		l := newLab(t, lax{registrytest.GGCR()}, registrytest.GGCR())
		desc := handmade(t, l, "lib/x", ocispec.MediaTypeImageManifest, tests["a foreign layer"].text)
		for range 3 {
			desc = handmade(t, l, "lib/x", ocispec.MediaTypeImageIndex, fmt.Sprintf(
				`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ocispec.MediaTypeImageIndex, desc.MediaType, desc.Digest, desc.Size))
		}
		l.forget()
		moved, _ := l.mirror(false, images.Image{Source: "x", Name: l.src + "/lib/x:1", Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size})
		if puts := l.down.Stats().Requests["PUT manifests"]; puts != 4 || len(moved.Copied) != 1 {
			t.Errorf("%d manifests written, moved %+v", puts, moved)
		}
	})
}

// lax accepts manifests whose children it lacks.
type lax struct{ http.Handler }

func (l lax) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut && r.Header.Get("Content-Type") == ocispec.MediaTypeImageIndex {
		// GET returns the type that a manifest was pushed with, which must not matter.
		r.Header.Set("Content-Type", "application/json")
	}
	l.Handler.ServeHTTP(w, r)
}

// Within a registry nothing is sent that it already has.
func TestMounts(t *testing.T) {
	l := newLab(t, registrytest.Distribution(""), registrytest.Distribution(""))
	up := newLab(t, &registrytest.Upstream{Image: published}, registrytest.Distribution(""))
	up.dst, up.down = l.dst, l.down
	image := up.image("lib/app", "large")
	up.mirror(false, image)
	image.Name = up.repository() + ":1"

	stage, err := mirror.New(mirror.Config{Repository: l.dst + "/team/other"}, images.Origins{Registry: l.client()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.forget()
	kase := l.kase(false, image)
	kase.Stage = stage
	result, err := kase.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var moved images.Moved
	if err := result.Outputs["moved"].Decode(&moved); err != nil {
		t.Fatal(err)
	}
	if moved.Mounted != 4 || moved.Blobs != 0 || moved.Bytes != 0 {
		t.Errorf("moved %+v", moved)
	}
	if got := l.down.Stats().Requests; got["GET blobs"] != 0 || got["PUT uploads"] != 0 {
		t.Errorf("requests %v", got)
	}
	// Content that is already in the repository is kept.
	image.Name = l.repository() + ":1"
	if moved, _ := l.mirror(false, image); moved.Existing != 1 {
		t.Errorf("moved %+v", moved)
	}
}

func TestFailure(t *testing.T) {
	blobs, puts := registrytest.Is(registrytest.Blobs, http.MethodGet), registrytest.Is(registrytest.Manifests, http.MethodPut)
	tests := map[string]struct {
		source, destination func(http.Handler) http.Handler
		class               error
		text                string
	}{
		"a blob is always wrong": {
			source: func(h http.Handler) http.Handler {
				return registrytest.Misbehave(h, blobs, registrytest.Corrupt(7))
			},
			class: errdefs.ErrDataLoss, text: "sent bytes with digest sha256:",
		},
		"a blob is gone": {
			source: func(h http.Handler) http.Handler {
				return registrytest.Misbehave(h, blobs, registrytest.Status(http.StatusNotFound))
			},
			class: errdefs.ErrNotFound, text: "not found",
		},
		"the destination takes no manifests": {
			destination: func(h http.Handler) http.Handler {
				return registrytest.Misbehave(h, puts, registrytest.Status(http.StatusForbidden))
			},
			class: errdefs.ErrPermissionDenied, text: "403 Forbidden: forbidden; check what your account may do there",
		},
		"the destination takes no indexes": {
			destination: func(h http.Handler) http.Handler { return registrytest.Reject(h, registrytest.Index) },
			class:       errdefs.ErrInvalidArgument, text: "400 Bad Request: manifest invalid",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some wait before they retry
			l := newLab(t, &registrytest.Upstream{}, registrytest.Distribution(""))
			image := l.image("lib/app", "1")
			if test.source != nil {
				l.src = registrytest.Serve(t, test.source(l.up))
			}
			if test.destination != nil {
				l.dst = registrytest.Serve(t, test.destination(l.down))
			}
			image.Name = l.src + "/lib/app:1"
			_, err := l.kase(false, image).Run(t.Context())
			if !errors.Is(err, test.class) || !strings.Contains(err.Error(), test.text) || !strings.HasPrefix(err.Error(), "copy image "+image.Source+" (web.yaml:12:5): ") {
				t.Errorf("got %v", err)
			}
			if tags := l.tags(); len(tags) != 0 {
				t.Errorf("tags %q", tags)
			}
		})
	}
}

// An interrupted run ends at once, and another one completes it.
func TestInterrupted(t *testing.T) {
	l := newLab(t, &registrytest.Upstream{Image: published}, registrytest.Distribution(""))
	image := l.image("lib/app", "large")
	stop := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	hung := registrytest.Misbehave(l.up, registrytest.Is(registrytest.Blobs, http.MethodGet), func(next http.Handler) http.Handler {
		stall := registrytest.Stall(1000)(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.AfterFunc(time.Millisecond, func() { cancel(stop) })
			stall.ServeHTTP(w, r)
		})
	})
	interrupted := image
	interrupted.Name = registrytest.Serve(t, hung) + "/lib/app:1"
	if _, err := l.kase(false, interrupted).Run(ctx); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if tags := l.tags(); len(tags) != 0 {
		t.Errorf("tags %q", tags)
	}
	l.mirror(false, image)
	l.whole(image.Digest)
}

func TestContract(t *testing.T) {
	l := newLab(t, &registrytest.Upstream{}, registrytest.Distribution(""))
	image := l.image("lib/app", "1")
	l.mirror(false, image)
	if err := l.kase(false, image).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if moved, _ := l.mirror(false); moved.Blobs != 0 {
		t.Errorf("moved %+v", moved)
	}
}

func TestConfig(t *testing.T) {
	kind := mirror.Kind(images.Origins{}, nil)
	for with, want := range map[string]string{
		`{"repository":"example.com/team/app"}`:    "",
		`{"repository":"example.com/team/app:1"}`:  "without a tag",
		`{"repository":"example.com/Team/app"}`:    "lowercase",
		`{"repository":"team/app"}`:                "with its registry",
		`{"repository":"example.com/team/app@x"}`:  "repository",
		`{"repository":["example.com/team/app@"]}`: "read options: json",
	} {
		_, err := kind.New(json.RawMessage(with))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", with, err)
		}
	}
}
