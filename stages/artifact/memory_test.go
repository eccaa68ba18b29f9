// SPDX-License-Identifier: Apache-2.0

package artifact_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/sign"
	"github.com/taped-dev/tape/stages/vcs"
)

// memory is a source of arbitrary content, valid or not.
type memory struct {
	blobs     map[digest.Digest][]byte
	tags      map[string]ocispec.Descriptor
	referrers map[digest.Digest][]ocispec.Descriptor
	broken    error // of Referrers
}

func newMemory() *memory {
	return &memory{map[digest.Digest][]byte{}, map[string]ocispec.Descriptor{}, map[digest.Digest][]ocispec.Descriptor{}, nil}
}

func (m *memory) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	data, ok := m.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, errdefs.ErrNotFound)
	}
	return readerAt{bytes.NewReader(data)}, nil
}

func (m *memory) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := m.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(content.NewReader(ra)), nil
}

type readerAt struct{ *bytes.Reader }

func (readerAt) Close() error { return nil }

func (m *memory) Resolve(_ context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	desc, ok := m.tags[tagOrDigest]
	if !ok {
		return desc, fmt.Errorf("tag %s: %w", tagOrDigest, errdefs.ErrNotFound)
	}
	return desc, nil
}

func (m *memory) Referrers(_ context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	return m.referrers[d], m.broken
}

// put stores bytes, or a value as JSON.
func (m *memory) put(mediaType string, v any) ocispec.Descriptor {
	data, ok := v.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(v); err != nil {
			panic(err)
		}
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	m.blobs[desc.Digest] = data
	return desc
}

func (m *memory) putBlob(b artifact.Blob) ocispec.Descriptor {
	m.put(b.Desc.MediaType, b.Data)
	return b.Desc
}

func packed(data []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(data)
	_ = w.Close()
	return buf.Bytes()
}

// application puts an application of one file and no image under the tag.
func (m *memory) application(t testing.TB) {
	layer, err := artifact.ContentLayer([]files.File{{Name: "a.yaml", Data: []byte("kind: A\n")}})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := artifact.ContentManifest(m.putBlob(layer), nil)
	if err != nil {
		t.Fatal(err)
	}
	attestations, err := artifact.Attestations(m.putBlob(manifest), nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := artifact.Root("example.com/shop", manifest.Desc, m.putBlob(attestations[0]), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.tags[tag] = m.putBlob(root)
}

func TestOpenRefuses(t *testing.T) {
	image := func(configType string, layers ...string) func(m *memory) ocispec.Descriptor {
		return func(m *memory) ocispec.Descriptor {
			manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: m.put(configType, "{}")}
			for _, l := range layers {
				manifest.Layers = append(manifest.Layers, ocispec.Descriptor{MediaType: l})
			}
			return m.put(manifest.MediaType, manifest)
		}
	}
	artifactOf := func(artifactType string) func(m *memory) ocispec.Descriptor {
		return func(m *memory) ocispec.Descriptor {
			return m.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{ArtifactType: artifactType, Config: ocispec.DescriptorEmptyJSON})
		}
	}
	indexOf := func(artifactType string, annotations map[string]string, children ...ocispec.Descriptor) func(m *memory) ocispec.Descriptor {
		return func(m *memory) ocispec.Descriptor {
			return m.put(ocispec.MediaTypeImageIndex, ocispec.Index{ArtifactType: artifactType, Manifests: children, Annotations: annotations})
		}
	}
	child := func(role string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("child"), Size: 5, Annotations: map[string]string{"vnd.tape.role": role}}
	}
	platform := func(os, arch string) ocispec.Descriptor {
		return ocispec.Descriptor{Digest: digest.FromString(arch), Platform: &ocispec.Platform{OS: os, Architecture: arch}}
	}
	one := map[string]string{"vnd.tape.format": "1"}
	for want, make := range map[string]func(m *memory) ocispec.Descriptor{
		"it is not a taped application, but an image for linux/amd64, linux/arm64": indexOf("", nil, platform("linux", "arm64"), platform("linux", "amd64"), platform("unknown", "unknown")),
		"but an image":                                           image(ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip),
		"but a cosign signature":                                 image(ocispec.MediaTypeImageConfig, "application/vnd.dev.cosign.simplesigning.v1+json"),
		"but a Helm chart":                                       image("application/vnd.cncf.helm.config.v1+json"),
		"but a Flux artifact":                                    image("application/vnd.cncf.flux.config.v1+json"),
		"but a Timoni module":                                    image("application/vnd.timoni.config.v1+json"),
		"but an artifact of text/plain":                          image(ocispec.MediaTypeEmptyJSON, "text/plain"),
		"but a manifest without layers":                          image(ocispec.MediaTypeEmptyJSON),
		"but a Sigstore bundle":                                  artifactOf(artifact.MediaTypeBundle),
		"but a Notation signature":                               artifactOf("application/vnd.cncf.notary.signature"),
		"but an artifact of type x/y":                            artifactOf("x/y"),
		`name its root, whose tag has no "manifests." before it`: artifactOf(artifact.ArtifactTypeContent),
		"but an attestation manifest":                            artifactOf(artifact.ArtifactTypeAttestations),
		"but one that was converted":                             artifactOf(artifact.ArtifactTypeApp),
		"the content of one of format v1alpha1":                  artifactOf("application/vnd.docker.tape.content.v1alpha1.tar+gzip"),
		"but a CNAB bundle":                                      indexOf("application/vnd.cnab.manifest.v1", nil),
		"but an index of type a/b":                               indexOf("a/b", nil),
		"but an index of 1 manifest":                             indexOf("", nil, ocispec.Descriptor{Digest: digest.FromString("x")}),
		"schema 1": func(m *memory) ocispec.Descriptor {
			return m.put("application/vnd.docker.distribution.manifest.v1+prettyjws", struct{}{})
		},
		"invalid character": func(m *memory) ocispec.Descriptor { return m.put(ocispec.MediaTypeImageIndex, []byte("<html>")) },
		`format "2", and this tape reads 1: a newer tape is needed`: indexOf(artifact.ArtifactTypeApp, map[string]string{"vnd.tape.format": "2"}, child("content")),
		"it lists 0 contents, not one":                              indexOf(artifact.ArtifactTypeApp, one, child("image"), child("what the future brings")),
		"it lists 2 contents, not one":                              indexOf("", one, child("content"), child("content")),
		"not found":                                                 indexOf("", one, child("content")),
		`lists "sha256:x"`:                                          indexOf("", one, ocispec.Descriptor{Digest: "sha256:x"}),
		"more than the 4194304 allowed": func(m *memory) ocispec.Descriptor {
			return m.put(ocispec.MediaTypeImageIndex, bytes.Repeat([]byte(" "), 5<<20))
		},
		"has 0 layers, not one": func(m *memory) ocispec.Descriptor {
			c := m.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{})
			c.Annotations = map[string]string{"vnd.tape.role": "content"}
			return indexOf("", one, c)(m)
		},
		"content is text/plain, not application/vnd.oci.image.layer.v1.tar+gzip": func(m *memory) ocispec.Descriptor {
			c := m.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Layers: []ocispec.Descriptor{{MediaType: "text/plain"}}})
			c.Annotations = map[string]string{"vnd.tape.role": "content"}
			return indexOf("", one, c)(m)
		},
		"has 12 bytes, not 13": func(m *memory) ocispec.Descriptor {
			d := m.put(ocispec.MediaTypeImageIndex, []byte(`{"one":"two"`))
			d.Size++
			return d
		},
		"came as sha256:": func(m *memory) ocispec.Descriptor {
			d := m.put(ocispec.MediaTypeImageIndex, []byte(`{"one":"two"}`))
			m.blobs[d.Digest] = []byte(`{"one":"tw0"}`)
			return d
		},
	} {
		m := newMemory()
		m.tags[tag] = make(m)
		if _, err := artifact.Open(t.Context(), m, tag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if _, err := artifact.Open(t.Context(), newMemory(), tag); !errdefs.IsNotFound(err) {
		t.Errorf("no such tag: %v", err)
	}
}

// TestFilesRefuses reads malicious layers.
func TestFilesRefuses(t *testing.T) {
	for want, layer := range map[string][]byte{
		"unexpected EOF":         packed([]byte("no tar"))[:20],
		"read tar":               packed([]byte(strings.Repeat("no tar", 200))),
		"EOF":                    {},
		"gzip: invalid header":   []byte("not gzip at all"),
		"not relative and clean": escaping(t),
	} {
		m := newMemory()
		m.application(t)
		a, err := artifact.Open(t.Context(), m, tag)
		if err != nil {
			t.Fatal(err)
		}
		a.Layer = m.put(ocispec.MediaTypeImageLayerGzip, layer)
		if list, err := a.Files(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d files, error %v, want %q", len(list), err, want)
		}
	}

	m := newMemory()
	m.application(t)
	a, err := artifact.Open(t.Context(), m, tag)
	if err != nil {
		t.Fatal(err)
	}
	// 64 KB that unpack to 64 MiB of zeros: an empty tar, and then garbage.
	bomb := bytes.Repeat(packed(make([]byte, 1<<20)), 64)
	a.Layer = m.put(ocispec.MediaTypeImageLayerGzip, bomb)
	if list, err := a.Files(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("zeros: %d files, %v", len(list), err)
	}
}

// Writers and readers of statements have the same limits: on all of their bytes, on their
// objects in memory, and on their number.
func TestStatementBounds(t *testing.T) {
	const limit = 64 << 20
	text := func(bytes int) string { return `"` + strings.Repeat("x", bytes) + `"` }
	objects := func(n int) string { return "[" + strings.Repeat("1,", n-1) + "1]" }
	for name, c := range map[string]struct {
		predicates []string
		want       string // "" is valid
	}{
		"few bytes":       {[]string{text(limit / 2), text(limit/2 - 20_000)}, ""},
		"many bytes":      {[]string{text(limit / 2), text(limit / 2)}, "more than 67108864 bytes"},
		"some objects":    {[]string{objects(1 << 18), objects(1<<18 - 100)}, ""},
		"many objects":    {[]string{objects(1 << 18), objects(1 << 18)}, "more than 524288 objects"},
		"many members":    {[]string{"{" + strings.Repeat(`"a":1,`, 1<<21+1) + `"a":1}`}, "more than 524288 objects"},
		"many statements": {slices.Repeat([]string{"1"}, limit/4096), "more than 67108864 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.application(t)
			a, err := artifact.Open(t.Context(), m, tag)
			if err != nil {
				t.Fatal(err)
			}
			check := func(who string, err error) {
				t.Helper()
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want %q", who, err, c.want)
				}
			}
			var list []artifact.Statement
			manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
			for _, predicate := range c.predicates {
				s := artifact.Statement{Type: artifact.StatementType, Predicate: json.RawMessage(predicate)}
				blob, err := s.Blob()
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, s)
				manifest.Layers = append(manifest.Layers, m.putBlob(blob))
			}
			_, err = artifact.Attestations(a.Content, list)
			check("written", err)
			for i := range a.Index.Manifests {
				if child := &a.Index.Manifests[i]; child.Annotations[artifact.AnnotationRole] == artifact.RoleAttestations {
					desc := m.put(ocispec.MediaTypeImageManifest, manifest)
					child.Digest, child.Size = desc.Digest, desc.Size
				}
			}
			got, err := a.Statements(t.Context())
			check("read", err)
			if err == nil && len(got) != len(list) {
				t.Errorf("%d statements", len(got))
			}
		})
	}
}

// escaping returns a layer with a file outside the folder that it is unpacked to.
func escaping(t *testing.T) []byte {
	t.Helper()
	var tar bytes.Buffer
	if err := files.Write(&tar, []files.File{{Name: "xx/a", Data: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	data := bytes.ReplaceAll(tar.Bytes(), []byte("xx/a"), []byte("../a"))
	// The header's checksum: four changed bytes changed their sum.
	for _, block := range []int{0, 512} {
		header := data[block : block+512]
		copy(header[148:156], "        ")
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
	return packed(data)
}

func TestSignatures(t *testing.T) {
	ctx := t.Context()
	m := newMemory()
	m.application(t)
	a, err := artifact.Open(ctx, m, tag)
	if err != nil {
		t.Fatal(err)
	}
	private, _, err := sign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TAPE_TEST_KEY", string(private))
	signer, err := sign.LoadSigner(ctx, "env://TAPE_TEST_KEY", nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []artifact.Signature
	for _, subject := range []ocispec.Descriptor{a.Root, a.Content} {
		bundle, err := sign.Bundle(ctx, signer, subject.Digest)
		if err != nil {
			t.Fatal(err)
		}
		claim, err := sign.Read(bundle)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := sign.Manifest(bundle, subject)
		if err != nil {
			t.Fatal(err)
		}
		m.put(artifact.MediaTypeBundle, bundle)
		desc := m.putBlob(manifest)
		desc.ArtifactType = "" // some registries do not report it
		other := m.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{ArtifactType: artifact.ArtifactTypeAttestations})
		m.referrers[subject.Digest] = []ocispec.Descriptor{other, desc}
		want = append(want, artifact.Signature{Digest: desc.Digest, Subject: subject.Digest, ViewSigner: artifact.ViewSigner{KeyHint: claim.KeyHint}, PredicateType: artifact.PredicateSignature})
	}
	v, err := a.View(ctx, "", tag, true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, v.Signatures); diff != "" {
		t.Error(diff)
	}
}

func TestViewOfOriginal(t *testing.T) {
	m := newMemory()
	m.tags["config.x"] = original(m)
	a, err := artifact.Open(t.Context(), m, "config.x")
	if err != nil {
		t.Fatal(err)
	}
	if a.Format != artifact.FormatOriginal {
		t.Errorf("format %q", a.Format)
	}
	list, err := a.Files(t.Context())
	if diff := cmp.Diff([]files.File{{Name: "deployment.yaml", Data: []byte("kind: Deployment\n")}}, list); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	v, err := a.View(t.Context(), "ttl.sh/tape/podinfo", "config.x", true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(artifact.ViewSource{Path: "kustomize", URI: "https://github.com/stefanprodan/podinfo", Commit: "4892983fd12e3ffffcd5a189b1549f2ef26b81c2", Modified: vcs.No}, v.Source); diff != "" {
		t.Error(diff)
	}
	want := []artifact.ViewImage{{
		Name: "ghcr.io/stefanprodan/podinfo:6.4.1", Digest: podinfoDigest, Ref: "ttl.sh/tape/podinfo:app.9876@" + podinfoDigest,
		Platforms: []artifact.ViewPlatform{}, Related: []images.Related{},
	}}
	if diff := cmp.Diff(want, v.Images); diff != "" {
		t.Error(diff)
	}
	if len(v.Statements) != 4 || v.Root.Ref != "ttl.sh/tape/podinfo:config.x@"+a.Root.Digest.String() {
		t.Errorf("%d statements, root %s", len(v.Statements), v.Root.Ref)
	}
}

const podinfoDigest = "sha256:92d43edf253c30782a1a9ceb970a718e6cb0454cff32a473e4f8a62dac355559"

// original writes the format of the original tape.
func original(m *memory) ocispec.Descriptor {
	const contentType, attestType = "application/vnd.docker.tape.content.v1alpha1.tar+gzip", "application/vnd.docker.tape.attest.v1alpha1.jsonl+gzip"
	var tar bytes.Buffer
	_ = files.Write(&tar, []files.File{{Name: "deployment.yaml", Data: []byte("kind: Deployment\n")}})
	statement := func(predicateType, predicate string) string {
		return `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"` + predicateType + `","subject":[{"name":"kustomize/deployment.yaml","digest":{"sha256":"bb42"}}],"predicate":` + predicate + "}\n"
	}
	lines := statement("docker.com/tape/ManifestDir/v0.2", `{"containedInDirectory":{"path":"kustomize","vcsEntries":{"providers":["git"],"entryGroups":[[
			{"unmodified":true,"path":"kustomize","uri":"https://github.com/stefanprodan/podinfo","isDir":true,"git":{"reference":{"hash":"4892983fd12e3ffffcd5a189b1549f2ef26b81c2"}}},
			{"unmodified":true,"path":"kustomize/deployment.yaml","uri":"https://github.com/stefanprodan/podinfo"}]]}}}`) +
		statement("docker.com/tape/OriginalImageRef/v0.1", `{"foundImageReference":{"reference":"ghcr.io/stefanprodan/podinfo:6.4.1","line":26,"column":16}}`) +
		statement("docker.com/tape/ResolvedImageRef/v0.1", `{"resolvedImageReference":{"reference":"ghcr.io/stefanprodan/podinfo:6.4.1@`+podinfoDigest+`","line":26,"column":16,"alias":"podinfo"}}`) +
		statement("docker.com/tape/ReplacedImageRef/v0.1", `{"replacedImageReference":{"reference":"ttl.sh/tape/podinfo:app.9876@`+podinfoDigest+`","line":26,"column":16}}`)
	part := func(mediaType string, data []byte) ocispec.Descriptor {
		desc := m.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			MediaType: ocispec.MediaTypeImageManifest,
			Config:    m.put(mediaType, "{}"),
			Layers:    []ocispec.Descriptor{m.put(mediaType, packed(data))},
		})
		desc.ArtifactType, desc.Platform = mediaType, &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		return desc
	}
	return m.put(ocispec.MediaTypeImageIndex, ocispec.Index{
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{part(contentType, tar.Bytes()), part(attestType, []byte(lines))},
	})
}

// TestViewIncomplete checks that missing or unreadable parts are reported.
func TestViewIncomplete(t *testing.T) {
	m := newMemory()
	m.application(t)
	m.broken = fmt.Errorf("the registry is on fire")
	var index ocispec.Index
	if err := json.Unmarshal(m.blobs[m.tags[tag].Digest], &index); err != nil {
		t.Fatal(err)
	}
	index.Manifests = append(index.Manifests, ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: podinfoDigest, Size: 7,
		Annotations: map[string]string{"vnd.tape.role": "image", "vnd.tape.image.source": "docker.io/a/b:1,docker.io/a/c:1", "vnd.tape.image.tag": "b.1.92d43edf,c.1.92d43edf"},
	})
	m.tags[tag] = m.put(ocispec.MediaTypeImageIndex, index)
	a, err := artifact.Open(t.Context(), m, tag)
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.View(t.Context(), "example.com/shop", "", true)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"image docker.io/a/b:1: " + podinfoDigest + " is not there", "signatures: unknown: the registry is on fire"}
	if diff := cmp.Diff(want, v.Warnings); diff != "" {
		t.Error(diff)
	}
	if image := v.Images[0]; image.Ref != "example.com/shop:b.1.92d43edf@"+podinfoDigest || !slices.Equal(image.Names, []string{"docker.io/a/b:1", "docker.io/a/c:1"}) {
		t.Errorf("image %+v", image)
	}
	if v.Root.Ref != "example.com/shop@"+m.tags[tag].Digest.String() || len(v.Tags) != 0 {
		t.Errorf("root %s, tags %v", v.Root.Ref, v.Tags)
	}
}

// FuzzOpen opens garbage in place of each part of an application in turn.
func FuzzOpen(f *testing.F) {
	m := newMemory()
	m.application(f)
	for _, data := range m.blobs {
		for part := range 4 {
			f.Add(part, data)
		}
	}
	m = newMemory()
	original(m)
	for _, data := range m.blobs {
		f.Add(0, data)
		f.Add(3, data)
	}
	f.Fuzz(func(t *testing.T, part int, data []byte) {
		m := newMemory()
		m.application(t)
		child := m.put(ocispec.MediaTypeImageManifest, data)
		index := ocispec.Index{Annotations: map[string]string{"vnd.tape.format": "1"}}
		add := func(role string, desc ocispec.Descriptor) {
			desc.Annotations = map[string]string{"vnd.tape.role": role}
			index.Manifests = append(index.Manifests, desc)
		}
		switch part {
		case 0: // the root
			m.tags[tag] = child
		case 1: // the content, and an image
			add("content", child)
			add("image", child)
		case 2: // the layer
			add("content", m.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: child.Digest, Size: child.Size}}}))
		default: // statements
			layer := ocispec.Descriptor{MediaType: artifact.MediaTypeStatement, Digest: child.Digest, Size: child.Size}
			add("content", m.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip}}}))
			add("attestations", m.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Layers: []ocispec.Descriptor{layer}}))
			add("attestations", child)
		}
		if part != 0 {
			m.tags[tag] = m.put(ocispec.MediaTypeImageIndex, index)
		}
		a, err := artifact.Open(t.Context(), m, tag)
		if err != nil {
			return
		}
		statements, err := a.Statements(t.Context())
		if err == nil {
			_ = artifact.WriteStatements(io.Discard, statements)
		}
		list, err := a.Files(t.Context())
		if err == nil {
			if t, ok := artifact.ImageRefs(statements); ok {
				_, _, _ = artifact.Rewrite(list, t, "example.com/elsewhere")
			}
		}
		_, _ = a.View(t.Context(), "example.com/shop", tag, true)
	})
}
