// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/layout"
)

func TestCheckDescriptor(t *testing.T) {
	some, none := digest.FromString("some"), digest.FromString("")
	for name, tt := range map[string]struct {
		desc ocispec.Descriptor
		want string // "" is valid
	}{
		"blob":                {ocispec.Descriptor{Digest: some, Size: 4}, ""},
		"empty":               {ocispec.Descriptor{Digest: none}, ""},
		"empty sha512":        {ocispec.Descriptor{Digest: digest.SHA512.FromString("")}, ""},
		"sha512":              {ocispec.Descriptor{Digest: digest.SHA512.FromString("x"), Size: 1}, ""},
		"large blob":          {ocispec.Descriptor{Digest: some, Size: descriptor.MaxBlob}, ""},
		"large manifest":      {ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: some, Size: descriptor.MaxManifest}, ""},
		"negative":            {ocispec.Descriptor{Digest: some, Size: -1}, "has size -1"},
		"zero":                {ocispec.Descriptor{Digest: some}, "size 0, but the digest is not that of empty content"},
		"empty with a size":   {ocispec.Descriptor{Digest: none, Size: 1}, "size 1, but the digest is that of empty content"},
		"too large":           {ocispec.Descriptor{Digest: some, Size: descriptor.MaxBlob + 1}, "more than the"},
		"too large manifest":  {ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: some, Size: descriptor.MaxManifest + 1}, "more than the"},
		"artifact manifest":   {ocispec.Descriptor{MediaType: "application/vnd.oci.artifact.manifest.v1+json", Digest: some, Size: descriptor.MaxManifest + 1}, "more than the"},
		"no digest":           {ocispec.Descriptor{Size: 1}, `digest ""`},
		"unknown algorithm":   {ocispec.Descriptor{Digest: "md5:d41d8cd98f00b204e9800998ecf8427e", Size: 1}, "unsupported digest algorithm"},
		"another length":      {ocispec.Descriptor{Digest: "sha256:abc", Size: 1}, "invalid checksum digest length"},
		"upper case":          {ocispec.Descriptor{Digest: digest.Digest("sha256:" + strings.ToUpper(some.Encoded())), Size: 1}, "invalid checksum digest format"},
		"a path":              {ocispec.Descriptor{Digest: "sha256:../../../../etc/passwd", Size: 1}, "invalid checksum digest"},
		"megabytes of digest": {ocispec.Descriptor{Digest: digest.Digest(strings.Repeat("a", 1<<20)), Size: 1}, "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			err := descriptor.Check(tt.desc)
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || len(err.Error()) > 400) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Several writers have one layout open at the same time: everything that they add, and
// everything that existed, is kept.
func TestLayoutWritersAtOnce(t *testing.T) {
	const writers = 16
	dir := filepath.Join(t.TempDir(), "layout")
	var all []*layout.Writer
	for range writers {
		w, err := layout.Create(dir)
		check(t, err)
		all = append(all, w)
	}
	var wait sync.WaitGroup
	for i, w := range all {
		wait.Go(func() {
			dgst := digest.FromString(fmt.Sprint(i))
			w.Add(ocispec.Descriptor{
				MediaType: ocispec.MediaTypeImageManifest, Digest: dgst, Size: 1,
				Annotations: map[string]string{ocispec.AnnotationRefName: fmt.Sprint("t", i)},
			})
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	l, err := layout.Open(dir)
	check(t, err)
	if n := len(l.Index().Manifests); n != writers {
		t.Errorf("%d of %d are listed", n, writers)
	}
	files, err := os.ReadDir(dir)
	check(t, err)
	for _, f := range files {
		if name := f.Name(); name != "index.json" && name != "oci-layout" && name != "blobs" {
			t.Errorf("it leaves %s", name)
		}
	}
}

// TestLayoutBegun checks that a layout without an index, as a killed process leaves it, can be
// written.
func TestLayoutBegun(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "oci-layout"), nil, 0o600))
	w, err := layout.Create(dir)
	check(t, err)
	check(t, w.Close())
	data, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	check(t, err)
	var layout ocispec.ImageLayout
	if err := json.Unmarshal(data, &layout); err != nil || layout.Version != "1.0.0" {
		t.Errorf("%s: %v", data, err)
	}
}
