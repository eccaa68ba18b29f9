// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want request
	}{
		{"/v2/", request{kind: Ping}},
		{"/v2", request{kind: Ping}},
		{"/v2/a/manifests/1", request{Manifests, "a", "1"}},
		{"/v2/library/nginx/manifests/1?ns=docker.io", request{Manifests, "docker.io/library/nginx", "1"}},
		{"/v2/a/b/blobs/sha256:1", request{Blobs, "a/b", "sha256:1"}},
		{"/v2/a/blobs/uploads/", request{Uploads, "a", ""}},
		{"/v2/a/blobs/uploads/42?state=x", request{Uploads, "a", "42"}},
		{"/v2/x/blobs/y/manifests/1", request{Manifests, "x/blobs/y", "1"}},
		{"/v2/a/referrers/sha256:1", request{Referrers, "a", "sha256:1"}},
		{"/v2/a/tags/list", request{Tags, "a", ""}},
		{"/token?scope=x", request{kind: Token}},
		{"/elsewhere", request{kind: Other}},
	} {
		u, err := url.Parse(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(u); got != tt.want {
			t.Errorf("parse(%q) = %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

func TestNoiseIsTheSameReadAnyWay(t *testing.T) {
	block := newBlock()
	for _, size := range []int64{0, 1, 31, 32, 33, 1 << 20, 1<<20 + 7, 3<<20 + 1} {
		n := newNoise(block, "seed", size)
		whole, err := io.ReadAll(io.NewSectionReader(n, 0, size))
		if err != nil || int64(len(whole)) != size {
			t.Fatalf("read %d of %d bytes: %v", len(whole), size, err)
		}
		if got := digest.FromBytes(whole); got != n.digest() {
			t.Errorf("size %d: digest %s, want %s", size, n.digest(), got)
		}
		if size > 0 && n.digest() == newNoise(block, "other", size).digest() {
			t.Errorf("size %d: two seeds give one blob", size)
		}
		for off := int64(0); off < size; off += 1<<20 - 3 {
			part := make([]byte, min(100, size-off))
			if _, err := n.ReadAt(part, off); err != nil || !bytes.Equal(part, whole[off:off+int64(len(part))]) {
				t.Errorf("size %d: bytes at %d differ (%v)", size, off, err)
			}
		}
	}
}

// An independent library accepts the made-up images.
func TestUpstreamMakesValidImages(t *testing.T) {
	for _, tt := range []struct {
		name string
		img  Image
		want int // children of the index; 0: an image alone
	}{
		{"zero", Image{}, 2},
		{"published", Published(), 4},
		{"docker", Image{Docker: true, Layers: []int64{10, 2 << 20}}, 2},
		{"three", Image{Platforms: []string{"linux/amd64", "linux/arm/v7", "windows/amd64"}, Shared: []int64{5000}}, 3},
		{"single", Image{Single: true, Docker: true}, 0},
		{"deep", Image{Inline: 3, Signatures: 2, Attestations: 1, SBOMs: 2, Deep: true}, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := &Upstream{Image: func(string, string) (Image, bool) { return tt.img, true }}
			ref, err := name.ParseReference(Serve(t, up) + "/team/app:1.0")
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == 0 {
				img, err := remote.Image(ref)
				if err != nil {
					t.Fatal(err)
				}
				if err := validate.Image(img, validate.Fast); err != nil {
					t.Error(err)
				}
				return
			}
			index, err := remote.Index(ref)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(index, validate.Fast); err != nil {
				t.Error(err)
			}
			manifest, err := index.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			if len(manifest.Manifests) != tt.want {
				t.Errorf("index has %d children, want %d", len(manifest.Manifests), tt.want)
			}
			for _, child := range manifest.Manifests {
				img, err := index.Image(child.Digest)
				if err != nil {
					t.Fatal(err)
				}
				layers, err := img.Layers()
				if err != nil {
					t.Fatal(err)
				}
				for _, layer := range layers {
					want, _ := layer.Digest()
					rc, err := layer.Compressed()
					if err != nil {
						t.Fatal(err)
					}
					got, err := digest.FromReader(rc)
					rc.Close()
					if err != nil || got.String() != want.String() {
						t.Errorf("layer %s reads as %s (%v)", want, got, err)
					}
				}
			}
		})
	}
}

func TestUpstreamIsDeterministic(t *testing.T) {
	a, b := &Upstream{}, &Upstream{}
	first, err := a.Resolve("docker.io/library/nginx", "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Resolve("docker.io/library/other", "1"); err != nil {
		t.Fatal(err)
	}
	second, err := b.Resolve("docker.io/library/nginx", "1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("two upstreams differ (-first +second):\n%s", diff)
	}
	if other, err := b.Resolve("docker.io/library/nginx", "2"); err != nil || other.Digest == first.Digest {
		t.Errorf("two tags have one digest (%v)", err)
	}
}

func TestUpstreamFollowsItsDescription(t *testing.T) {
	img := Image{}
	up := &Upstream{Image: func(n, tag string) (Image, bool) { return img, tag != "missing" }}
	if _, err := up.Resolve("app", "missing"); err == nil {
		t.Error("a tag that does not exist was made")
	}
	before, err := up.Resolve("app", "1")
	if err != nil {
		t.Fatal(err)
	}
	img.Salt = "pushed again"
	after, err := up.Resolve("app", "1")
	if err != nil || after.Digest == before.Digest {
		t.Errorf("the tag did not move (%v)", err)
	}
	if up.Manifest("app", before.Digest) == nil {
		t.Error("the old manifest is gone")
	}
}

func TestRelatedOverHTTP(t *testing.T) {
	img := Published()
	up := &Upstream{Image: func(string, string) (Image, bool) { return img, true }}
	desc, err := up.Resolve("docker.io/library/nginx", "1")
	if err != nil {
		t.Fatal(err)
	}
	addr := Serve(t, up)
	get := func(path string) (int, string) {
		res, err := http.Get("http://" + addr + "/v2/library/nginx/" + path + "?ns=docker.io")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(data)
	}
	tag := "sha256-" + desc.Digest.Encoded()
	for _, tt := range []struct {
		api    bool
		path   string
		status int
		want   string
	}{
		{true, "manifests/" + tag + ".sig", 200, SimpleSigning},
		{true, "manifests/" + tag + ".att", 404, "MANIFEST_UNKNOWN"},
		{true, "manifests/" + tag, 404, "MANIFEST_UNKNOWN"},
		{true, "referrers/" + desc.Digest.String(), 200, SPDX},
		{false, "referrers/" + desc.Digest.String(), 404, "UNSUPPORTED"},
		{false, "manifests/" + tag, 200, SPDX},
	} {
		up.NoReferrersAPI = !tt.api
		if status, got := get(tt.path); status != tt.status || !strings.Contains(got, tt.want) {
			t.Errorf("api %v: %s: %d %s, want %d and %s", tt.api, tt.path, status, got, tt.status, tt.want)
		}
	}
}

func TestFaults(t *testing.T) {
	const blob = "0123456789"
	plain := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, blob)
	})
	for _, tt := range []struct {
		name   string
		fault  Fault
		want   string
		status int
		broken bool
	}{
		{"status", Status(429, "Retry-After", "7"), "", 429, false},
		{"refuse", Refuse(), "", 0, true},
		{"truncate", Truncate(4), "0123", 200, false},
		{"truncate nothing", Truncate(100), blob, 200, false},
		{"cut", Cut(4), "0123", 200, true},
		{"cut at the end", Cut(9), "012345678", 200, true},
		{"corrupt", Corrupt(4), "0123556789", 200, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := Serve(t, Misbehave(plain, First(1, Is(Blobs, "GET")), tt.fault))
			res, err := http.Get("http://" + addr + "/v2/a/blobs/sha256:1")
			if tt.status == 0 {
				if err == nil {
					t.Fatal("there was an answer")
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				got, err := io.ReadAll(res.Body)
				if res.StatusCode != tt.status || (err != nil) != tt.broken {
					t.Errorf("answered %d, %v", res.StatusCode, err)
				}
				if tt.want != "" && string(got) != tt.want {
					t.Errorf("body %q, want %q", got, tt.want)
				}
				if tt.status == 429 && res.Header.Get("Retry-After") != "7" {
					t.Errorf("headers %v", res.Header)
				}
			}
			res, err = http.Get("http://" + addr + "/v2/a/blobs/sha256:1")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got, err := io.ReadAll(res.Body); err != nil || string(got) != blob {
				t.Errorf("the second request read %q, %v", got, err)
			}
		})
	}
}

func TestHangEndsWithItsClient(t *testing.T) {
	addr := Serve(t, Misbehave(http.NotFoundHandler(), Is(Ping), Hang()))
	client := http.Client{Timeout: 10 * time.Millisecond}
	if _, err := client.Get("http://" + addr + "/v2/"); err == nil {
		t.Error("there was an answer")
	}
}

func TestCount(t *testing.T) {
	up := &Upstream{}
	counter := Count(Delay(up, time.Nanosecond))
	desc, err := up.Resolve("app", "1")
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		counter.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/v2/app/manifests/1", nil))
	}
	want := Stats{
		Requests: map[string]int{"HEAD manifests": 1, "GET manifests": 1},
		Bytes:    map[string]int64{"HEAD manifests": 0, "GET manifests": desc.Size},
		InFlight: 1,
	}
	if diff := cmp.Diff(want, counter.Reset()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	if got := counter.Stats().Total(); got != 0 {
		t.Errorf("%d requests after the reset", got)
	}
}

func TestAuth(t *testing.T) {
	up := &Upstream{}
	desc, err := up.Resolve("open/app", "1")
	if err != nil {
		t.Fatal(err)
	}
	right, wrong := &authn.Basic{Username: "u", Password: "p"}, &authn.Basic{Username: "u", Password: "x"}
	for _, tt := range []struct {
		name    string
		handler http.Handler
		repo    string
		auth    authn.Authenticator
		ok      bool
	}{
		{"basic", Basic(up, "u", "p"), "open/app", right, true},
		{"basic without", Basic(up, "u", "p"), "open/app", authn.Anonymous, false},
		{"basic wrong", Basic(up, "u", "p"), "open/app", wrong, false},
		{"bearer", &Bearer{Next: up, User: "u", Password: "p"}, "secret/app", right, true},
		{"bearer without", &Bearer{Next: up, User: "u", Password: "p"}, "secret/app", authn.Anonymous, false},
		{"bearer wrong", &Bearer{Next: up, User: "u", Password: "p"}, "secret/app", wrong, false},
		{"bearer public", &Bearer{Next: up, Public: func(n string) bool { return n == "open/app" }}, "open/app", authn.Anonymous, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref, err := name.ParseReference(Serve(t, tt.handler) + "/" + tt.repo + ":1")
			if err != nil {
				t.Fatal(err)
			}
			_, err = remote.Head(ref, remote.WithAuth(tt.auth))
			if (err == nil) != tt.ok {
				t.Errorf("HEAD: %v", err)
			}
		})
	}
	if desc.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("made %s", desc.MediaType)
	}
}

// Both registries accept the output of the other helpers.
func TestRegistries(t *testing.T) {
	src, err := name.ParseReference(Serve(t, &Upstream{}) + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		handler http.Handler
		refused bool
	}{
		{"distribution in memory", Distribution(""), false},
		{"distribution on disk", Distribution(t.TempDir()), false},
		{"ggcr", GGCR(), false},
		{"before OCI 1.1", NoReferrers(GGCR()), false},
		{"no indexes", Reject(GGCR(), Index), true},
		{"no empty config", Reject(GGCR(), EmptyConfig), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dst, err := name.ParseReference(Serve(t, tt.handler) + "/copy:1")
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.WriteIndex(dst, index); (err != nil) != tt.refused {
				t.Fatalf("push: %v", err)
			}
			if tt.refused {
				return
			}
			copied, err := remote.Index(dst)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(copied, validate.Fast); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDelayGivesUpWithItsClient(t *testing.T) {
	addr := Serve(t, Delay(http.NotFoundHandler(), time.Hour))
	client := http.Client{Timeout: 10 * time.Millisecond}
	_, err := client.Get("http://" + addr + "/v2/")
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("answered before its time: %v", err)
	}
}
