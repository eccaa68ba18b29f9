// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

const host = "registry.example.com"

// pushed pushes a tagged manifest into a repository.
func pushed(t *testing.T, r *registry.Repository, tag string) (digest string) {
	t.Helper()
	desc, data := plain(tag)
	if err := r.PushManifest(t.Context(), desc, data, tag); err != nil {
		t.Fatal(err)
	}
	return desc.Digest.String()
}

func TestRetryStatus(t *testing.T) {
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		bubble(t, strconv.Itoa(status), func(t *testing.T, n *network) {
			s := n.add(host, nil)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			want := pushed(t, r, "1")
			s.forget()
			s.before = func(w http.ResponseWriter, _ *http.Request, n int) bool {
				if n <= 3 {
					w.WriteHeader(status)
				}
				return n <= 3
			}
			start := time.Now()
			desc, err := r.Resolve(t.Context(), "1")
			if err != nil || desc.Digest.String() != want {
				t.Fatalf("Resolve = %v, %v", desc, err)
			}
			if got := len(s.requests()); got != 4 {
				t.Errorf("%d requests, want 4", got)
			}
			// 250 ms, 500 ms and 1 s, each shortened by at most half.
			if took := time.Since(start); took < 875*time.Millisecond || took > 1750*time.Millisecond {
				t.Errorf("waited %s", took)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	tests := map[string]struct {
		header func() string
		want   time.Duration
	}{
		"seconds": {func() string { return "17" }, 17 * time.Second},
		"date":    {func() string { return time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat) }, 19 * time.Second},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			r := repository(t, n.client(registry.Options{}), host+"/app")
			pushed(t, r, "1")
			s.forget()
			s.before = func(w http.ResponseWriter, _ *http.Request, n int) bool {
				if n == 1 {
					w.Header().Set("Retry-After", test.header())
					w.WriteHeader(http.StatusTooManyRequests)
				}
				return n == 1
			}
			start := time.Now()
			if _, err := r.Resolve(t.Context(), "1"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < test.want || took > test.want+time.Second {
				t.Errorf("waited %s, want %s", took, test.want)
			}
		})
	}
}

func TestGiveUp(t *testing.T) {
	tests := map[string]struct {
		before   func(http.ResponseWriter, *http.Request, int) bool
		requests int
		class    error
		text     string
	}{
		"unavailable": {
			func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			},
			6, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: 503 Service Unavailable (tried 6 times); try again later; if it persists, ask the operator of the registry or of a proxy in front of it",
		},
		"bad gateway of a proxy": {
			func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.WriteHeader(http.StatusBadGateway)
				fmt.Fprint(w, "<html>nginx</html>")
				return true
			},
			6, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: 502 Bad Gateway (tried 6 times); try again later; if it persists, ask the operator of the registry or of a proxy in front of it",
		},
		"comes back tomorrow": {
			func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.Header().Set("Retry-After", "86400")
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			},
			1, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: 429 Too Many Requests; it asks to wait 24h0m0s; wait, log in for a higher limit, or lower the concurrency",
		},
		"hangs": {
			func(_ http.ResponseWriter, r *http.Request, _ int) bool {
				<-r.Context().Done()
				return true
			},
			2, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: no answer for 30s to HEAD /v2/app/manifests/1 (tried 2 times); try again later, and wait longer",
		},
		"cuts": {
			func(http.ResponseWriter, *http.Request, int) bool { cut(); return true },
			6, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: the connection broke off (tried 6 times); try again later; if it persists, ask the operator of the registry or of a proxy in front of it",
		},
		"forbids": {
			func(w http.ResponseWriter, r *http.Request, _ int) bool {
				w.WriteHeader(http.StatusForbidden)
				if r.Method == http.MethodGet {
					fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"not you"}]}`)
				}
				return true
			},
			2, errdefs.ErrPermissionDenied,
			"resolve registry.example.com/app:1: registry.example.com: 403 Forbidden: not you; check what your account may do there, or log in to registry.example.com with another",
		},
		"wants credentials": {
			func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			},
			1, errdefs.ErrUnauthenticated,
			"resolve registry.example.com/app:1: registry.example.com: it does not exist or needs credentials; log in to registry.example.com",
		},
		"has nothing": {
			func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.WriteHeader(http.StatusNotFound)
				return true
			},
			1, errdefs.ErrNotFound,
			"resolve registry.example.com/app:1: registry.example.com: not found; check its name and tag",
		},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T, n *network) {
			s := n.add(host, nil)
			s.before = test.before
			_, err := repository(t, n.client(registry.Options{}), host+"/app").Resolve(t.Context(), "1")
			if !errors.Is(err, test.class) || err.Error() != test.text {
				t.Errorf("got  %v\nwant %v", err, test.text)
			}
			if got := s.requests(); len(got) != test.requests {
				t.Errorf("requests %q, want %d", got, test.requests)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	bubble(t, "refused", func(t *testing.T, n *network) {
		server := n.add(host, nil)
		server.down = true
		r := repository(t, n.client(registry.Options{}), host+"/app")
		_, err := r.Resolve(t.Context(), "1")
		want := "resolve registry.example.com/app:1: registry.example.com: connection refused (tried 3 times); check the name and the port, and that the registry runs"
		if !errdefs.IsUnavailable(err) || err.Error() != want {
			t.Errorf("got  %v\nwant %v", err, want)
		}
		// An unreachable host is remembered for a while.
		start := time.Now()
		if _, err := r.Resolve(t.Context(), "2"); !errdefs.IsUnavailable(err) || time.Since(start) != 0 {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		before := server.dials
		time.Sleep(time.Minute)
		if _, err := r.Resolve(t.Context(), "3"); !errdefs.IsUnavailable(err) || server.dials != before+3 {
			t.Errorf("%v after %d dials", err, server.dials-before)
		}
	})
	bubble(t, "no such host", func(t *testing.T, n *network) {
		_, err := repository(t, n.client(registry.Options{}), "nowhere.example.com/app").Resolve(t.Context(), "1")
		want := "resolve nowhere.example.com/app:1: nowhere.example.com: no such host; check the name, the network and the proxy"
		if !errdefs.IsUnavailable(err) || err.Error() != want {
			t.Errorf("got  %v\nwant %v", err, want)
		}
	})
}

// Whatever an operation waits for, it ends at once when its context does.
func TestCancel(t *testing.T) {
	tests := map[string]func(http.ResponseWriter, *http.Request, int) bool{
		"an answer": func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			<-r.Context().Done()
			return true
		},
		"another try": func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Retry-After", "100")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		},
	}
	stop := errors.New("interrupted")
	for name, before := range tests {
		bubble(t, name, func(t *testing.T, n *network) {
			n.add(host, nil).before = before
			r := repository(t, n.client(registry.Options{Concurrency: 1}), host+"/app")
			ctx, cancel := context.WithCancelCause(t.Context())
			errs := make(chan error)
			for range 3 { // the others wait for the slot of the first
				go func() {
					_, err := r.Resolve(ctx, "1")
					errs <- err
				}()
			}
			time.Sleep(time.Second)
			synctest.Wait()
			start := time.Now()
			cancel(stop)
			for range 3 {
				if err := <-errs; !errors.Is(err, stop) {
					t.Errorf("got %v", err)
				}
			}
			if took := time.Since(start); took != 0 {
				t.Errorf("took %s", took)
			}
			const want = "resolve " + host + "/app:1: interrupted"
			if _, err := r.Resolve(ctx, "1"); err == nil || err.Error() != want {
				t.Errorf("a request that is not sent: got  %v\nwant %s", err, want)
			}
		})
	}
}

// A registry that does not respond is given up after a while; the error states how long, for
// which request, and whether the caller's deadline ended it.
func TestStalled(t *testing.T) {
	desc, _ := blob(large, 1)
	errUp := errors.New("time is up")
	for name, test := range map[string]struct {
		fault   registrytest.Fault
		timeout time.Duration
		took    time.Duration // at most: delays between attempts are random
		notices int
		text    string
	}{
		"no answer": {
			registrytest.Hang(), 0, time.Minute + time.Second, 10,
			": upstream.example.com: no answer for 30s to GET /v2/lib/nginx/blobs/" + desc.Digest.String() + " (tried 2 times); try again later, and wait longer",
		},
		"within a blob": {
			registrytest.Stall(1000), 0, time.Minute + time.Second, 10,
			": upstream.example.com: nothing more came for 30s of GET /v2/lib/nginx/blobs/" + desc.Digest.String() + " (tried 2 times); try again later, and wait longer",
		},
		"no answer in time": {
			registrytest.Hang(), 12 * time.Second, 12 * time.Second, 2,
			": time is up; upstream.example.com: no answer for 12s to GET /v2/lib/nginx/blobs/" + desc.Digest.String(),
		},
		"within a blob in time": {
			registrytest.Stall(1000), 12 * time.Second, 12 * time.Second, 2,
			": time is up; upstream.example.com: nothing more came for 12s of GET /v2/lib/nginx/blobs/" + desc.Digest.String(),
		},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			ctx := t.Context()
			if test.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, test.timeout, errUp)
				defer cancel()
			}
			var notices []time.Duration
			x := newTransfer(t, n, large, nil, registry.Options{Waiting: func(host string, waited time.Duration) {
				if host == from {
					notices = append(notices, waited)
				}
			}})
			x.from.handler = registrytest.Misbehave(x.from.handler, registrytest.Is(registrytest.Blobs, http.MethodGet), test.fault)
			start := time.Now()
			_, err := x.client.CopyBlob(ctx, x.dst, x.src, desc, nil)
			if err == nil || !strings.HasSuffix(err.Error(), test.text) {
				t.Errorf("got  %v\nwant …%v", err, test.text)
			}
			if took := time.Since(start); took > test.took {
				t.Errorf("it took %s, at most %s", took, test.took)
			}
			if len(notices) != test.notices || notices[0] != 5*time.Second || notices[1] != 10*time.Second {
				t.Errorf("heard of it after %v, want %d times", notices, test.notices)
			}
		})
	}
}
