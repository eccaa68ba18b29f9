// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/taped-dev/tape/engine/registry"
)

const host = "registry.example.com"

// pushed puts a tagged manifest into a repository.
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
			"resolve registry.example.com/app:1: registry.example.com: 503 Service Unavailable (tried 6 times); try again later; if it stays, ask whoever runs the registry or a proxy before it",
		},
		"bad gateway of a proxy": {
			func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.WriteHeader(http.StatusBadGateway)
				fmt.Fprint(w, "<html>nginx</html>")
				return true
			},
			6, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: 502 Bad Gateway (tried 6 times); try again later; if it stays, ask whoever runs the registry or a proxy before it",
		},
		"comes back tomorrow": {
			func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.Header().Set("Retry-After", "86400")
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			},
			1, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: 429 Too Many Requests; it asks to come back in 24h0m0s; wait, log in for a higher limit, or lower --concurrency",
		},
		"hangs": {
			func(_ http.ResponseWriter, r *http.Request, _ int) bool {
				<-r.Context().Done()
				return true
			},
			3, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: it hangs: nothing came or went for too long (tried 3 times); try again later; if it stays, ask whoever runs the registry or a proxy before it",
		},
		"cuts": {
			func(http.ResponseWriter, *http.Request, int) bool { cut(); return true },
			6, errdefs.ErrUnavailable,
			"resolve registry.example.com/app:1: registry.example.com: the connection broke off (tried 6 times); try again later; if it stays, ask whoever runs the registry or a proxy before it",
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
			"resolve registry.example.com/app:1: registry.example.com: 403 Forbidden: not you; check what your account may do there, or log in with another: docker login registry.example.com",
		},
		"wants credentials": {
			func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			},
			1, errdefs.ErrUnauthenticated,
			"resolve registry.example.com/app:1: registry.example.com: it does not exist or needs credentials; log in with: docker login registry.example.com",
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
		n.add(host, nil).down = true
		client := n.client(registry.Options{})
		r := repository(t, client, host+"/app")
		_, err := r.Resolve(t.Context(), "1")
		want := "resolve registry.example.com/app:1: registry.example.com: connection refused (tried 3 times); check the name and the port, and that the registry runs"
		if !errdefs.IsUnavailable(err) || err.Error() != want {
			t.Errorf("got  %v\nwant %v", err, want)
		}
		// That it is down is remembered for a while.
		start := time.Now()
		if _, err := r.Resolve(t.Context(), "2"); !errdefs.IsUnavailable(err) || time.Since(start) != 0 {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		before := client.Stats().Requests
		time.Sleep(time.Minute)
		if _, err := r.Resolve(t.Context(), "3"); !errdefs.IsUnavailable(err) || client.Stats().Requests != before+3 {
			t.Errorf("%v after %d requests", err, client.Stats().Requests-before)
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
			for range 3 { // the others wait for the first one's place
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
		})
	}
}
