// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ggcr "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/layout"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// app is a small application as blobs: a root index of a content manifest, an
// attestation manifest about it, and an image; a signature of the root; a
// leftover.
type app struct {
	blobs                               map[digest.Digest][]byte
	layer, content, attestations, image ocispec.Descriptor
	root, signature                     ocispec.Descriptor
	index                               ocispec.Index
}

func (a *app) put(mediaType string, data []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	a.blobs[desc.Digest] = data
	return desc
}

func (a *app) json(t testing.TB, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	check(t, err)
	return a.put(mediaType, data)
}

func newApp(t testing.TB) *app {
	t.Helper()
	a := &app{blobs: map[digest.Digest][]byte{}}
	v2 := ocispecs.Versioned{SchemaVersion: 2}
	manifest := func(artifactType string, subject *ocispec.Descriptor, layer string) (ocispec.Descriptor, ocispec.Descriptor) {
		config := a.put(ocispec.MediaTypeEmptyJSON, []byte("{}"))
		desc := a.put("text/plain", []byte(layer))
		return a.json(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: v2, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
			Config: config, Layers: []ocispec.Descriptor{desc}, Subject: subject,
			Annotations: map[string]string{"of": artifactType},
		}), desc
	}
	a.content, a.layer = manifest("content", nil, strings.Repeat("manifests ", 1000))
	a.attestations, _ = manifest("attestations", &a.content, "statements")
	// Docker's own manifests need no artifactType, and have no mediaType here.
	a.image = a.json(t, "application/vnd.docker.distribution.manifest.v2+json", map[string]any{
		"schemaVersion": 2, "config": a.put("application/vnd.docker.container.image.v1+json", []byte("{ }")), "layers": []any{},
	})
	a.root = a.json(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: v2, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: "app",
		Manifests: []ocispec.Descriptor{a.content, a.attestations, a.image},
	})
	a.signature, _ = manifest("", &a.root, "bundle")
	a.put("text/plain", []byte("leftover"))
	named := func(desc ocispec.Descriptor, annotations ...string) ocispec.Descriptor {
		desc.Annotations = map[string]string{}
		for i := 0; i < len(annotations); i += 2 {
			desc.Annotations[annotations[i]] = annotations[i+1]
		}
		return desc
	}
	const imageName = "io.containerd.image.name"
	a.index = ocispec.Index{Versioned: v2, Manifests: []ocispec.Descriptor{
		named(a.image, imageName, "example.com:5000/shop@"+a.image.Digest.String()),
		named(a.image, imageName, "example.com:5000/shop:nginx.1.27.abcdef01"),
		named(a.root, ocispec.AnnotationRefName, "v1.2.3"),
		a.signature,
	}}
	return a
}

// folder writes the app as a folder.
func (a *app) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range a.files(t) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		check(t, os.MkdirAll(filepath.Dir(file), 0o700))
		check(t, os.WriteFile(file, data, 0o600))
	}
	return dir
}

func (a *app) files(t testing.TB) map[string][]byte {
	t.Helper()
	index, err := json.Marshal(a.index)
	check(t, err)
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index}
	for dgst, data := range a.blobs {
		files["blobs/sha256/"+dgst.Encoded()] = data
	}
	return files
}

// tar writes the app as an archive, sorted, like other tools: with "./", folders, and a file
// that is not part of a layout.
func (a *app) tar(t testing.TB) []byte {
	t.Helper()
	files := a.files(t)
	files["manifest.json"] = []byte("[]")
	entries := []tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "./blobs/", Typeflag: tar.TypeDir, Mode: 0o755}}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	data := map[string][]byte{}
	for _, name := range names {
		entries = append(entries, tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))})
		data["./"+name] = files[name]
	}
	return writeTar(t, entries, data)
}

func writeTar(t testing.TB, entries []tar.Header, data map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		check(t, w.WriteHeader(&h))
		_, err := w.Write(data[h.Name])
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

func (a *app) archive(t *testing.T) string {
	t.Helper()
	return writeFile(t, a.tar(t))
}

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.tar")
	check(t, os.WriteFile(file, data, 0o600))
	return file
}

// layouts opens the app in both forms.
func (a *app) layouts(t *testing.T) map[string]*layout.Layout {
	t.Helper()
	folder, err := layout.Open(a.folder(t))
	check(t, err)
	archive, err := layout.OpenArchive(t.Context(), a.archive(t))
	check(t, err)
	t.Cleanup(func() {
		if err := errors.Join(folder.Close(), archive.Close()); err != nil {
			t.Error(err)
		}
	})
	return map[string]*layout.Layout{"folder": folder, "archive": archive}
}

func TestLayoutReads(t *testing.T) {
	a := newApp(t)
	for name, l := range a.layouts(t) {
		t.Run(name, func(t *testing.T) {
			var want []digest.Digest
			for dgst, data := range a.blobs {
				want = append(want, dgst)
				desc := ocispec.Descriptor{Digest: dgst, Size: int64(len(data))}
				if got := get(t, l, desc); got != string(data) {
					t.Errorf("%s: read %q", dgst, got)
				}
				r, err := l.Blob(t.Context(), desc)
				check(t, err)
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: streamed %q, %v", dgst, got, err)
				}
				check(t, r.Close())
			}
			slices.Sort(want)
			got, err := l.Blobs()
			check(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("blobs differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(a.index, l.Index()); diff != "" {
				t.Errorf("index differs (-want +got):\n%s", diff)
			}
			if _, err := l.ReaderAt(t.Context(), blob("nowhere")); !errdefs.IsNotFound(err) {
				t.Errorf("read of nothing: %v", err)
			}
			if _, err := l.ReaderAt(t.Context(), ocispec.Descriptor{Digest: "sha256:../../index.json"}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("read of no digest: %v", err)
			}
			wrong := a.layer
			wrong.Size++
			if _, err := l.ReaderAt(t.Context(), wrong); !errdefs.IsDataLoss(err) {
				t.Errorf("read of a wrong size: %v", err)
			}
		})
	}
}

func TestLayoutResolve(t *testing.T) {
	a := newApp(t)
	plain := func(d ocispec.Descriptor, artifactType string) ocispec.Descriptor {
		d.ArtifactType = artifactType
		return d
	}
	// Neither states its type; both look like it.
	silentIndex := a.json(t, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{a.image}})
	silentManifest := a.json(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: a.layer})
	bare := a.image
	bare.Annotations = a.index.Manifests[1].Annotations
	tests := []struct {
		ref  string
		want ocispec.Descriptor
	}{
		{"v1.2.3", a.index.Manifests[2]},
		{"", a.index.Manifests[2]},
		{"nginx.1.27.abcdef01", bare},
		{a.root.Digest.String(), a.index.Manifests[2]},
		{a.signature.Digest.String(), a.signature},
		{a.content.Digest.String(), plain(a.content, "content")},
		{silentIndex.Digest.String(), silentIndex},
		{silentManifest.Digest.String(), silentManifest},
	}
	refused := []struct {
		ref, want string
		class     func(error) bool
	}{
		{"v2", ` has no tag "v2"; it has v1.2.3`, errdefs.IsNotFound},
		{blob("?").Digest.String(), "blob " + blob("?").Digest.String() + " is not in ", errdefs.IsNotFound},
		{a.layer.Digest.String(), "read manifest " + a.layer.Digest.String(), func(error) bool { return true }},
		{digest.FromString("{}").String(), " is not a manifest", errdefs.IsInvalidArgument},
		{"sha256:123", "invalid checksum digest length", errdefs.IsInvalidArgument},
	}
	for name, l := range a.layouts(t) {
		for _, tt := range tests {
			got, err := l.Resolve(t.Context(), tt.ref)
			if err != nil {
				t.Errorf("%s: resolve %q: %v", name, tt.ref, err)
			} else if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s: resolve %q (-want +got):\n%s", name, tt.ref, diff)
			}
		}
		for _, tt := range refused {
			if _, err := l.Resolve(t.Context(), tt.ref); err == nil || !strings.Contains(err.Error(), tt.want) || !tt.class(err) {
				t.Errorf("%s: resolve %q: %v", name, tt.ref, err)
			}
		}
	}
}

func TestLayoutResolveWithoutTag(t *testing.T) {
	a := newApp(t)
	entry := func(desc ocispec.Descriptor, name string) ocispec.Descriptor {
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
		return desc
	}
	tests := map[string]struct {
		index     []ocispec.Descriptor
		ref, want string
		err       string
	}{
		"only one":        {index: []ocispec.Descriptor{a.root}, want: "root"},
		"two tags of one": {index: []ocispec.Descriptor{entry(a.root, "a"), entry(a.root, "b")}, want: "root"},
		"whole name":      {index: []ocispec.Descriptor{entry(a.root, "example.com/shop:v1"), a.image}, ref: "v1", want: "root"},
		"none":            {err: "has no manifest"},
		"two":             {index: []ocispec.Descriptor{entry(a.root, "b"), entry(a.image, "a")}, err: "has 2 manifests, name a tag or digest; it has a, b"},
		"two without":     {index: []ocispec.Descriptor{a.root, a.image}, err: "has 2 manifests, name a tag or digest; it has no tags"},
		"ambiguous":       {index: []ocispec.Descriptor{entry(a.root, "a"), entry(a.image, "a")}, ref: "a", err: `has 2 manifests with tag "a", name a digest`},
		"port, no tag":    {index: []ocispec.Descriptor{entry(a.root, "example.com:5000/shop")}, ref: "5000/shop", err: `has no tag "5000/shop"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a.index.Manifests = tt.index
			l, err := layout.Open(a.folder(t))
			check(t, err)
			got, err := l.Resolve(t.Context(), tt.ref)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got  %v\nwant %s", err, tt.err)
				}
				return
			}
			if err != nil || got.Digest != a.root.Digest {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestLayoutReferrers(t *testing.T) {
	a := newApp(t)
	// Two signatures of the root, one of them in the index of the fallback tag (of a registry
	// without the referrers API).
	second := a.json(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "second", Subject: &a.root})
	fallback := a.json(t, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{second, blob("left out")}})
	left := blob("left out, too")
	left.MediaType = ocispec.MediaTypeImageManifest
	a.index.Manifests = append(a.index.Manifests, fallback, fallback, left)
	referrer := func(desc ocispec.Descriptor, artifactType string, annotations map[string]string) ocispec.Descriptor {
		desc.ArtifactType, desc.Annotations = artifactType, annotations
		return desc
	}
	ofRoot := []ocispec.Descriptor{
		referrer(a.signature, ocispec.MediaTypeEmptyJSON, map[string]string{"of": ""}),
		referrer(second, "second", nil),
	}
	slices.SortFunc(ofRoot, func(x, y ocispec.Descriptor) int { return strings.Compare(string(x.Digest), string(y.Digest)) })
	for name, l := range a.layouts(t) {
		for subject, want := range map[digest.Digest][]ocispec.Descriptor{
			a.root.Digest:    ofRoot,
			a.content.Digest: {referrer(a.attestations, "attestations", map[string]string{"of": "attestations"})},
			a.image.Digest:   nil,
		} {
			got, err := l.Referrers(t.Context(), subject)
			check(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: referrers of %s differ (-want +got):\n%s", name, subject, diff)
			}
		}
	}
}

// Whatever part is damaged, none of its bytes is returned as valid.
func TestDamagedLayout(t *testing.T) {
	a := newApp(t)
	honest := a.layer.Digest
	for name, data := range map[string][]byte{
		"flipped": append([]byte("M"), a.blobs[honest][1:]...),
		"shorter": a.blobs[honest][1:],
		"empty":   {},
	} {
		t.Run(name, func(t *testing.T) {
			a.blobs[honest] = data
			for form, l := range a.layouts(t) {
				desc := ocispec.Descriptor{Digest: honest}
				if _, err := l.ReaderAt(t.Context(), desc); !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), honest.String()) {
					t.Errorf("%s: read: %v", form, err)
				}
				r, err := l.Blob(t.Context(), desc)
				check(t, err)
				if _, err := io.ReadAll(r); !errdefs.IsDataLoss(err) {
					t.Errorf("%s: streamed: %v", form, err)
				}
				check(t, r.Close())
			}
		})
	}
}

// A blob that was not read to its end is not reported as damaged.
func TestLayoutStopsWithItsContext(t *testing.T) {
	a := newApp(t)
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted)
	for form, l := range a.layouts(t) {
		if _, err := l.ReaderAt(ctx, a.layer); !errors.Is(err, interrupted) || errdefs.IsDataLoss(err) {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestOpenLayoutRefuses(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":           {nil, "no file oci-layout"},
		"no index":          {map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}, "read index.json, the layout may be incomplete: "},
		"other file":        {map[string]string{"oci-layout": `<html>`}, "read oci-layout: invalid character '<'"},
		"version":           {map[string]string{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`}, `its version is "2.0.0", not 1.0.0`},
		"index broken":      {map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": "{"}, "read index.json: unexpected end of JSON input"},
		"index odd":         {map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"manifests":[{"digest":"sha256:../x"}]}`}, `read index.json: digest "sha256:../x": invalid checksum digest`},
		"index of nothings": {map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"manifests":[` + strings.Repeat("{},", 300_000) + `{}]}`}, "read index.json: it has 300002 objects, more than the 262144 allowed"},
		"index huge":        {map[string]string{"oci-layout": strings.Repeat(" ", 5<<20)}, "read oci-layout: it has more than 4194304 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var entries []tar.Header
			data := map[string][]byte{}
			for name, text := range tt.files {
				check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
				entries = append(entries, tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(text))})
				data[name] = []byte(text)
			}
			if _, err := layout.Open(dir); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "open OCI layout "+dir) {
				t.Errorf("folder: %v", err)
			}
			file := writeFile(t, writeTar(t, entries, data))
			if _, err := layout.OpenArchive(t.Context(), file); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "open archive "+file) {
				t.Errorf("archive: %v", err)
			}
		})
	}
	dir := newApp(t).folder(t)
	check(t, os.Remove(filepath.Join(dir, "index.json")))
	check(t, os.Mkdir(filepath.Join(dir, "index.json"), 0o700))
	if _, err := layout.Open(dir); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("folder in the place of a file: %v", err)
	}
}

func TestOpenArchiveRefuses(t *testing.T) {
	reg := func(name string) []byte {
		return writeTar(t, []tar.Header{{Name: name, Typeflag: tar.TypeReg, Size: 1}}, map[string][]byte{name: []byte("x")})
	}
	hex := digest.FromString("x").Encoded()
	whole := newApp(t).tar(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(whole)
	check(t, errors.Join(err, z.Close()))
	tests := map[string]struct {
		data []byte
		want string
	}{
		"above":       {reg("../x"), `entry "../x": want a clean relative name`},
		"absolute":    {reg("/x"), `entry "/x": want a clean relative name`},
		"unclean":     {reg("blobs/../x"), `entry "blobs/../x": want a clean relative name`},
		"symlink":     {writeTar(t, []tar.Header{{Name: "index.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}, nil), `entry "index.json" is neither a file nor a folder`},
		"hard link":   {writeTar(t, []tar.Header{{Name: "blobs/sha256/" + hex, Typeflag: tar.TypeLink, Linkname: "x"}}, nil), `is a link: want a file`},
		"device":      {writeTar(t, []tar.Header{{Name: "x", Typeflag: tar.TypeChar}}, nil), `entry "x" is neither a file nor a folder`},
		"no digest":   {reg("blobs/sha256/abc"), `entry "blobs/sha256/abc": want a digest as its name`},
		"no hash":     {reg("blobs/" + hex), `: want a digest as its name`},
		"blob twice":  {writeTar(t, []tar.Header{{Name: "blobs/sha256/" + hex, Typeflag: tar.TypeReg}, {Name: "./blobs/sha256/" + hex, Typeflag: tar.TypeReg}}, nil), ` twice`},
		"index twice": {writeTar(t, []tar.Header{{Name: "index.json", Typeflag: tar.TypeReg}, {Name: "./index.json", Typeflag: tar.TypeReg}}, nil), `it has "index.json" twice`},
		"empty":       {nil, "it is empty"},
		"gzip, cut":   {zipped.Bytes()[:zipped.Len()/2], "it is damaged, copy it again"},
		"gzip, more":  {append(bytes.Clone(zipped.Bytes()), "more"...), "it is damaged, copy it again"},
		"gzip, alone": {[]byte("\x1f\x8b"), "it is damaged, copy it again"},
		"zstd":        {[]byte("\x28\xb5\x2f\xfd...."), "it is damaged, copy it again"},
		"no tar":      {bytes.Repeat([]byte("x"), 2048), "it is not a tar archive as written by tape save"},
		"bad header":  {slices.Concat(reg("x")[:1024], bytes.Repeat([]byte("x"), 2048)), "it is damaged, copy it again"},
	}
	for name, data := range compressed(t, whole) {
		l, err := layout.OpenArchive(t.Context(), writeFile(t, data))
		check(t, err)
		list, err := l.Blobs()
		check(t, err)
		get(t, l, ocispec.Descriptor{Digest: list[0]})
		if len(list) < 3 {
			t.Errorf("%s: %d blobs", name, len(list))
		}
		check(t, l.Close())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := layout.OpenArchive(ctx, writeFile(t, zipped.Bytes())); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, tt.data)
			if _, err := layout.OpenArchive(t.Context(), file); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	if _, err := layout.OpenArchive(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := layout.OpenArchive(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

// compressed returns the data in every supported format.
func compressed(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	var zipped, zstandard bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(data)
	check(t, errors.Join(err, z.Close()))
	s, err := zstd.NewWriter(&zstandard)
	check(t, err)
	_, err = s.Write(data)
	check(t, errors.Join(err, s.Close()))
	return map[string][]byte{"gzip": zipped.Bytes(), "zstd": zstandard.Bytes()}
}

// A truncated archive does not open, or lacks what it refers to: it is never read as another
// one.
func TestArchiveCutOff(t *testing.T) {
	a := newApp(t)
	whole := a.tar(t)
	opened := 0
	for n := 0; n < len(whole)-1024; n += 256 {
		file := writeFile(t, whole[:n])
		l, err := layout.OpenArchive(t.Context(), file)
		if err != nil {
			continue
		}
		opened++
		for dgst, data := range a.blobs {
			got, err := content.ReadBlob(t.Context(), l, ocispec.Descriptor{Digest: dgst})
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("cut at %d: %s: %d bytes, %v", n, dgst, len(got), err)
			}
		}
		check(t, l.Close())
	}
	// In this order index.json and oci-layout come last: only archives that are truncated in the
	// zero blocks at the end open.
	if opened > 6 {
		t.Errorf("%d cut archives opened", opened)
	}
}

func FuzzOpenArchive(f *testing.F) {
	f.Add(newApp(f).tar(f)[:4096])
	f.Add(writeTar(f, []tar.Header{{Name: "oci-layout", Typeflag: tar.TypeReg, Size: 1}}, map[string][]byte{"oci-layout": []byte("{")}))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(dir, "fuzz.tar")
		check(t, os.WriteFile(file, data, 0o600))
		l, err := layout.OpenArchive(t.Context(), file)
		if err != nil {
			return
		}
		defer l.Close()
		list, err := l.Blobs()
		check(t, err)
		for _, dgst := range list {
			got, err := content.ReadBlob(t.Context(), l, ocispec.Descriptor{Digest: dgst})
			if err == nil && digest.FromBytes(got) != dgst && dgst.Algorithm() == digest.SHA256 {
				t.Errorf("%s has other bytes", dgst)
			}
		}
	})
}

func TestLayoutWriter(t *testing.T) {
	ctx := t.Context()
	a := newApp(t)
	dir := filepath.Join(t.TempDir(), "new", "layout")
	for range 2 { // the second copy changes nothing
		w, err := layout.Create(dir)
		check(t, err)
		for dgst, data := range a.blobs {
			desc := ocispec.Descriptor{Digest: dgst, Size: int64(len(data))}
			check(t, content.WriteBlob(ctx, w.Store(), dgst.String(), bytes.NewReader(data), desc))
		}
		for _, desc := range a.index.Manifests {
			w.Add(desc)
			w.Add(desc)
		}
		check(t, w.Close())
	}
	var want []string
	for name := range a.files(t) {
		want = append(want, name)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("in the layout: %v, %v", left, err)
	}
	l, err := layout.Open(dir)
	check(t, err)
	if diff := cmp.Diff(a.index.Manifests, l.Index().Manifests); diff != "" {
		t.Errorf("index differs (-want +got):\n%s", diff)
	}

	// A moved tag replaces its entry.
	w, err := layout.Create(dir)
	check(t, err)
	moved := a.content
	moved.Annotations = map[string]string{ocispec.AnnotationRefName: "v1.2.3"}
	w.Add(moved)
	check(t, w.Close())
	l, err = layout.Open(dir)
	check(t, err)
	if got, err := l.Resolve(ctx, "v1.2.3"); err != nil || got.Digest != a.content.Digest || len(l.Index().Manifests) != len(a.index.Manifests) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestLayoutWriterKeepsItsHandsOff(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o600))
	if _, err := layout.Create(dir); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("folder with other files: %v", err)
	}
	// Interrupted before it was closed, and started again.
	dir = t.TempDir()
	w, err := layout.Create(dir)
	check(t, err)
	put(t, w.Store(), "hello")
	if _, err := layout.Open(dir); err == nil {
		t.Error("a layout that is not closed opened")
	}
	w, err = layout.Create(dir)
	check(t, err)
	if _, err := w.Store().Info(t.Context(), blob("hello").Digest); err != nil {
		t.Errorf("what was written is lost: %v", err)
	}
	check(t, w.Close())
	if _, err := layout.Open(dir); err != nil {
		t.Error(err)
	}
}

// Several writers start in one new folder at the same time, and one continues where another was
// killed.
func TestLayoutWritersBeginAtOnce(t *testing.T) {
	for range 50 {
		dir := filepath.Join(t.TempDir(), "layout")
		var group errgroup.Group
		for range 4 {
			group.Go(func() error {
				w, err := layout.Create(dir)
				if err != nil {
					return err
				}
				w.Add(blob("hello"))
				return w.Close()
			})
		}
		check(t, group.Wait())
	}
	for _, left := range []string{".fsverity-check-1", ".index.json-1", "blobs", "ingest"} {
		dir := t.TempDir()
		check(t, os.Mkdir(filepath.Join(dir, left), 0o700))
		if _, err := layout.Create(dir); err != nil {
			t.Errorf("after a writer that left %s: %v", left, err)
		}
	}
}

// A layout is read by an independent library, and the other way round.
func TestLayoutOfOthers(t *testing.T) {
	index, err := random.Index(100, 2, 2)
	check(t, err)
	theirs := t.TempDir()
	path, err := ggcr.Write(theirs, index)
	check(t, err)
	check(t, path.AppendIndex(index, ggcr.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "latest"})))

	l, err := layout.Open(theirs)
	check(t, err)
	desc, err := l.Resolve(t.Context(), "latest")
	check(t, err)
	list, err := l.Blobs()
	check(t, err)
	ours := t.TempDir()
	w, err := layout.Create(ours)
	check(t, err)
	for _, dgst := range list {
		data := get(t, l, ocispec.Descriptor{Digest: dgst})
		check(t, content.WriteBlob(t.Context(), w.Store(), "x", strings.NewReader(data), ocispec.Descriptor{Digest: dgst, Size: int64(len(data))}))
	}
	w.Add(desc)
	check(t, w.Close())

	again, err := ggcr.ImageIndexFromPath(ours)
	check(t, err)
	manifest, err := again.IndexManifest()
	check(t, err)
	child, err := again.ImageIndex(manifest.Manifests[0].Digest)
	check(t, err)
	check(t, validate.Index(child))
}

func TestOpenReference(t *testing.T) {
	a := newApp(t)
	dir, file := a.folder(t), a.archive(t)
	odd := filepath.Join(t.TempDir(), "app:v1")
	check(t, os.Rename(a.folder(t), odd))
	dgst := a.root.Digest.String()
	tests := []struct{ ref, tag string }{
		{"oci:" + dir, ""},
		{"oci:" + dir + ":v1.2.3", "v1.2.3"},
		{"oci:" + dir + "@" + dgst, dgst},
		{"oci:" + dir + ":v1.2.3@" + dgst, dgst},
		{"oci:" + odd, ""},
		{"oci:" + odd + ":v1.2.3", "v1.2.3"},
		{"archive:" + file, ""},
		{"archive:" + file + ":v1.2.3", "v1.2.3"},
	}
	for _, tt := range tests {
		l, tag, err := layout.OpenReference(t.Context(), tt.ref)
		if err != nil || tag != tt.tag || !layout.IsReference(tt.ref) {
			t.Errorf("%s: tag %q, %v", tt.ref, tag, err)
			continue
		}
		if desc, err := l.Resolve(t.Context(), tag); err != nil || desc.Digest != a.root.Digest {
			t.Errorf("%s: %v, %v", tt.ref, desc, err)
		}
		check(t, l.Close())
	}
	for _, ref := range []string{"", "oci:", "archive:", "example.com/shop:v1", "OCI:" + dir} {
		if _, _, err := layout.OpenReference(t.Context(), ref); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	for _, ref := range []string{"oci:" + dir + "/none:v1", "archive:" + dir} {
		if _, _, err := layout.OpenReference(t.Context(), ref); err == nil {
			t.Errorf("%q opened", ref)
		}
	}
}

func get(t *testing.T, s content.Provider, desc ocispec.Descriptor) string {
	t.Helper()
	data, err := content.ReadBlob(t.Context(), s, desc)
	check(t, err)
	return string(data)
}

func blob(data string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString(data), Size: int64(len(data))}
}

// files returns the paths of all files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	check(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	}))
	return out
}

func put(t *testing.T, s content.Ingester, data string) ocispec.Descriptor {
	t.Helper()
	desc := blob(data)
	check(t, content.WriteBlob(t.Context(), s, "ref", strings.NewReader(data), desc))
	return desc
}
