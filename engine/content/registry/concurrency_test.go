// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// resolveAll resolves a tag many times concurrently.
func resolveAll(t *testing.T, r *registry.Repository, times int) {
	t.Helper()
	var wg sync.WaitGroup
	for range times {
		wg.Go(func() {
			if _, err := r.Resolve(t.Context(), "1"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestConcurrency(t *testing.T) {
	const delay = 20 * time.Millisecond
	bubble(t, "grows", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		client := n.client(registry.Options{})
		r := repository(t, client, host+"/app")
		pushed(t, r, "1")
		s.handler = registrytest.Delay(s.handler, delay)
		s.forget()
		start := time.Now()
		// 16, 32, and from then on 64 concurrent requests.
		resolveAll(t, r, 16+32+3*64)
		if s.together != 64 {
			t.Errorf("%d at once, want 64", s.together)
		}
		if took := time.Since(start); took != 5*delay {
			t.Errorf("took %s, want %s", took, 5*delay)
		}
	})
	bubble(t, "is fixed", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		r := repository(t, n.client(registry.Options{Concurrency: 3}), host+"/app")
		pushed(t, r, "1")
		s.handler = registrytest.Delay(s.handler, delay)
		s.forget()
		resolveAll(t, r, 100)
		if s.together != 3 {
			t.Errorf("%d at once, want 3", s.together)
		}
	})
	bubble(t, "gives way", func(t *testing.T, n *network) {
		// A registry that accepts four concurrent requests, and responds with 429 to others.
		s := n.add(host, nil)
		r := repository(t, n.client(registry.Options{}), host+"/app")
		pushed(t, r, "1")
		delayed, refused := registrytest.Delay(s.handler, delay), 0
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			busy := s.flying > 4
			if busy {
				refused++
			}
			s.mu.Unlock()
			if busy {
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			delayed.ServeHTTP(w, r)
		})
		resolveAll(t, r, 100)
		if refused > 80 {
			t.Errorf("%d requests refused", refused)
		}
	})
	bubble(t, "of a host, not of all", func(t *testing.T, n *network) {
		hosts := []string{"a.example.com", "b.example.com"}
		client := n.client(registry.Options{Concurrency: 1, PlainHTTP: hosts})
		for _, host := range hosts {
			s := n.add(host, nil)
			pushed(t, repository(t, client, host+"/app"), "1")
			s.handler = registrytest.Delay(s.handler, delay)
		}
		start := time.Now()
		var wg sync.WaitGroup
		for _, host := range hosts {
			wg.Go(func() { resolveAll(t, source(t, client, host+"/app"), 10) })
		}
		wg.Wait()
		if took := time.Since(start); took != 10*delay {
			t.Errorf("took %s", took)
		}
	})
}

// A streaming body does not block requests, and the maximum number of transfers leaves room for
// them.
func TestStreamsHoldNoPlace(t *testing.T) {
	bubble(t, "while transfers wait", func(t *testing.T, n *network) {
		x := newTransfer(t, n, large, nil, registry.Options{Concurrency: 1})
		resume := make(chan struct{})
		handler := x.from.handler
		x.from.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				w.Write(x.data[:1000])
				http.NewResponseController(w).Flush()
				<-resume
				w.Write(x.data[1000:])
				return
			}
			handler.ServeHTTP(w, r)
		})
		pushed(t, x.dst, "1")
		done := make(chan error)
		go func() {
			_, err := x.copy(t.Context())
			done <- err
		}()
		time.Sleep(time.Second) // the transfer waits for its source
		if _, err := x.dst.Resolve(t.Context(), "1"); err != nil {
			t.Error(err)
		}
		if _, err := x.src.Resolve(t.Context(), "none"); err == nil {
			t.Error("no error")
		}
		close(resume)
		if err := <-done; err != nil {
			t.Error(err)
		}
		x.landed(t)
	})
}

// Each blob is read once and written once, however many are copied. A small one takes one
// request to a registry that is known to support it.
func TestRequestsOfManyBlobs(t *testing.T) {
	for name, test := range map[string]struct {
		to       http.Handler
		requests string // reads, POST and PUT of uploads, all at the destination
	}{
		"one request":  {registrytest.GGCR(), "50 50 0 50"},
		"two requests": {twoRequests(registrytest.GGCR()), "50 50 50 100"},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			x := newTransfer(t, n, small, test.to, registry.Options{})
			upstream := repository(t, x.client, from+"/lib/nginx")
			for i := range 50 {
				desc, data := blob(small+i, 2)
				push(t, upstream, desc, data)
			}
			if _, err := x.copy(t.Context()); err != nil {
				t.Fatal(err)
			}
			x.from.forget()
			x.to.forget()
			var wg sync.WaitGroup
			for i := range 50 {
				desc, _ := blob(small+i, 2)
				wg.Go(func() {
					if how, err := x.client.CopyBlob(t.Context(), x.dst, x.src, desc, nil); err != nil || how != registry.Streamed {
						t.Errorf("CopyBlob = %v, %v", how, err)
					}
				})
			}
			wg.Wait()
			if got := fmt.Sprint(len(x.from.requests()), len(x.to.requests("POST ")), len(x.to.requests("PUT ")), len(x.to.requests())); got != test.requests {
				t.Errorf("requests %s, want %s", got, test.requests)
			}
		})
	}
}

// One blob finds out whether a registry accepts blobs in one request; concurrent transfers do
// not wait for it.
func TestOneFindsOut(t *testing.T) {
	bubble(t, "many at once", func(t *testing.T, n *network) {
		s := n.add(host, nil)
		resume := make(chan struct{})
		s.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.URL.Query().Has("digest") && r.Method == http.MethodPost {
				<-resume
			}
			return false
		}
		r := repository(t, n.client(registry.Options{}), host+"/app")
		var wg sync.WaitGroup
		for i := range 10 {
			desc, data := blob(small+i, 2)
			wg.Go(func() { push(t, r, desc, data) })
		}
		time.Sleep(time.Second)
		if posts, puts := len(s.requests("POST ")), len(s.requests("PUT ")); posts != 10 || puts != 9 {
			t.Errorf("%d POST and %d PUT, want 10 and 9", posts, puts)
		}
		close(resume)
		wg.Wait()
	})
}
