// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

const dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"

func TestManifestType(t *testing.T) {
	tests := map[string]struct {
		data, answered string
		want           string
		err            error
	}{
		"says so":             {`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}`, "text/plain", ocispec.MediaTypeImageIndex, nil},
		"Docker's":            {`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}`, "", dockerList, nil},
		"registry says so":    {`{"schemaVersion":2,"manifests":[]}`, dockerList + "; charset=utf-8", dockerList, nil},
		"looks like an index": {`{"schemaVersion":2,"manifests":[]}`, "application/json", ocispec.MediaTypeImageIndex, nil},
		"looks like an image": {`{"schemaVersion":2,"config":{},"layers":[]}`, "", ocispec.MediaTypeImageManifest, nil},
		"schema 1":            {`{"schemaVersion":1,"fsLayers":[]}`, "application/vnd.docker.distribution.manifest.v1+prettyjws", "", errdefs.ErrNotImplemented},
		"something else":      {`{"schemaVersion":2,"mediaType":"application/vnd.example+json"}`, "", "application/vnd.example+json", nil},
		"registry alone":      {`{"schemaVersion":2}`, "application/vnd.example+json", "application/vnd.example+json", nil},
		"says nothing":        {`{"schemaVersion":2}`, "application/json", "", errdefs.ErrNotImplemented},
		"not JSON":            {`<html>`, ocispec.MediaTypeImageManifest, "", errdefs.ErrInvalidArgument},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T, n *network) {
			n.add(host, nil).before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.Header().Set("Content-Type", test.answered)
				fmt.Fprint(w, test.data)
				return true
			}
			r := source(t, n.client(registry.Options{}), host+"/app")
			dgst := digest.FromString(test.data)
			desc, data, err := r.Manifest(t.Context(), dgst.String())
			if test.err != nil {
				if !errors.Is(err, test.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || string(data) != test.data || desc.MediaType != test.want || desc.Size != int64(len(data)) || desc.Digest != dgst {
				t.Errorf("Manifest = %+v, %q, %v", desc, data, err)
			}
		})
	}
}

func TestManifest(t *testing.T) {
	bubble(t, "once, however it is asked for", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		dgst := pushed(t, repository(t, n.client(registry.Options{}), host+"/app"), "1")
		s.forget()
		r := source(t, n.client(registry.Options{}), host+"/app")
		for _, reference := range []string{"1", dgst, "1"} {
			if desc, _, err := r.Manifest(t.Context(), reference); err != nil || desc.Digest.String() != dgst {
				t.Fatalf("Manifest = %v, %v", desc, err)
			}
		}
		want := "GET /v2/app/manifests/1 HEAD /v2/app/manifests/1"
		if got := strings.Join(s.requests(), " "); got != want {
			t.Errorf("requests %q, want %q", got, want)
		}
		for _, header := range s.headers {
			for _, mediaType := range []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerList} {
				if !strings.Contains(header.Get("Accept"), mediaType) {
					t.Errorf("accepts %q", header.Get("Accept"))
				}
			}
			if got := header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("accepts the encoding %q", got)
			}
			if header.Get("User-Agent") != "tape" {
				t.Errorf("user agent %q", header.Get("User-Agent"))
			}
		}
	})
	bubble(t, "no HEAD", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		r := repository(t, n.client(registry.Options{}), host+"/app")
		want := pushed(t, r, "1")
		s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return r.Method == http.MethodHead
		}
		if desc, err := r.Resolve(t.Context(), "1"); err != nil || desc.Digest.String() != want {
			t.Errorf("Resolve = %v, %v", desc, err)
		}
	})
	for name, fault := range map[string]registrytest.Fault{"cut": registrytest.Cut(17), "truncated": registrytest.Truncate(17), "corrupt": registrytest.Corrupt(17), "stalls": registrytest.Stall(17)} {
		get := registrytest.Is(registrytest.Manifests, http.MethodGet)
		bubble(t, name+" once", func(t *testing.T, n *network) {
			s := n.add(host, nil)
			dgst := pushed(t, repository(t, n.client(registry.Options{}), host+"/app"), "1")
			s.handler = registrytest.Misbehave(s.handler, registrytest.First(1, get), fault)
			if _, _, err := source(t, n.client(registry.Options{}), host+"/app").Manifest(t.Context(), dgst); err != nil {
				t.Error(err)
			}
		})
		bubble(t, name+" once, by tag", func(t *testing.T, n *network) {
			s := n.add(host, nil)
			dgst := pushed(t, repository(t, n.client(registry.Options{}), host+"/app"), "1")
			s.handler = registrytest.Misbehave(s.handler, registrytest.First(1, get), fault)
			desc, data, err := source(t, n.client(registry.Options{}), host+"/app").Manifest(t.Context(), "1")
			if err != nil || desc.Digest.String() != dgst || digest.FromBytes(data) != desc.Digest || desc.Size != int64(len(data)) {
				t.Errorf("Manifest = %+v, %q, %v", desc, data, err)
			}
		})
		bubble(t, name+" always, by tag", func(t *testing.T, n *network) {
			s := n.add(host, nil)
			pushed(t, repository(t, n.client(registry.Options{}), host+"/app"), "1")
			s.handler = registrytest.Misbehave(s.handler, get, fault)
			_, _, err := source(t, n.client(registry.Options{}), host+"/app").Manifest(t.Context(), "1")
			if !errdefs.IsDataLoss(err) && !errdefs.IsUnavailable(err) || strings.Contains(err.Error(), "https://") {
				t.Errorf("got %v", err)
			}
		})
		bubble(t, name+" always", func(t *testing.T, n *network) {
			s := n.add(host, nil)
			dgst := pushed(t, repository(t, n.client(registry.Options{}), host+"/app"), "1")
			s.handler = registrytest.Misbehave(s.handler, get, fault)
			_, _, err := source(t, n.client(registry.Options{}), host+"/app").Manifest(t.Context(), dgst)
			if !errdefs.IsDataLoss(err) && !errdefs.IsUnavailable(err) || !strings.HasPrefix(err.Error(), "fetch registry.example.com/app@"+dgst+": registry.example.com: ") {
				t.Errorf("got %v", err)
			}
		})
	}
	bubble(t, "too large", func(t *testing.T, n *network) {
		n.add(host, nil).before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Write(make([]byte, registry.MaxManifest+1))
			return true
		}
		_, _, err := source(t, n.client(registry.Options{}), host+"/app").Manifest(t.Context(), digest.FromString("x").String())
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("got %v", err)
		}
	})
	bubble(t, "not a digest", func(t *testing.T, n *network) {
		_, _, err := source(t, n.client(registry.Options{}), host+"/app").Manifest(t.Context(), "sha256:x")
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPushManifest(t *testing.T) {
	for name, handler := range map[string]func() http.Handler{"GGCR": registrytest.GGCR, "distribution": func() http.Handler { return registrytest.Distribution("") }} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			defer n.close()
			s := n.add(host, handler())
			client := n.client(registry.Options{})
			r := repository(t, client, host+"/app")
			empty(t, r)
			child, childData := plain("child")
			index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ocispec.MediaTypeImageIndex, child.MediaType, child.Digest, child.Size)
			root := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(index), Size: int64(len(index))}
			s.forget()
			if err := errors.Join(r.PushManifest(t.Context(), child, childData, ""), r.PushManifest(t.Context(), root, index, "v1")); err != nil {
				t.Fatal(err)
			}
			want := "PUT /v2/app/manifests/" + child.Digest.String() + " PUT /v2/app/manifests/v1"
			if got := strings.Join(s.requests(), " "); got != want {
				t.Errorf("requests %q, want %q", got, want)
			}
			if desc, err := r.Resolve(t.Context(), "v1"); err != nil || desc.Digest != root.Digest || desc.MediaType != root.MediaType || desc.Size != root.Size {
				t.Errorf("Resolve = %+v, %v", desc, err)
			}
			for _, desc := range []ocispec.Descriptor{child, root} {
				if there, err := r.Exists(t.Context(), desc); err != nil || !there {
					t.Errorf("Exists = %t, %v", there, err)
				}
			}
			if there, err := r.Exists(t.Context(), ocispec.Descriptor{MediaType: child.MediaType, Digest: digest.FromString("x")}); err != nil || there {
				t.Errorf("Exists = %t, %v", there, err)
			}
		})
	}
	for name, fault := range map[string]registrytest.Fault{"busy": registrytest.Status(429, "Retry-After", "1"), "broken": registrytest.Status(500), "proxy": registrytest.Status(502), "hangs": registrytest.Hang(), "cuts": readThen(5, cut)} {
		bubble(t, name+" once", func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.handler = registrytest.Misbehave(s.handler, registrytest.First(1, registrytest.Is(registrytest.Manifests, http.MethodPut)), fault)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			want := pushed(t, r, "1")
			if desc, err := r.Resolve(t.Context(), "1"); err != nil || desc.Digest.String() != want {
				t.Errorf("Resolve = %v, %v", desc, err)
			}
		})
	}
	bubble(t, "refused", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		s.handler = registrytest.Reject(s.handler, func(registrytest.ManifestFields) bool { return true })
		desc, data := plain("1")
		err := repository(t, n.client(registry.Options{}), host+"/app").PushManifest(t.Context(), desc, data, "1")
		want := "push registry.example.com/app:1@" + desc.Digest.String() + ": registry.example.com: it does not take a manifest of type application/vnd.oci.image.manifest.v1+json with an empty config: 400 Bad Request: manifest invalid"
		if !errdefs.IsInvalidArgument(err) || err.Error() != want {
			t.Errorf("got  %v\nwant %v", err, want)
		}
	})
	for name, test := range map[string]struct {
		code    int
		body    string
		header  http.Header
		refused bool
		text    string
	}{
		"no code":          {400, "no", nil, true, "400 Bad Request"},
		"unknown":          {400, `{"errors":[{"code":"UNKNOWN","message":"no"}]}`, nil, true, "400 Bad Request: no"},
		"invalid":          {400, `{"errors":[{"code":"MANIFEST_INVALID"}]}`, nil, true, "400 Bad Request: manifest invalid"},
		"unsupported":      {405, `{"errors":[{"code":"UNSUPPORTED","message":"no"}]}`, nil, true, "405 Method Not Allowed: no"},
		"unsupported type": {415, `{"errors":[{"code":"X"}]}`, nil, true, "415 Unsupported Media Type: x"},
		"other code":       {400, `{"errors":[{"code":"TAG_INVALID","message":"no"}]}`, nil, false, "400 Bad Request: no"},
		"method":           {405, "", nil, false, "405 Method Not Allowed"},
		"too large":        {413, "too large", nil, false, "413 Request Entity Too Large"},
		"length":           {411, "", nil, false, "411 Length Required"},
		"immutable":        {409, `{"errors":[{"code":"UNKNOWN","message":"tag is immutable"}]}`, nil, false, "409 Conflict: tag is immutable"},
		"precondition":     {412, `{"errors":[{"code":"PRECONDITION","message":"scan it first"}]}`, nil, false, "412 Precondition Failed: scan it first"},
		"unprocessable":    {422, "", nil, false, "422 Unprocessable Entity"},
		"moved":            {301, "", http.Header{"Location": {"https://other.example/v2/x?token=1"}}, false, "301 Moved Permanently to https://other.example/v2/x?…"},
	} {
		bubble(t, "refused: "+name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Method != http.MethodPut {
					return false
				}
				maps.Copy(w.Header(), test.header)
				w.WriteHeader(test.code)
				fmt.Fprint(w, test.body)
				return true
			}
			desc, data := plain("1")
			err := repository(t, n.client(registry.Options{}), host+"/app").PushManifest(t.Context(), desc, data, "1")
			if registry.Refused(err) != test.refused || err == nil || !strings.HasSuffix(err.Error(), ": "+test.text) || strings.Contains(err.Error(), "does not take") != test.refused {
				t.Errorf("got %v", err)
			}
		})
	}
	bubble(t, "no manifest", func(t *testing.T, n *network) {
		r := repository(t, n.client(registry.Options{}), host+"/app")
		desc, data := blob(small, 1)
		if err := r.PushManifest(t.Context(), desc, data, ""); !errdefs.IsInvalidArgument(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestReaderAt(t *testing.T) {
	for name, size := range map[string]int{"small": small, "large": large} {
		bubble(t, name, func(t *testing.T, n *network) {
			n.add(host, nil)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			desc, data := blob(size, 1)
			push(t, r, desc, data)
			got, err := content.ReadBlob(t.Context(), r, desc)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("ReadBlob = %d bytes, %v", len(got), err)
			}
			ra, err := r.ReaderAt(t.Context(), desc)
			if err != nil {
				t.Fatal(err)
			}
			defer ra.Close()
			for _, at := range []int{1000, 3000, 0, 2000} { // back and forth
				p := make([]byte, 500)
				if n, err := ra.ReadAt(p, int64(at)); n != len(p) || err != nil || !bytes.Equal(p, data[at:at+500]) {
					t.Errorf("ReadAt(%d) = %d, %v", at, n, err)
				}
			}
			p := make([]byte, 500)
			if n, err := ra.ReadAt(p, int64(size-100)); n != 100 || !errors.Is(err, io.EOF) || !bytes.Equal(p[:n], data[size-100:]) {
				t.Errorf("ReadAt the end = %d, %v", n, err)
			}
		})
	}
}
