// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

const (
	from = "upstream.example.com"

	small = 5000
	large = 1<<20 + 5 // too large for memory
)

// transfer is two registries, and a blob in the first.
type transfer struct {
	client   *registry.Client
	src, dst *registry.Repository
	from, to *registryServer
	desc     ocispec.Descriptor
	data     []byte
	reported atomic.Int64
}

func newTransfer(t *testing.T, n *network, size int, to http.Handler, options registry.Options) *transfer {
	t.Helper()
	x := &transfer{from: n.add(from, nil), to: n.add(host, to)}
	x.client = n.client(options)
	x.desc, x.data = blob(size, 1)
	x.dst = repository(t, x.client, host+"/app")
	x.src = source(t, x.client, from+"/lib/nginx")
	push(t, repository(t, x.client, from+"/lib/nginx"), x.desc, x.data)
	x.from.forget()
	return x
}

func push(t *testing.T, r *registry.Repository, desc ocispec.Descriptor, data []byte) {
	t.Helper()
	if _, err := r.PushBlob(t.Context(), desc, opener(data)); err != nil {
		t.Fatal(err)
	}
}

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func (x *transfer) copy(ctx context.Context) (registry.How, error) {
	return x.client.CopyBlob(ctx, x.dst, x.src, x.desc, func(n int64) { x.reported.Add(n) })
}

// landed fails unless the destination has the blob, and all of it was reported once.
func (x *transfer) landed(t *testing.T) {
	t.Helper()
	body, err := x.dst.Blob(t.Context(), x.desc)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, x.data) {
		t.Fatalf("destination has %d bytes, %v", len(got), err)
	}
	if n := x.reported.Load(); n != x.desc.Size {
		t.Errorf("%d bytes reported, want %d", n, x.desc.Size)
	}
}

func TestCopyBlob(t *testing.T) {
	for name, size := range map[string]int{"empty": 0, "small": small, "buffered": 1 << 20, "large": large} {
		bubble(t, name, func(t *testing.T, n *network) {
			x := newTransfer(t, n, size, nil, registry.Options{})
			if how, err := x.copy(t.Context()); err != nil || how != registry.Streamed {
				t.Fatalf("CopyBlob = %v, %v", how, err)
			}
			// A small blob is pushed with one request, without asking whether it exists.
			want := []string{"POST "}
			if size > 1<<20 {
				want = []string{"HEAD ", "POST ", "PUT "}
			}
			got := x.to.requests()
			if len(got) != len(want) {
				t.Errorf("requests %q, want %q", got, want)
			}
			for i := range min(len(got), len(want)) {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("request %d is %q, want %s", i, got[i], want[i])
				}
			}
			x.landed(t)
		})
	}
	bubble(t, "there already", func(t *testing.T, n *network) {
		x := newTransfer(t, n, large, nil, registry.Options{})
		push(t, x.dst, x.desc, x.data)
		x.to.forget()
		if how, err := x.copy(t.Context()); err != nil || how != registry.Existing {
			t.Fatalf("CopyBlob = %v, %v", how, err)
		}
		if got := len(x.to.requests()) + len(x.from.requests()); got != 1 {
			t.Errorf("%d requests, want 1", got)
		}
	})
}

// Any single fault of a registry during a transfer is recovered from; wrong content is never
// written.
func TestCopyBlobMends(t *testing.T) {
	once := func(m registrytest.Match, how registrytest.Fault) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return registrytest.Misbehave(h, registrytest.First(1, m), how) }
	}
	get := registrytest.Is(registrytest.Blobs, http.MethodGet)
	post := registrytest.Is(registrytest.Uploads, http.MethodPost)
	put := registrytest.Is(registrytest.Uploads, http.MethodPut)
	halfway := func(s int64) map[string]func(http.Handler) http.Handler {
		return map[string]func(http.Handler) http.Handler{
			"source cuts":        once(get, registrytest.Cut(s)),
			"source truncates":   once(get, registrytest.Truncate(s)),
			"source stalls":      once(get, registrytest.Stall(s)),
			"source corrupts":    once(get, registrytest.Corrupt(s)),
			"source is busy":     once(get, registrytest.Status(http.StatusTooManyRequests, "Retry-After", "3")),
			"source is broken":   once(get, registrytest.Status(http.StatusInternalServerError)),
			"source's proxy":     once(get, registrytest.Status(http.StatusBadGateway)),
			"source refuses":     once(get, registrytest.Refuse()),
			"source hangs":       once(get, registrytest.Hang()),
			"post unavailable":   once(post, registrytest.Status(http.StatusBadGateway)),
			"post is busy":       once(post, registrytest.Status(http.StatusTooManyRequests, "Retry-After", "3")),
			"post not allowed":   once(post, registrytest.Status(http.StatusMethodNotAllowed)),
			"post cut":           once(post, readThen(s, cut)),
			"post refused":       once(post, registrytest.Refuse()),
			"post hangs":         once(post, registrytest.Hang()),
			"upload not started": once(post, registrytest.Status(http.StatusBadGateway)),
			"upload cut":         once(put, readThen(s, cut)),
			"upload is busy":     once(put, registrytest.Status(http.StatusTooManyRequests)),
			"upload broken":      once(put, registrytest.Status(http.StatusInternalServerError)),
			"upload refused":     once(put, registrytest.Refuse()),
			"upload hangs":       once(put, registrytest.Hang()),
			"upload stalls":      once(put, stallAfter(s)),
		}
	}
	for kind, size := range map[string]int{"small ": small, "large ": large} {
		for name, fault := range halfway(int64(size / 2)) {
			post := strings.HasPrefix(name, "post") // with the bytes, which only small blobs use
			if post && size == large {
				continue
			}
			bubble(t, kind+name, func(t *testing.T, n *network) {
				x := newTransfer(t, n, size, nil, registry.Options{})
				switch {
				case strings.HasPrefix(name, "source"):
					x.from.handler = fault(x.from.handler)
				case post:
					x.to.handler = fault(x.to.handler)
				default:
					x.to.handler = fault(twoRequests(x.to.handler))
				}
				if how, err := x.copy(t.Context()); err != nil || how != registry.Streamed {
					t.Fatalf("CopyBlob = %v, %v", how, err)
				}
				x.landed(t)
				// Only a large blob is read a second time because of its upload.
				gets := len(x.from.requests("GET "))
				if want := 1; size == small && !strings.HasPrefix(name, "source") && gets != want {
					t.Errorf("read %d times, want %d", gets, want)
				}
			})
		}
	}
}

// readThen reads n bytes of a request.
func readThen(n int64, then func()) registrytest.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, n)
			then()
		})
	}
}

// stallAfter reads n bytes of a request, and waits for its client to go.
func stallAfter(n int64) registrytest.Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, n)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			// The server no longer watches the connection; a timeout of the client ends this.
			time.AfterFunc(time.Hour, func() { conn.Close() })
		})
	}
}

func TestCopyBlobFails(t *testing.T) {
	tests := map[string]struct {
		fault func(http.Handler) http.Handler
		class error
		text  string
	}{
		"corrupt": {
			func(h http.Handler) http.Handler {
				return registrytest.Misbehave(h, registrytest.Is(registrytest.Blobs, http.MethodGet), registrytest.Corrupt(17))
			},
			errdefs.ErrDataLoss,
			"fetch upstream.example.com/lib/nginx@DIGEST: upstream.example.com: sent bytes with digest sha256:",
		},
		"truncated": {
			func(h http.Handler) http.Handler {
				return registrytest.Misbehave(h, registrytest.Is(registrytest.Blobs, http.MethodGet), registrytest.Truncate(17))
			},
			errdefs.ErrDataLoss,
			"fetch upstream.example.com/lib/nginx@DIGEST: upstream.example.com: sent 17 of ",
		},
		"cut": {
			func(h http.Handler) http.Handler {
				return registrytest.Misbehave(h, registrytest.Is(registrytest.Blobs, http.MethodGet), registrytest.Cut(17))
			},
			errdefs.ErrUnavailable,
			"fetch upstream.example.com/lib/nginx@DIGEST: upstream.example.com: the connection broke off",
		},
		"gone": {
			func(h http.Handler) http.Handler {
				return registrytest.Misbehave(h, registrytest.Is(registrytest.Blobs, http.MethodGet), registrytest.Status(http.StatusNotFound))
			},
			errdefs.ErrNotFound,
			"fetch upstream.example.com/lib/nginx@DIGEST: upstream.example.com: not found",
		},
	}
	for kind, size := range map[string]int{"small ": small, "large ": large} {
		for name, test := range tests {
			bubble(t, kind+name, func(t *testing.T, n *network) {
				x := newTransfer(t, n, size, nil, registry.Options{})
				x.from.handler = test.fault(x.from.handler)
				_, err := x.copy(t.Context())
				want := strings.Replace(test.text, "DIGEST", x.desc.Digest.String(), 1)
				if !errors.Is(err, test.class) || !strings.HasPrefix(err.Error(), want) {
					t.Errorf("got  %v\nwant %v", err, want)
				}
				if there, err := x.dst.Exists(t.Context(), x.desc); err != nil || there {
					t.Errorf("it landed: %t, %v", there, err)
				}
				if n := x.reported.Load(); n != 0 {
					t.Errorf("%d bytes reported", n)
				}
			})
		}
	}
	for kind, size := range map[string]int{"small ": small, "large ": large} {
		bubble(t, kind+"upload forbidden", func(t *testing.T, n *network) {
			x := newTransfer(t, n, size, nil, registry.Options{})
			x.to.handler = registrytest.Misbehave(x.to.handler, registrytest.Is(registrytest.Uploads), registrytest.Status(http.StatusForbidden))
			_, err := x.copy(t.Context())
			want := "push registry.example.com/app@" + x.desc.Digest.String() + ": registry.example.com: 403 Forbidden: forbidden; check what"
			if !errdefs.IsPermissionDenied(err) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got  %v\nwant %v", err, want)
			}
			// A small blob is tried with one request, and then in the way that all registries
			// support.
			if got, want := len(x.to.requests("POST ")), map[int]int{small: 2, large: 1}[size]; got != want {
				t.Errorf("asked %d times, want %d", got, want)
			}
		})
		bubble(t, kind+"upload broken", func(t *testing.T, n *network) {
			x := newTransfer(t, n, size, nil, registry.Options{})
			x.to.handler = registrytest.Misbehave(twoRequests(x.to.handler), registrytest.Is(registrytest.Uploads, http.MethodPut), registrytest.Status(http.StatusInternalServerError))
			_, err := x.copy(t.Context())
			want := "push registry.example.com/app@" + x.desc.Digest.String() + ": registry.example.com: 500 Internal Server Error"
			if !errdefs.IsUnavailable(err) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got  %v\nwant %v", err, want)
			}
			if got := len(x.to.requests("PUT ")); got != 6 {
				t.Errorf("tried %d times", got)
			}
		})
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			bubble(t, kind+method+" interrupted", func(t *testing.T, n *network) {
				x := newTransfer(t, n, size, nil, registry.Options{})
				if method == http.MethodPut {
					x.to.handler = twoRequests(x.to.handler)
				}
				x.to.handler = registrytest.Misbehave(x.to.handler, registrytest.Is(registrytest.Uploads, method), registrytest.Hang())
				stop := errors.New("interrupted")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(5*time.Second, func() { cancel(stop) })
				start := time.Now()
				if _, err := x.copy(ctx); !errors.Is(err, stop) || time.Since(start) != 5*time.Second {
					t.Errorf("after %s: %v", time.Since(start), err)
				}
			})
		}
	}
}

func TestMount(t *testing.T) {
	const registryHost = "registry.example.com:5000"
	for kind, size := range map[string]int{"small": small, "large": large} {
		t.Run(kind, func(t *testing.T) {
			n := newNetwork(t)
			defer n.close()
			s := n.add(registryHost, registrytest.Distribution(""))
			client := n.client(registry.Options{})
			desc, data := blob(size, 1)
			push(t, repository(t, client, registryHost+"/team/lib"), desc, data)
			s.forget()
			how, err := client.CopyBlob(t.Context(), repository(t, client, registryHost+"/app"), source(t, client, registryHost+"/team/lib"), desc, nil)
			if err != nil || how != registry.Mounted {
				t.Errorf("CopyBlob = %v, %v", how, err)
			}
			if got := s.requests(); len(got) != 1 || !strings.HasPrefix(got[0], "POST ") {
				t.Errorf("requests %q", got)
			}
		})
		bubble(t, kind+" where the registry does not mount", func(t *testing.T, n *network) {
			s := n.add(registryHost, nil)
			client := n.client(registry.Options{})
			desc, data := blob(size, 1)
			push(t, repository(t, client, registryHost+"/team/lib"), desc, data)
			s.forget()
			how, err := client.CopyBlob(t.Context(), repository(t, client, registryHost+"/app"), source(t, client, registryHost+"/team/lib"), desc, nil)
			want := registry.Streamed
			if size == large { // it is requested, and this registry has it in every repository
				want = registry.Existing
			}
			if err != nil || how != want {
				t.Errorf("CopyBlob = %v, %v", how, err)
			}
			// Mounting is not tried again.
			s.forget()
			desc, data = blob(size, 2)
			push(t, repository(t, client, registryHost+"/team/lib"), desc, data)
			s.forget()
			if _, err := client.CopyBlob(t.Context(), repository(t, client, registryHost+"/app"), source(t, client, registryHost+"/team/lib"), desc, nil); err != nil {
				t.Error(err)
			}
			if got := s.requests("POST "); len(got) > 1 {
				t.Errorf("uploads %q", got)
			}
		})
	}
}

// A mount that fails, with whatever status, is tried again once; then the blob is sent.
func TestMountFails(t *testing.T) {
	for name, fault := range map[string]struct {
		fault registrytest.Fault
		tries int
	}{
		"500": {registrytest.Status(500), 2}, "502": {registrytest.Status(502), 2}, "503": {registrytest.Status(503), 2},
		"504": {registrytest.Status(504), 2}, "501": {registrytest.Status(501), 1}, "400": {registrytest.Status(400), 1},
		"cut": {registrytest.Refuse(), 2}, "hangs": {registrytest.Hang(), 2},
	} {
		for kind, size := range map[string]int{"small": small, "large": large} {
			bubble(t, name+" "+kind, func(t *testing.T, n *network) {
				const at = "registry.example.com:5000"
				s := n.add(at, nil)
				mounts := func(r *http.Request) bool { return r.URL.Query().Has("mount") }
				asked := registrytest.Count(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fault.fault(nil).ServeHTTP(w, r) }))
				s.handler = registrytest.Misbehave(s.handler, mounts, func(http.Handler) http.Handler { return asked })
				client := n.client(registry.Options{})
				desc, data := blob(size, 1)
				dst, src := repository(t, client, at+"/app"), source(t, client, at+"/team/lib")
				push(t, repository(t, client, at+"/team/lib"), desc, data)
				how, err := client.CopyBlob(t.Context(), dst, src, desc, nil)
				if err != nil || how != registry.Streamed && how != registry.Existing {
					t.Fatalf("CopyBlob = %v, %v", how, err)
				}
				if got := asked.Stats().Total(); got != fault.tries {
					t.Errorf("asked %d times to mount, want %d", got, fault.tries)
				}
			})
		}
	}
	bubble(t, "asks to wait", func(t *testing.T, n *network) {
		const at = "registry.example.com:5000"
		s := n.add(at, nil)
		mounts := func(r *http.Request) bool { return r.URL.Query().Has("mount") }
		s.handler = registrytest.Misbehave(s.handler, mounts, registrytest.Status(http.StatusCreated))
		s.handler = registrytest.Misbehave(s.handler, registrytest.First(3, mounts), registrytest.Status(http.StatusTooManyRequests, "Retry-After", "1"))
		client := n.client(registry.Options{})
		desc, data := blob(small, 1)
		push(t, repository(t, client, at+"/team/lib"), desc, data)
		if how, err := client.CopyBlob(t.Context(), repository(t, client, at+"/app"), source(t, client, at+"/team/lib"), desc, nil); err != nil || how != registry.Mounted {
			t.Errorf("CopyBlob = %v, %v", how, err)
		}
	})
}

// One slot at each host, transfers in both directions, and requests in between: no deadlock.
func TestNoDeadlock(t *testing.T) {
	bubble(t, "both ways", func(t *testing.T, n *network) {
		n.add(from, nil)
		n.add(host, nil)
		client := n.client(registry.Options{Concurrency: 1})
		a, b := repository(t, client, from+"/a"), repository(t, client, host+"/b")
		type blobOf struct {
			desc     ocispec.Descriptor
			src, dst *registry.Repository
		}
		var all []blobOf
		for i := range 10 {
			desc, data := blob(large+i, byte(i))
			push(t, a, desc, data)
			all = append(all, blobOf{desc, a, b})
			desc, data = blob(large+100+i, byte(i))
			push(t, b, desc, data)
			all = append(all, blobOf{desc, b, a})
			desc, data = blob(small+i, byte(i))
			push(t, a, desc, data)
			all = append(all, blobOf{desc, a, b})
		}
		var wg sync.WaitGroup
		for _, x := range all {
			wg.Go(func() {
				if how, err := client.CopyBlob(t.Context(), x.dst, x.src, x.desc, nil); err != nil || how != registry.Streamed {
					t.Errorf("CopyBlob = %v, %v", how, err)
				}
				if there, err := x.dst.Exists(t.Context(), x.desc); err != nil || !there {
					t.Errorf("Exists = %v, %v", there, err)
				}
			})
		}
		wg.Wait()
	})
}
