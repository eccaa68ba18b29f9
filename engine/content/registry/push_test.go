// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// A registry that only listens a moment later is retried, whatever is sent first.
func TestPushWhereNobodyListensYet(t *testing.T) {
	for kind, size := range map[string]int{"small": small, "large": large} {
		bubble(t, kind, func(t *testing.T, n *network) {
			x := newTransfer(t, n, size, nil, registry.Options{})
			x.to.refuse = 1
			if how, err := x.copy(t.Context()); err != nil || how != registry.Streamed {
				t.Fatalf("CopyBlob = %v, %v", how, err)
			}
			x.landed(t)
		})
	}
}

// withBytes matches a request that contains a blob instead of announcing it.
func withBytes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("digest")
}

// Whatever a registry returns for a blob in one request, it gets the blob in two requests, and
// from then on always.
func TestOneRequestIsNoMatter(t *testing.T) {
	for name, fault := range map[string]registrytest.Fault{
		"400":          registrytest.Status(http.StatusBadRequest),
		"403":          registrytest.Status(http.StatusForbidden),
		"404":          registrytest.Status(http.StatusNotFound),
		"413":          registrytest.Status(http.StatusRequestEntityTooLarge),
		"415":          registrytest.Status(http.StatusUnsupportedMediaType),
		"500":          registrytest.Status(http.StatusInternalServerError),
		"501":          registrytest.Status(http.StatusNotImplemented),
		"other digest": registrytest.Status(http.StatusCreated, "Docker-Content-Digest", digest.FromString("x").String()),
		"moved":        registrytest.Status(http.StatusFound, "Location", "/v2/"),
		"cut":          readThen(5, cut),
		"hangs":        registrytest.Hang(),
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, registrytest.Misbehave(registrytest.GGCR(), withBytes, fault))
			r := repository(t, n.client(registry.Options{}), host+"/app")
			for i := range 5 {
				desc, data := blob(small+i, 1)
				push(t, r, desc, data)
				if there, err := r.Exists(t.Context(), desc); err != nil || !there {
					t.Fatalf("blob %d: %v, %v", i, there, err)
				}
			}
			if posts, puts := len(s.requests("POST ")), len(s.requests("PUT ")); posts != 6 || puts != 5 {
				t.Errorf("%d POST and %d PUT, want 6 and 5", posts, puts)
			}
		})
	}
}

// A manifest is pushed if the registry has it under its digest.
func TestPushManifestElsewhere(t *testing.T) {
	put := registrytest.Is(registrytest.Manifests, http.MethodPut)
	for name, test := range map[string]struct {
		fault registrytest.Fault
		text  string
	}{
		"rewritten": {registrytest.Status(http.StatusCreated, "Docker-Content-Digest", digest.FromString("x").String()), "keeps it as sha256:"},
		"later":     {registrytest.Status(http.StatusAccepted), "202 Accepted"},
		"login":     {registrytest.Status(http.StatusFound, "Location", "/v2/app/manifests/old"), "302 Found"},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			pushed(t, r, "old")
			s.handler = registrytest.Misbehave(s.handler, put, test.fault)
			desc, data := plain("new")
			if err := r.PushManifest(t.Context(), desc, data, "v1"); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %s", err, test.text)
			}
		})
	}
	bubble(t, "a tag that is a path", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		desc, data := plain("new")
		err := repository(t, n.client(registry.Options{}), host+"/app").PushManifest(t.Context(), desc, data, "x/../../../other/manifests/latest")
		if !errdefs.IsInvalidArgument(err) || len(s.requests()) > 0 {
			t.Errorf("got %v after %q", err, s.requests())
		}
	})
}

// A write is redirected with its method, and with the headers that the other host needs.
func TestPushIsRedirected(t *testing.T) {
	const region = "eu.registry.example.com"
	bubble(t, "to a host with tokens of its own", func(t *testing.T, n *network) {
		bearer := &registrytest.Bearer{Next: registrytest.GGCR(), User: user, Password: secret}
		n.add(region, bearer)
		n.add(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+region+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		}))
		client := n.client(registry.Options{Credentials: func(string) (string, string, error) { return user, secret, nil }})
		r := repository(t, client, host+"/app")
		desc, data := blob(small, 1)
		push(t, r, desc, data)
		manifest, manifestData := plain("x")
		if err := r.PushManifest(t.Context(), manifest, manifestData, "v1"); err != nil {
			t.Fatal(err)
		}
		if got, err := repository(t, client, region+"/app").Resolve(t.Context(), "v1"); err != nil || got.Digest != manifest.Digest {
			t.Errorf("Resolve = %v, %v", got, err)
		}
	})
}

// However many small blobs wait for a registry, the number in memory is limited.
func TestPushHoldsLittle(t *testing.T) {
	bubble(t, "many", func(t *testing.T, n *network) {
		const size, budget = 1 << 20, 32
		n.add(host, registrytest.Misbehave(registrytest.GGCR(), func(*http.Request) bool { return true }, registrytest.Hang()))
		r := repository(t, n.client(registry.Options{}), host+"/app")
		desc, data := blob(size, 1)
		stop := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var opened atomic.Int64
		var wg sync.WaitGroup
		for range 4 * budget {
			wg.Go(func() {
				_, err := r.PushBlob(ctx, desc, func() (io.ReadCloser, error) {
					opened.Add(1)
					return opener(data)()
				})
				if !errors.Is(err, stop) {
					t.Errorf("got %v", err)
				}
			})
		}
		time.Sleep(time.Second)
		if got := opened.Load(); got != budget {
			t.Errorf("%s are in memory, want %d", fmt.Sprint(got, " MiB"), budget)
		}
		cancel(stop)
		wg.Wait()
	})
}

// A source may report with its last bytes that they are wrong: then nothing is written.
func TestPushWrongBytes(t *testing.T) {
	for name, size := range map[string]int{"small": small, "large": large} {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Method != http.MethodPut && !r.URL.Query().Has("digest") {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusBadRequest)
				return true
			}
			wrong := errors.New("these are wrong")
			desc, data := blob(size, 1)
			_, err := repository(t, n.client(registry.Options{}), host+"/app").PushBlob(t.Context(), desc, func() (io.ReadCloser, error) {
				return io.NopCloser(iotest.DataErrReader(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(wrong)))), nil
			})
			if err == nil || !strings.Contains(err.Error(), wrong.Error()) {
				t.Errorf("got %v", err)
			}
		})
	}
}
