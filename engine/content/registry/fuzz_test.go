// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
)

// Whatever a manifest contains, its children have valid sizes and digests, and none of them is
// both a blob and a manifest by its type.
func FuzzChildren(f *testing.F) {
	const d = `"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
	f.Add(ocispec.MediaTypeImageManifest, `{"config":{`+d+`,"size":0},"layers":[{`+d+`,"size":-1}]}`)
	f.Add(ocispec.MediaTypeImageIndex, `{"manifests":[{"mediaType":"x",`+d+`,"size":0}],"subject":{}}`)
	f.Add("application/x", `{"blobs":[{`+d+`,"size":99999999999999999999}]}`)
	f.Fuzz(func(t *testing.T, mediaType, data string) {
		parts, listed, err := Children(ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(data)}, []byte(data))
		if err != nil {
			return
		}
		if len(parts)+len(listed) > maxChildren {
			t.Errorf("%d children", len(parts)+len(listed))
		}
		for _, part := range parts {
			if err := descriptor.Check(part); err != nil || descriptor.IsManifest(part.MediaType) {
				t.Errorf("part %+v: %v", part, err)
			}
		}
		for _, child := range listed {
			if err := descriptor.Check(child); err != nil {
				t.Errorf("listed %+v: %v", child, err)
			}
		}
	})
}

// A page of referrers, with any type and Link, gives valid entries, and a next page that does
// not use plain text if this one does not.
func FuzzReferrersPage(f *testing.F) {
	f.Add(ocispec.MediaTypeImageIndex, `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}]}`, `</v2/a?n=1>; rel="next"`)
	f.Add("text/html", `<html>`, `<http://other/>; rel=next`)
	f.Add("", `{"manifests":[{}]}`, `<//user:pass@host/>; rel=next`)
	var mediaType, body, link string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{mediaType}
		w.Header()["Link"] = []string{link}
		_, _ = io.WriteString(w, body)
	}))
	f.Cleanup(server.Close)
	f.Fuzz(func(t *testing.T, m, b, l string) {
		mediaType, body, link = m, b, l
		resp, err := server.Client().Get(server.URL + "/v2/a/referrers/x")
		if err != nil {
			t.Skip("a header that cannot be sent")
		}
		defer resp.Body.Close()
		if next, err := nextPage(resp); err == nil && next != nil && (next.Scheme != "https" || next.Host == "" || next.User != nil) {
			t.Errorf("next page %q", next)
		}
		data, err := readDocument(resp, "manifest", MaxManifest)
		if err != nil {
			return
		}
		var index ocispec.Index
		list := referrerList{known: map[digest.Digest]bool{}}
		if descriptor.Unmarshal(data, &index) != nil || list.add(index.Manifests) != nil {
			return
		}
		for _, desc := range list.all {
			if err := descriptor.Check(desc); err != nil {
				t.Errorf("%+v: %v", desc, err)
			}
		}
	})
}

// Whatever the file of kept manifests contains, only bytes with the requested digest are
// returned, and what is written next can be read.
func FuzzKept(f *testing.F) {
	const index = `{"manifests":[]}`
	dgst := digest.FromString(index)
	f.Add([]byte("\nreg/app@" + dgst.String() + " " + ocispec.MediaTypeImageIndex + " eyJtYW5pZmVzdHMiOltdfQ==\n"))
	f.Add([]byte("reg/app:v1 tag c2hhMjU2Og==\nreg/app@" + dgst.String() + " " + ocispec.MediaTypeImageIndex + " eyJ"))
	f.Fuzz(func(t *testing.T, file []byte) {
		name := filepath.Join(t.TempDir(), "manifests")
		if err := os.WriteFile(name, file, 0o600); err != nil {
			t.Fatal(err)
		}
		k := newKept(name)
		if desc, data, ok := k.get("reg/app", dgst); ok && (string(data) != index || desc.Size != int64(len(index))) {
			t.Errorf("kept %+v %q", desc, data)
		}
		k.tag("reg/app", "v1")
		want := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: dgst, Size: int64(len(index))}
		if err := k.put("reg/app", want, []byte(index)); err != nil {
			t.Fatal(err)
		}
		if k.file != nil {
			if err := k.file.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, data, ok := newKept(name).get("reg/app", dgst); !ok || string(data) != index {
			t.Errorf("what was put is not there: %q", data)
		}
	})
}
