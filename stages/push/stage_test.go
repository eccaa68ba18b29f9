// SPDX-License-Identifier: Apache-2.0

package push_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/push"
)

var destinations = map[string]func() http.Handler{
	"distribution": func() http.Handler { return registrytest.Distribution("") },
	"ggcr":         registrytest.GGCR,
}

// lab is a destination with the content that mirror copied.
type lab struct {
	t     *testing.T
	watch *watch
	host  string
	store string

	moved  images.Moved
	images []images.Image
	blobs  []stagetest.Blob // of the artifact
	root   artifact.Blob
	// content and statements manifests
	content, statements ocispec.Descriptor
}

// watch records the order of writes, and may reject them.
type watch struct {
	http.Handler
	mu     sync.Mutex
	puts   []string // references of manifests
	reads  int
	refuse int // writes of manifests from this one on, 0: none
}

func (w *watch) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	_, reference, isManifest := strings.Cut(r.URL.Path, "/manifests/")
	refused := false
	if r.Method == http.MethodPut && isManifest {
		w.puts = append(w.puts, reference)
		refused = w.refuse > 0 && len(w.puts) >= w.refuse
	} else {
		w.reads++
	}
	w.mu.Unlock()
	if refused {
		rw.WriteHeader(http.StatusForbidden)
		return
	}
	w.Handler.ServeHTTP(rw, r)
}

func (w *watch) reset(refuse int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.puts, w.reads, w.refuse = nil, 0, refuse
}

func newLab(t *testing.T, handler http.Handler) *lab {
	t.Helper()
	l := &lab{t: t, watch: &watch{Handler: handler}, store: filepath.Join(t.TempDir(), "manifests")}
	l.host = registrytest.Serve(t, l.watch)
	l.moved = images.Moved{Copied: []digest.Digest{}, Referrers: []transfer.Referrer{}}
	return l
}

func (l *lab) name() string { return l.host + "/team/app" }

func (l *lab) client() *registry.Client {
	l.t.Helper()
	client, err := registry.New(registry.Options{ManifestFile: l.store, Credentials: func(string) (string, string, error) { return "", "", nil }})
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

func (l *lab) repository() *registry.Repository {
	l.t.Helper()
	r, err := l.client().Repository(l.name())
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *lab) blob(mediaType string, data []byte) ocispec.Descriptor {
	l.blobs = append(l.blobs, stagetest.Blob{MediaType: mediaType, Data: data})
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func (l *lab) manifest(m ocispec.Manifest) ocispec.Descriptor {
	l.t.Helper()
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
	m.Config = l.blob(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	data, err := engine.MarshalJSON(m)
	if err != nil {
		l.t.Fatal(err)
	}
	desc := l.blob(m.MediaType, data)
	desc.ArtifactType = m.ArtifactType
	return desc
}

// mirrored puts a manifest into the destination as mirror does, without a tag.
func (l *lab) mirrored(text string, subject *ocispec.Descriptor) ocispec.Descriptor {
	l.t.Helper()
	r := l.repository()
	data := []byte("{}")
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: digest.FromBytes(data), Size: 2}
	if _, err := r.PushBlob(l.t.Context(), config, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("{}")), nil }); err != nil {
		l.t.Fatal(err)
	}
	data, err := engine.MarshalJSON(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example",
		Config: config, Layers: []ocispec.Descriptor{}, Subject: subject, Annotations: map[string]string{"text": text},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}
	registered, err := r.PushSubject(l.t.Context(), desc, data)
	if err != nil {
		l.t.Fatal(err)
	}
	if subject != nil && !registered {
		l.moved.Referrers = append(l.moved.Referrers, transfer.Referrer{Subject: subject.Digest, Manifest: desc})
	}
	l.moved.Copied = append(l.moved.Copied, desc.Digest)
	slices.Sort(l.moved.Copied)
	return desc
}

// image is an image that was mirrored, with a signature by tag and an SBOM by reference.
func (l *lab) image(name string) ocispec.Descriptor {
	l.t.Helper()
	desc := l.mirrored(name, nil)
	sig, sbom := l.mirrored("signature of "+name, nil), l.mirrored("SBOM of "+name, &desc)
	l.images = append(l.images, images.Image{
		Source: name, Name: "docker.io/library/" + name, Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size,
		Related: []images.Related{
			{Kind: images.Signature, Via: images.Tag, Tag: registry.FallbackTag(desc.Digest) + ".sig", Digest: sig.Digest, MediaType: sig.MediaType, Size: sig.Size, To: desc.Digest},
			{Kind: images.SBOM, Via: images.Referrer, Digest: sbom.Digest, MediaType: sbom.MediaType, Size: sbom.Size, To: desc.Digest},
			{Kind: images.Attestation, Via: images.Inline, Digest: digest.FromString("inline"), To: desc.Digest},
		},
	})
	return desc
}

// build makes an artifact of the images.
func (l *lab) build(text string) {
	l.t.Helper()
	layer := l.blob(ocispec.MediaTypeImageLayerGzip, []byte("layer "+text))
	l.content = l.manifest(ocispec.Manifest{Layers: []ocispec.Descriptor{layer, layer}})
	l.statements = l.manifest(ocispec.Manifest{
		Layers: []ocispec.Descriptor{l.blob(artifact.MediaTypeStatement, []byte("statement "+text))}, Subject: &l.content,
	})
	var err error
	if l.root, err = artifact.Root(l.name(), l.content, l.statements, l.images, nil); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) kase(check bool, tags ...string) stagetest.Case {
	l.t.Helper()
	stage, err := push.New(push.Config{Repository: l.name(), Check: check}, l.client())
	if err != nil {
		l.t.Fatal(err)
	}
	inputs := map[string]stagetest.Blob{"root": {MediaType: l.root.Desc.MediaType, Data: l.root.Data}}
	for name, v := range map[string]struct {
		mediaType string
		v         any
	}{
		"tags":   {artifact.MediaTypeTags, tags},
		"images": {images.MediaTypeList, images.List{Images: l.images}},
		"moved":  {images.MediaTypeMoved, l.moved},
	} {
		if inputs[name], err = stagetest.JSON(v.mediaType, v.v); err != nil {
			l.t.Fatal(err)
		}
	}
	return stagetest.Case{Stage: stage, Inputs: inputs, Also: l.blobs}
}

func (l *lab) push(check bool, tags ...string) push.Pushed {
	l.t.Helper()
	result, err := l.kase(check, tags...).Run(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	var pushed push.Pushed
	if err := result.Outputs["pushed"].Decode(&pushed); err != nil {
		l.t.Fatal(err)
	}
	return pushed
}

// leads fails unless a tag points to a digest.
func (l *lab) leads(tag string, want digest.Digest) {
	l.t.Helper()
	desc, err := l.repository().Resolve(l.t.Context(), tag)
	if err != nil || desc.Digest != want {
		l.t.Errorf("%s leads to %s, %v, want %s", tag, desc.Digest, err, want)
	}
}

func (l *lab) complete(tags ...string) {
	l.t.Helper()
	for _, tag := range tags {
		l.leads(tag, l.root.Desc.Digest)
		l.leads("manifests."+tag, l.content.Digest)
	}
	for _, image := range l.images {
		l.leads(artifact.TagIn(l.name(), image), image.Digest)
		l.leads(image.Related[0].Tag, image.Related[0].Digest)
		l.listed(image.Digest, image.Related[1].Digest)
	}
	l.listed(l.content.Digest, l.statements.Digest)
}

func (l *lab) listed(subject, want digest.Digest) {
	l.t.Helper()
	list, err := l.repository().Referrers(l.t.Context(), subject)
	if err != nil || !slices.ContainsFunc(list, func(d ocispec.Descriptor) bool { return d.Digest == want }) {
		l.t.Errorf("referrers of %s: %v, %v", subject, list, err)
	}
}

func TestPush(t *testing.T) {
	for kind, destination := range destinations {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t, destination())
			for i := range 3 {
				l.image(fmt.Sprintf("app%d:1.0", i))
			}
			l.build("1")
			l.watch.reset(0)
			pushed := l.push(false, "v1.2.3", "latest")
			puts := slices.Clone(l.watch.puts)
			l.complete("v1.2.3", "latest")

			want := push.Pushed{
				Repository: l.name(), Tags: []string{"v1.2.3", "latest"},
				Root:      l.name() + ":v1.2.3@" + l.root.Desc.Digest.String(),
				Content:   l.name() + ":manifests.v1.2.3@" + l.content.Digest.String(),
				Images:    []push.PushedImage{},
				MovedTags: []transfer.MovedTag{},
			}
			for _, image := range l.images {
				want.Images = append(want.Images, push.PushedImage{
					Source: image.Source, Digest: image.Digest, Ref: fmt.Sprintf("%s:%s.%s@%s", l.name(), strings.Replace(image.Source, ":", ".", 1), image.Digest.Encoded()[:8], image.Digest),
				})
			}
			if diff := cmp.Diff(want, pushed); diff != "" {
				t.Errorf("pushed (-want +got):\n%s", diff)
			}

			// First everything by digest, then manifests with a subject, then tags, the first one
			// last.
			rank := func(reference string) int {
				switch {
				case reference == l.content.Digest.String(), reference == l.statements.Digest.String():
					return 0
				case reference == l.root.Desc.Digest.String():
					return 1
				case strings.HasPrefix(reference, "sha256-") && !strings.HasSuffix(reference, ".sig"):
					return 2
				case strings.HasPrefix(reference, "app"), strings.HasPrefix(reference, "sha256-"):
					return 3
				case strings.HasPrefix(reference, "manifests."):
					return 4
				case reference == "latest":
					return 5
				case reference == "v1.2.3":
					return 6
				}
				return -1
			}
			if !slices.IsSortedFunc(puts, func(a, b string) int { return rank(a) - rank(b) }) || rank(puts[0]) != 0 {
				t.Errorf("written in the order %q", puts)
			}
			// Content, statements, root; four subjects; three images and three signatures; two tags twice.
			if len(puts) != 3+4+6+4 {
				t.Errorf("%d manifests written: %q", len(puts), puts)
			}

			// Again: only each tag is asked for.
			l.watch.reset(0)
			if diff := cmp.Diff(want, l.push(false, "v1.2.3", "latest")); diff != "" {
				t.Errorf("pushed again (-want +got):\n%s", diff)
			}
			if len(l.watch.puts) != 0 || l.watch.reads != 4 {
				t.Errorf("wrote %q, and %d other requests", l.watch.puts, l.watch.reads)
			}
		})
	}
}

// Wherever a push is interrupted, no tag points to incomplete content, the root's tags come
// last, and another push completes it.
func TestCutOff(t *testing.T) {
	for kind, destination := range destinations {
		t.Run(kind, func(t *testing.T) {
			whole := newLab(t, destination())
			whole.image("app:1.0")
			whole.build("1")
			whole.watch.reset(0)
			whole.push(false, "v1", "v2")
			writes := len(whole.watch.puts)
			for refuse := 1; refuse <= writes; refuse++ {
				l := newLab(t, destination())
				l.image("app:1.0")
				l.build("1")
				l.watch.reset(refuse)
				_, err := l.kase(false, "v1", "v2").Run(t.Context())
				if !errdefs.IsPermissionDenied(err) {
					t.Fatalf("cut off at %d: %v", refuse, err)
				}
				if _, err := l.repository().Resolve(t.Context(), "v1"); !errdefs.IsNotFound(err) {
					t.Errorf("cut off at %d: v1 is %v", refuse, err)
				}
				if _, err := l.repository().Resolve(t.Context(), "v2"); err == nil {
					l.leads("manifests.v2", l.content.Digest)
					l.leads(artifact.TagIn(l.name(), l.images[0]), l.images[0].Digest)
				}
				// What mirror copied exists when it is asked for the next time.
				l.moved.Copied = []digest.Digest{}
				for i := range l.moved.Referrers {
					l.moved.Referrers[i].Existing = true
				}
				l.watch.reset(0)
				l.push(false, "v1", "v2")
				l.complete("v1", "v2")
			}
		})
	}
}

func TestNewRoot(t *testing.T) {
	l := newLab(t, registrytest.Distribution(""))
	l.image("one:1.0")
	l.build("1")
	l.push(false, "latest")
	// Old images are kept; one is new; the content changed.
	l.moved = images.Moved{Copied: []digest.Digest{}, Referrers: []transfer.Referrer{}}
	l.image("two:1.0")
	l.build("2")
	l.watch.reset(0)
	l.push(false, "latest")
	for _, reference := range l.watch.puts {
		if strings.HasPrefix(reference, "one.") {
			t.Errorf("wrote %s again", reference)
		}
	}
	l.complete("latest")
	// The tag of an image was moved by others, which Check detects.
	elsewhere := l.images[1]
	_, data, err := l.repository().Manifest(t.Context(), elsewhere.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	moved := artifact.TagIn(l.name(), l.images[0])
	desc := ocispec.Descriptor{MediaType: elsewhere.MediaType, Digest: elsewhere.Digest, Size: elsewhere.Size}
	if err := l.repository().PushManifest(t.Context(), desc, data, moved); err != nil {
		t.Fatal(err)
	}
	l.push(false, "latest")
	l.leads(moved, elsewhere.Digest)
	l.moved.Copied = []digest.Digest{}
	l.push(true, "latest")
	l.complete("latest")
}

// A signature exists before any tag, and another one can be added later.
func TestSignatures(t *testing.T) {
	for kind, destination := range destinations {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t, destination())
			l.image("one:1.0")
			l.build("1")
			for _, text := range []string{"first", "second"} {
				signature := l.manifest(ocispec.Manifest{
					ArtifactType: artifact.MediaTypeBundle, Subject: &l.root.Desc, Layers: []ocispec.Descriptor{l.blob(artifact.MediaTypeBundle, []byte(text))},
				})
				kase := l.kase(false, "v1")
				var err error
				if kase.Inputs["signatures"], err = stagetest.JSON(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{signature}}); err != nil {
					t.Fatal(err)
				}
				l.watch.reset(0)
				if _, err := kase.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				l.listed(l.root.Desc.Digest, signature.Digest)
				at := slices.Index(l.watch.puts, signature.Digest.String())
				if tag := slices.Index(l.watch.puts, "v1"); at < 0 || text == "first" && at > tag || text == "second" && tag >= 0 {
					t.Errorf("%s: written in the order %q", text, l.watch.puts)
				}
			}
		})
	}
}

func TestRemembers(t *testing.T) {
	l := newLab(t, registrytest.Distribution(""))
	l.image("one:1.0")
	l.build("1")
	l.push(false, "v1")
	data, err := l.repository().Remembered(t.Context())
	if err != nil || digest.FromBytes(data) != l.root.Desc.Digest {
		t.Errorf("remembered %q, %v", data, err)
	}
}

func TestInputs(t *testing.T) {
	l := newLab(t, registrytest.GGCR())
	l.image("one:1.0")
	l.build("1")
	tests := map[string]struct {
		change func(map[string]stagetest.Blob)
		text   string
	}{
		"no tag": {func(in map[string]stagetest.Blob) {
			in["tags"] = stagetest.Blob{MediaType: artifact.MediaTypeTags, Data: []byte("[]")}
		}, "the artifact has no tag"},
		"not a tag": {func(in map[string]stagetest.Blob) {
			in["tags"] = stagetest.Blob{MediaType: artifact.MediaTypeTags, Data: []byte(`["v1","../x"]`)}
		}, `tag "../x"`},
		"something else": {func(in map[string]stagetest.Blob) { in["moved"] = in["tags"] }, "input is " + artifact.MediaTypeTags},
		"a root of nothing": {func(in map[string]stagetest.Blob) {
			in["root"] = stagetest.Blob{MediaType: ocispec.MediaTypeImageIndex, Data: []byte(`{"schemaVersion":2,"manifests":[]}`)}
		}, "the root has no content or no statements"},
		"no root": {func(in map[string]stagetest.Blob) {
			in["root"] = stagetest.Blob{MediaType: ocispec.MediaTypeImageIndex, Data: []byte(`<`)}
		}, "read root"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			kase := l.kase(false, "v1")
			kase.Inputs = maps.Clone(kase.Inputs)
			test.change(kase.Inputs)
			l.watch.reset(0)
			if _, err := kase.Run(t.Context()); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v", err)
			}
			if l.watch.reads+len(l.watch.puts) != 0 {
				t.Errorf("%d requests", l.watch.reads+len(l.watch.puts))
			}
		})
	}
	t.Run("a layer that is not in the store", func(t *testing.T) {
		kase := l.kase(false, "v1")
		kase.Also = slices.DeleteFunc(slices.Clone(kase.Also), func(b stagetest.Blob) bool { return b.MediaType == ocispec.MediaTypeImageLayerGzip })
		_, err := kase.Run(t.Context())
		if !errors.Is(err, errdefs.ErrNotFound) || !strings.HasPrefix(err.Error(), "push content and statements: ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestContract(t *testing.T) {
	l := newLab(t, registrytest.Distribution(""))
	l.image("one:1.0")
	l.build("1")
	l.push(false, "v1")
	if err := l.kase(false, "v1").Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	kind := push.Kind(nil)
	for with, valid := range map[string]bool{
		`{"repository":"example.com/team/app"}`:              true,
		`{"repository":"example.com/team/app","check":true}`: true,
		`{"repository":"example.com/team/app:1"}`:            false,
		`{"repository":7}`:                                   false,
	} {
		if _, err := kind.New(json.RawMessage(with)); (err == nil) != valid {
			t.Errorf("%s: %v", with, err)
		}
	}
}
