// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

func TestParseLimit(t *testing.T) {
	for text, want := range map[string]registry.Limits{
		"docker.io=5/s":       {"docker.io": 5},
		"127.0.0.1:5000=1/s":  {"127.0.0.1:5000": 1},
		"ex.io=90/m":          {"ex.io": 1.5},
		"ex.io":               nil,
		"=5/s":                nil,
		"ex.io/team=5/s":      nil,
		"https://ex.io=5/s":   nil,
		"ex.io=5":             nil,
		"ex.io=5/h":           nil,
		"ex.io=0/s":           nil,
		"ex.io=-1/s":          nil,
		"ex.io=1.5/s":         nil,
		"ex.io=many/s":        nil,
		"ex.io=99999999999/s": nil,
	} {
		host, limit, err := registry.ParseLimit(text)
		got := registry.Limits{host: limit}
		if err != nil {
			got = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", text, err, diff)
		}
	}
}

func TestShare(t *testing.T) {
	whole := registry.Limits{"a.example": 300, "b.example": 1}
	if diff := cmp.Diff(registry.Limits{"a.example": 75, "b.example": 0.25}, whole.Share(4)); diff != "" {
		t.Errorf("a quarter (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(whole, whole.Share(0)); diff != "" {
		t.Errorf("shared with nobody (-want +got):\n%s", diff)
	}
}

// Several clients that share a limit are never rejected by a quota of that size, and use most
// of it.
func TestLimitFitsQuota(t *testing.T) {
	for _, shards := range []int{1, 4, 20} {
		bubble(t, strconv.Itoa(shards), func(t *testing.T, n *network) {
			const quota, total = 300, 3000
			q := registrytest.NewQuota(registrytest.GGCR(), quota, time.Second)
			n.add(host, q)
			pushed(t, repository(t, n.client(registry.Options{}), host+"/app"), "1")
			time.Sleep(time.Second)
			start := time.Now()
			var wg sync.WaitGroup
			for range shards {
				r := repository(t, n.client(registry.Options{Limits: registry.Limits{host: quota}.Share(shards)}), host+"/app")
				for range 10 {
					wg.Go(func() {
						for range total / shards / 10 {
							if _, err := r.Digest(t.Context(), "1"); err != nil {
								t.Error(err)
							}
						}
					})
				}
			}
			wg.Wait()
			took := time.Since(start).Seconds()
			if s := q.Stats(); s.Refused > 0 || s.Requests != total+1 {
				t.Errorf("%d of %d requests were refused, %d in one second", s.Refused, s.Requests, s.Most)
			}
			if ratio := took * quota / total; ratio < 1 || ratio > 1.1 { // of fake time
				t.Errorf("took %.3f of what the quota allows", ratio)
			}
		})
	}
}

// Every request to a host counts: retries, requests for tokens, redirects from other hosts, and
// parts of an upload.
func TestLimitCountsEveryRequest(t *testing.T) {
	const limit = 2
	apart := time.Duration(float64(time.Second) / limit)
	sentApart := func(t *testing.T, s *times, requests int) {
		t.Helper()
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.at) != requests {
			t.Errorf("%d requests, want %d", len(s.at), requests)
		}
		for i := range s.at[1:] {
			if d := s.at[i+1].Sub(s.at[i]); d < apart {
				t.Errorf("request %d came %s after the one before", i+1, d)
			}
		}
	}
	bubble(t, "tried again", func(t *testing.T, n *network) {
		s := &times{next: registrytest.GGCR()}
		server := n.add(host, s)
		r := repository(t, n.client(registry.Options{Limits: registry.Limits{host: limit}}), host+"/app")
		server.before = func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 1 {
				s.note()
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return n == 1
		}
		pushed(t, r, "1")
		sentApart(t, s, 2)
	})
	bubble(t, "upload", func(t *testing.T, n *network) {
		s := &times{next: registrytest.GGCR()}
		n.add(host, s)
		r := repository(t, n.client(registry.Options{Limits: registry.Limits{"Registry.Example.com:80": limit}}), host+"/app")
		for seed := range byte(3) {
			desc, data := blob(2<<20, seed) // HEAD, POST and PUT
			if _, err := r.PushBlob(t.Context(), desc, func() (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(string(data))), nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		sentApart(t, s, 9)
	})
	bubble(t, "token", func(t *testing.T, n *network) {
		s := &times{next: &registrytest.Bearer{Next: registrytest.GGCR(), User: "user", Password: "secret"}}
		n.add(host, s)
		r := repository(t, n.client(registry.Options{
			Limits:      registry.Limits{host: limit},
			Credentials: func(string) (string, string, error) { return "user", "secret", nil },
		}), host+"/app")
		pushed(t, r, "1")
		sentApart(t, s, 3)
	})
	bubble(t, "redirected", func(t *testing.T, n *network) {
		const other = "storage.example.com"
		s := &times{next: registrytest.GGCR()}
		n.add(other, s)
		n.add(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+other+r.URL.Path, http.StatusTemporaryRedirect)
		}))
		client := n.client(registry.Options{Limits: registry.Limits{other: limit}})
		pushed(t, repository(t, client, other+"/app"), "1")
		for range 3 {
			if _, err := repository(t, client, host+"/app").Digest(t.Context(), "1"); err != nil {
				t.Fatal(err)
			}
		}
		sentApart(t, s, 4)
	})
	bubble(t, "docker.io", func(t *testing.T, n *network) {
		s := &times{next: registrytest.GGCR()}
		n.add("registry-1.docker.io", s)
		hosts := t.TempDir()
		if err := registrytest.WriteHosts(hosts, "docker.io", "registry-1.docker.io"); err != nil {
			t.Fatal(err)
		}
		client := n.client(registry.Options{HostsDir: hosts})
		r := repository(t, client, "library/app")
		pushed(t, r, "1")
		client.Limit(registry.Limits{"docker.io": 4})
		client.Limit(registry.Limits{"docker.io": limit}) // while it is in use
		for range 3 {
			time.Sleep(time.Second)
			pushed(t, r, "2")
			pushed(t, r, "3")
		}
		sentApart(t, s, 7)
	})
}

// times records the times of requests.
type times struct {
	next http.Handler
	mu   sync.Mutex
	at   []time.Time
}

func (s *times) note() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Now())
}

func (s *times) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.note()
	s.next.ServeHTTP(w, r)
}

// A request that is cancelled while it waits for its turn reports that, and leaves its turn to
// the next.
func TestLimitGivesUp(t *testing.T) {
	bubble(t, "", func(t *testing.T, n *network) {
		n.add(host, nil)
		r := repository(t, n.client(registry.Options{Limits: registry.Limits{host: 1.0 / 60}}), host+"/app")
		pushed(t, r, "1")
		start := time.Now()
		cause := errors.New("not done in time")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, cause)
		defer cancel()
		_, err := r.Digest(ctx, "1")
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "waiting for the limit of "+host) {
			t.Errorf("given up with: %v", err)
		}
		if _, err := r.Digest(t.Context(), "1"); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 64*time.Second { // of fake time
			t.Errorf("the next one waited %s", took)
		}
	})
}

// A timer counts the time that the registry takes, not the time that requests wait for their
// turn.
func TestTimer(t *testing.T) {
	cause := errors.New("too long")
	bubble(t, "waits for its turn", func(t *testing.T, n *network) {
		n.add(host, registrytest.Delay(registrytest.GGCR(), 100*time.Millisecond))
		client := n.client(registry.Options{Limits: registry.Limits{host: 0.1}, Concurrency: 1})
		r := repository(t, client, host+"/app")
		pushed(t, r, "1")
		ctx, timer := registry.WithTimer(t.Context(), time.Second, cause)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := r.Digest(ctx, "1"); err != nil {
					t.Error(err)
				}
			})
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); took < 50*time.Second {
			t.Errorf("five requests took %s with a limit of one in ten seconds", took)
		}
		if used := timer.Stop(); used > time.Second {
			t.Errorf("the timer counted %s", used)
		}
		if ctx.Err() == nil {
			t.Error("the context of a timer that was stopped goes on")
		}
	})
	bubble(t, "waits for the registry", func(t *testing.T, n *network) {
		n.add(host, registrytest.Misbehave(registrytest.GGCR(), registrytest.Is(registrytest.Manifests, http.MethodHead), registrytest.Hang()))
		r := repository(t, n.client(registry.Options{Limits: registry.Limits{host: 0.1}}), host+"/app")
		pushed(t, r, "1")
		ctx, timer := registry.WithTimer(t.Context(), time.Second, cause)
		if _, err := r.Digest(ctx, "1"); !errors.Is(err, cause) {
			t.Errorf("given up with: %v", err)
		}
		if used := timer.Stop(); used != time.Second {
			t.Errorf("the timer counted %s", used)
		}
	})
}

const shardVariable = "TAPE_TEST_SHARD"

// Processes that do not coordinate share a quota: each has a part of the limit.
func TestLimitSharedByProcesses(t *testing.T) {
	const quota, shards, requests = 400, 4, 200
	if addr := os.Getenv(shardVariable); addr != "" {
		client, err := registry.New(registry.Options{Limits: registry.Limits{addr: quota}.Share(shards)})
		if err != nil {
			t.Fatal(err)
		}
		r := repository(t, client, addr+"/app")
		var wg sync.WaitGroup
		for range 4 { // in flight at once, so that a stalled machine shifts few of them into another window
			wg.Go(func() {
				for range requests / 4 {
					if _, err := r.Digest(t.Context(), "1"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return
	}
	t.Parallel()
	q := registrytest.NewQuota(registrytest.GGCR(), quota, time.Second)
	addr := registrytest.Serve(t, q)
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pushed(t, repository(t, client, addr+"/app"), "1")
	var wg sync.WaitGroup
	for range shards {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s", shardVariable, addr))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	s := q.Stats()
	t.Logf("%+v", s)
	if s.Refused*1000 > s.Requests || s.Requests-s.Refused != shards*requests+1 {
		t.Errorf("%d of %d requests were refused, %d came in one second", s.Refused, s.Requests, s.Most)
	}
}
