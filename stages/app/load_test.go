// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// dockerArchive returns an archive like those of docker save before version 25, with links like
// podman's and GNU tar's, of images with the same layers.
func dockerArchive(t *testing.T, link byte, tags ...string) []byte {
	t.Helper()
	add := func(list []entry, h tar.Header, data []byte) []entry {
		h.Size, h.Mode = int64(len(data)), 0o644
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		return append(list, entry{h, data})
	}
	layer := pack(t, add(nil, tar.Header{Name: "hello"}, []byte("hello")))
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer), digest.FromBytes(layer)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	name := digest.FromBytes(config).Encoded() + ".json"
	list := add(nil, tar.Header{Name: "a/layer.tar"}, layer)
	target := "a/layer.tar"
	if link == tar.TypeSymlink {
		target = "../" + target
	}
	list = add(list, tar.Header{Name: "b/layer.tar", Typeflag: link, Linkname: target}, nil)
	list = add(list, tar.Header{Name: name}, config)
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": tags, "Layers": []string{"a/layer.tar", "b/layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return pack(t, add(list, tar.Header{Name: "manifest.json"}, manifest))
}

// TestLoadDockerArchive loads and copies an image from Docker's own format, in every variant:
// it has the same digest each time, and a note that the digest is not from a registry.
func TestLoadDockerArchive(t *testing.T) {
	env := environmentOf(t, t.TempDir())
	host := registrytest.Serve(t, registrytest.Distribution(""))
	plain := dockerArchive(t, tar.TypeSymlink, "app:dev")
	var zipped, zstandard bytes.Buffer
	z := gzip.NewWriter(&zipped)
	s, err := zstd.NewWriter(&zstandard)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{z, s} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	found := map[digest.Digest]bool{}
	for name, test := range map[string]struct {
		data     []byte
		ref, tag string
	}{
		"symbolic links":  {plain, "", "dev"},
		"hard links":      {dockerArchive(t, tar.TypeLink, "app:dev"), "", "dev"},
		"gzip":            {zipped.Bytes(), "", "dev"},
		"zstd":            {zstandard.Bytes(), "", "dev"},
		"pzstd":           {append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00size"), zstandard.Bytes()...), "", "dev"},
		"gzip, twice":     {append(bytes.Clone(gzipOf(t, plain[:1024])), gzipOf(t, plain[1024:])...), "", "dev"},
		"several tags":    {dockerArchive(t, tar.TypeLink, "app:dev", "app:2"), "", "dev"},
		"one of the tags": {dockerArchive(t, tar.TypeLink, "app:dev", "app:2"), ":2", "2"},
		"no tags":         {dockerArchive(t, tar.TypeLink), "", ""},
	} {
		file := filepath.Join(t.TempDir(), "app.tar")
		if err := os.WriteFile(file, test.data, 0o644); err != nil {
			t.Fatal(err)
		}
		loaded, err := app.Load(t.Context(), app.LoadOptions{Environment: env, File: "archive:" + file + test.ref, Repository: host + "/team/app"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found[loaded.Digest] = true
		want := host + "/team/app"
		if test.tag != "" {
			want += ":" + test.tag
		}
		if loaded.Ref != want+"@"+loaded.Digest.String() || len(loaded.Warnings) != 1 || !strings.Contains(loaded.Warnings[0], "keeps no digests") {
			t.Errorf("%s: %s, want %s; %q", name, loaded.Ref, want, loaded.Warnings)
		}
		copied, err := app.Copy(t.Context(), app.CopyOptions{Environment: env, Pairs: []app.CopyPair{{Source: "archive:" + file + test.ref, Target: host + "/team/copy:x"}}})
		if err != nil || copied[0].Digest != loaded.Digest {
			t.Errorf("%s: copied %v, %v", name, copied, err)
		}
		if _, err := app.Load(t.Context(), app.LoadOptions{Environment: env, File: file}); err == nil || !strings.Contains(err.Error(), "name one") {
			t.Errorf("%s: into no repository: %v", name, err)
		}
		if _, err := app.Load(t.Context(), app.LoadOptions{Environment: env, File: "archive:" + file + ":none", Repository: host + "/team/app"}); err == nil || !strings.Contains(err.Error(), `no image with tag "none"`) {
			t.Errorf("%s: by a tag that it has not: %v", name, err)
		}
	}
	if len(found) != 1 {
		t.Errorf("digests: %v", found)
	}
	for name, test := range map[string]struct{ data, err string }{
		"xz":       {"\xfd7zXZ\x00" + string(plain), "compressed with xz"},
		"bzip2":    {"BZh9" + string(plain), "compressed with bzip2"},
		"no image": {string(pack(t, []entry{{tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg, Size: 2, Mode: 0o644}, []byte("[]")}})), "it has no image: "},
		"cut off":  {string(zipped.Bytes()[:zipped.Len()-9]), "damaged"},
		"more":     {zipped.String() + "more bytes than a header", "damaged"},
	} {
		file := filepath.Join(t.TempDir(), "app.tar")
		if err := os.WriteFile(file, []byte(test.data), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := app.Load(t.Context(), app.LoadOptions{Environment: env, File: file, Repository: host + "/team/app"}); err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func gzipOf(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
