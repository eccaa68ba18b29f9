// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/taped-dev/tape/engine/cache/remote"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

var (
	key   = digest.FromString("key")
	other = digest.FromString("other key")
)

// documents returns the documents of an entry: empty, small, large and repetitive, and with odd
// names.
func documents() map[string][]byte {
	return map[string][]byte{"": {}, "a/b:c\n": []byte("small"), "large": bytes.Repeat([]byte("kind: Pod\n"), 2_000)}
}

// lines counts log records by level.
type lines struct {
	mu  sync.Mutex
	all map[slog.Level][]string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	if l.all == nil {
		l.all = map[slog.Level][]string{}
	}
	l.all[r.Level] = append(l.all[r.Level], text)
	return nil
}

func (l *lines) of(level slog.Level) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[level]
}

// bubble runs a test with fake time and registries in memory.
func bubble(t *testing.T, name string, test func(t *testing.T, n *network)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := &network{}
			defer time.Sleep(time.Second) // http.Server keeps a connection open for half a second
			defer n.close()
			test(t, n)
		})
	})
}

// network serves one registry over pipes.
type network struct {
	mu    sync.Mutex
	conns []net.Conn
}

// repository returns a repository of the registry, with a limit on the rate of requests; 0
// means no limit.
func (n *network) repository(t *testing.T, handler http.Handler, limit registry.Rate) *registry.Repository {
	t.Helper()
	const host = "registry.example"
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.conns = append(n.conns, ours, theirs)
		server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
		go server.Serve(&once{conn: theirs}) // it ends with the connection
		return ours, nil
	}
	limits := registry.Limits{}
	if limit > 0 {
		limits[host] = limit
	}
	client, err := registry.New(registry.Options{
		Limits: limits, DialContext: dial, PlainHTTP: []string{host}, Credentials: func(string) (string, string, error) { return "", "", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := client.Repository(host + "/ci/cache")
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		conn.Close()
	}
}

// once is a listener for a single connection.
type once struct {
	mu   sync.Mutex
	conn net.Conn
}

// Accept implements [net.Listener].
func (o *once) Accept() (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == nil {
		return nil, net.ErrClosed
	}
	conn := o.conn
	o.conn = nil
	return conn, nil
}

// Close implements [net.Listener].
func (o *once) Close() error { return nil }

// Addr implements [net.Listener].
func (o *once) Addr() net.Addr { return &net.TCPAddr{} }

// repository returns a repository of the registry at an address, with its own client.
func repository(t *testing.T, addr string) *registry.Repository {
	t.Helper()
	client, err := registry.New(registry.Options{Credentials: func(string) (string, string, error) { return "", "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := client.Repository(addr + "/ci/cache")
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func keyPair(t *testing.T) (signature.Signer, signature.Verifier) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.LoadDefaultSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := signature.LoadDefaultVerifier(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func put(t *testing.T, c *remote.Cache, key digest.Digest, documents map[string][]byte) {
	t.Helper()
	if err := c.Put(t.Context(), key, documents); err != nil {
		t.Fatal(err)
	}
}

func TestPutGet(t *testing.T) {
	for name, handler := range map[string]http.Handler{"distribution": registrytest.Distribution(""), "ggcr": registrytest.GGCR()} {
		t.Run(name, func(t *testing.T) {
			counted := registrytest.Count(handler)
			addr := registrytest.Serve(t, counted)
			signer, verifier := keyPair(t)
			_, second := keyPair(t)
			log := &lines{}
			o := remote.Options{Signer: signer, Trust: []signature.Verifier{second, verifier}, Log: slog.New(log)}
			if _, err := remote.New(repository(t, addr), o).Get(t.Context(), key); !errdefs.IsNotFound(err) {
				t.Fatalf("get from nothing: %v", err)
			}
			if n := counted.Reset().Total(); n != 1 {
				t.Errorf("a miss took %d requests, want 1", n)
			}
			put(t, remote.New(repository(t, addr), o), key, documents())
			if s := counted.Reset(); s.Total() > 3 {
				t.Errorf("putting took %d requests: %v", s.Total(), s.Requests)
			}
			got, err := remote.New(repository(t, addr), o).Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(documents(), got); diff != "" {
				t.Errorf("documents differ (-want +got):\n%s", diff)
			}
			if s := counted.Reset(); s.Total() > 2 || s.Bytes["GET blobs"] > 5_000 {
				t.Errorf("getting took %d requests: %v, %v", s.Total(), s.Requests, s.Bytes)
			}
			// A later entry of the key replaces it, also for the same client.
			c := remote.New(repository(t, addr), o)
			for i := range 3 {
				want := map[string][]byte{"x": fmt.Append(nil, i)}
				put(t, c, key, want)
				if got, err := c.Get(t.Context(), key); err != nil || !cmp.Equal(want, got) {
					t.Errorf("put %d: got %q, %v", i, got, err)
				}
			}
			if _, err := c.Get(t.Context(), other); !errdefs.IsNotFound(err) {
				t.Errorf("get of another key: %v", err)
			}
			if warned := log.of(slog.LevelWarn); len(warned) > 0 {
				t.Errorf("warned: %q", warned)
			}
		})
	}
}

func TestManyPutsTakeThreeRequestsEach(t *testing.T) {
	counted := registrytest.Count(registrytest.Distribution("")) // which has a goroutine that never ends
	bubble(t, "puts", func(t *testing.T, n *network) {
		c := remote.New(n.repository(t, counted, 0), remote.Options{})
		const entries = 50
		var wg sync.WaitGroup
		for i := range entries {
			wg.Go(func() {
				if err := c.Put(t.Context(), digest.FromString(fmt.Sprint(i)), documents()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s := counted.Reset(); s.Total() > 3*entries {
			t.Errorf("%d requests for %d entries: %v", s.Total(), entries, s.Requests)
		}
	})
}

func TestMisuse(t *testing.T) {
	addr := registrytest.Serve(t, registrytest.GGCR())
	c := remote.New(repository(t, addr), remote.Options{})
	for _, key := range []digest.Digest{"", "sha256:../../x", "md5:abc", digest.SHA512.FromString("long")} {
		if _, err := c.Get(t.Context(), key); !errdefs.IsInvalidArgument(err) {
			t.Errorf("get %q: %v", key, err)
		}
		if err := c.Put(t.Context(), key, documents()); !errdefs.IsInvalidArgument(err) {
			t.Errorf("put %q: %v", key, err)
		}
	}
	if err := c.Put(t.Context(), key, map[string][]byte{"x": make([]byte, 65<<20)}); !errdefs.IsOutOfRange(err) {
		t.Errorf("put of too much: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, key); err == nil || errdefs.IsNotFound(err) {
		t.Errorf("get after the end: %v", err)
	}
}

// rewrite is a registry that serves other manifests than were pushed.
func rewrite(next http.Handler, change func(m *ocispec.Manifest)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || !registrytest.Is(registrytest.Manifests)(r) {
			next.ServeHTTP(w, r)
			return
		}
		var m ocispec.Manifest
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			panic(err)
		}
		change(&m)
		data, err := json.Marshal(m)
		if err != nil {
			panic(err)
		}
		answer := &digestless{ResponseWriter: w}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
		next.ServeHTTP(answer, r)
	})
}

// digestless is a registry that does not return the digest of what it stored.
type digestless struct{ http.ResponseWriter }

func (w *digestless) WriteHeader(code int) {
	w.Header().Del("Docker-Content-Digest")
	w.ResponseWriter.WriteHeader(code)
}

// Any problem with an entry is a miss and one warning, and so is any problem after it.
func TestUnusableEntry(t *testing.T) {
	signer, verifier := keyPair(t)
	stranger, _ := keyPair(t)
	trusted := remote.Options{Signer: signer, Trust: []signature.Verifier{verifier}}
	annotate := func(name, value string) func(m *ocispec.Manifest) {
		return func(m *ocispec.Manifest) { m.Annotations["vnd.tape.cache."+name] = value }
	}
	for name, test := range map[string]struct {
		writer remote.Options
		change func(m *ocispec.Manifest)
		silent bool
		want   string
	}{
		"unsigned":           {writer: remote.Options{}, want: "it is not signed"},
		"signed by stranger": {writer: remote.Options{Signer: stranger}, want: "not signed by a trusted key"},
		"expired":            {writer: remote.Options{Signer: signer, Now: func() time.Time { return time.Now().Add(-31 * 24 * time.Hour) }}, silent: true, want: "expired"},
		"expired, prolonged": {
			writer: remote.Options{Signer: signer, Now: func() time.Time { return time.Now().Add(-31 * 24 * time.Hour) }},
			change: annotate("expires", "2999-01-01T00:00:00Z"), want: "not signed by a trusted key",
		},
		"never expires":     {writer: trusted, change: annotate("expires", "never"), want: "does not state when it expires"},
		"of another key":    {writer: trusted, change: annotate("key", other.String()), want: "it belongs to the key"},
		"signature garbled": {writer: trusted, change: annotate("signature", "!"), want: "it is not signed"},
		"another pack": {writer: trusted, change: func(m *ocispec.Manifest) {
			m.Layers[0].MediaType = "application/vnd.tape.cache.pack.v1"
		}, want: "its pack"},
		"unknown pack": {writer: trusted, change: func(m *ocispec.Manifest) { m.Layers[0].MediaType += "2" }, want: "unknown type"},
		"huge":         {writer: trusted, change: func(m *ocispec.Manifest) { m.Layers[0].Size = 1 << 40 }, want: "of at most"},
		"negative":     {writer: trusted, change: func(m *ocispec.Manifest) { m.Layers[0].Size = -1 }, want: "of at most"},
		"no layer":     {writer: trusted, change: func(m *ocispec.Manifest) { m.Layers = nil }, want: "not an entry of this version"},
		"an image":     {writer: trusted, change: func(m *ocispec.Manifest) { m.ArtifactType = "" }, want: "not an entry of this version"},
		"next version": {writer: trusted, change: func(m *ocispec.Manifest) { m.ArtifactType = "application/vnd.tape.cache.entry.v2" }, want: "not an entry of this version"},
	} {
		t.Run(name, func(t *testing.T) {
			handler := registrytest.GGCR()
			if test.change != nil {
				handler = rewrite(handler, test.change)
			}
			addr := registrytest.Serve(t, handler)
			put(t, remote.New(repository(t, addr), test.writer), key, documents())

			log := &lines{}
			c := remote.New(repository(t, addr), remote.Options{Trust: trusted.Trust, Log: slog.New(log)})
			for range 3 {
				_, err := c.Get(t.Context(), key)
				if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("get: %v, want %q", err, test.want)
				}
			}
			if n := len(log.of(slog.LevelWarn)); n != 1 && !test.silent || n > 0 && test.silent {
				t.Errorf("warned %d times: %q", n, log.of(slog.LevelWarn))
			}
			// A new entry replaces it, and is used.
			if test.change == nil {
				put(t, remote.New(repository(t, addr), trusted), key, documents())
				if _, err := c.Get(t.Context(), key); err != nil {
					t.Errorf("get after it was put again: %v", err)
				}
			}
		})
	}
}

// A fault of the registry is a miss and one warning; the run continues, and does not wait
// longer than it may.
func TestFaultyRegistry(t *testing.T) {
	manifests, blobs := registrytest.Is(registrytest.Manifests, http.MethodGet), registrytest.Is(registrytest.Blobs, http.MethodGet)
	all := func(*http.Request) bool { return true }
	for name, test := range map[string]struct {
		when registrytest.Match
		how  registrytest.Fault
		most int // requests for ten misses
	}{
		"gone":          {all, registrytest.Refuse(), 30},
		"hangs":         {all, registrytest.Hang(), 6},
		"unavailable":   {all, registrytest.Status(http.StatusServiceUnavailable), 30},
		"not permitted": {all, registrytest.Status(http.StatusForbidden), 1},
		"a web page":    {all, registrytest.Status(http.StatusOK, "Content-Type", "text/html"), 10},
		"torn":          {blobs, registrytest.Truncate(10), 60},
		"cut":           {blobs, registrytest.Cut(10), 60},
		"trickles":      {blobs, registrytest.Stall(10), 10},
		"poisoned":      {blobs, registrytest.Corrupt(100), 60},
		"pack is gone":  {blobs, registrytest.Status(http.StatusNotFound), 10},
		"torn manifest": {manifests, registrytest.Corrupt(3), 60},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			inner := registrytest.GGCR()
			put(t, remote.New(n.repository(t, inner, 0), remote.Options{}), key, documents())
			counted := registrytest.Count(registrytest.Misbehave(inner, test.when, test.how))
			log := &lines{}
			c := remote.New(n.repository(t, counted, 0), remote.Options{Log: slog.New(log)})
			start := time.Now()
			for range 10 {
				if _, err := c.Get(t.Context(), key); !errdefs.IsNotFound(err) {
					t.Errorf("get: %v", err)
				}
			}
			if warned := log.of(slog.LevelWarn); len(warned) != 1 {
				t.Errorf("warned %d times: %q", len(warned), warned)
			}
			if n := counted.Stats().Total(); n > test.most {
				t.Errorf("%d requests for ten misses", n)
			}
			if took := time.Since(start); took > 10*time.Second { // of fake time
				t.Errorf("waited %s for ten misses", took)
			}
		})
	}
}

// A slow registry is used, but not for long; waiting for the client's own limit does not count.
func TestSlowRegistry(t *testing.T) {
	for name, test := range map[string]struct {
		delay   time.Duration
		limit   registry.Rate
		hits    int // of ten
		warned  int
		slowest time.Duration
	}{
		"fast":          {0, 0, 10, 0, time.Second},
		"a second each": {900 * time.Millisecond, 0, 10, 0, 20 * time.Second},
		"slow":          {2 * time.Second, 0, 2, 1, 10 * time.Second},
		"too slow":      {3 * time.Second, 0, 0, 1, 10 * time.Second},
		"own limit":     {0, 0.1, 10, 0, 4 * time.Minute},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			inner := registrytest.GGCR()
			put(t, remote.New(n.repository(t, inner, 0), remote.Options{}), key, documents())
			log := &lines{}
			c := remote.New(n.repository(t, registrytest.Delay(inner, test.delay), test.limit), remote.Options{Log: slog.New(log)})
			start, hits := time.Now(), 0
			for range 10 {
				if _, err := c.Get(t.Context(), key); err == nil {
					hits++
				}
			}
			took := time.Since(start)
			if warned := log.of(slog.LevelWarn); hits != test.hits || took > test.slowest || len(warned) != test.warned {
				t.Errorf("%d hits in %s, warned %q", hits, took, warned)
			}
		})
	}
}

func TestWhereItMayNotWrite(t *testing.T) {
	writes := func(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }
	for name, test := range map[string]struct {
		how    registrytest.Fault
		most   int // requests for ten puts
		warned int
	}{
		"read-only": {registrytest.Status(http.StatusForbidden), 1, 0},
		"full":      {registrytest.Status(http.StatusInsufficientStorage), 30, 1},
		"too large": {registrytest.Status(http.StatusRequestEntityTooLarge), 3, 1},
		"no writes": {registrytest.Status(http.StatusMethodNotAllowed), 3, 1},
	} {
		bubble(t, name, func(t *testing.T, n *network) {
			inner := registrytest.GGCR()
			put(t, remote.New(n.repository(t, inner, 0), remote.Options{}), key, documents())
			counted := registrytest.Count(registrytest.Misbehave(inner, writes, test.how))
			log := &lines{}
			c := remote.New(n.repository(t, counted, 0), remote.Options{Log: slog.New(log)})
			start := time.Now()
			for range 10 {
				if err := c.Put(t.Context(), other, documents()); err == nil {
					t.Error("put succeeded")
				}
			}
			if n := counted.Reset().Total(); n > test.most {
				t.Errorf("%d requests for ten puts", n)
			}
			if took := time.Since(start); took > 10*time.Second { // of fake time
				t.Errorf("waited %s for ten puts", took)
			}
			if got, err := c.Get(t.Context(), key); err != nil || !cmp.Equal(documents(), got) {
				t.Errorf("it is not read any more: %v", err)
			}
			if warned := log.of(slog.LevelWarn); len(warned) != test.warned {
				t.Errorf("warned: %q", warned)
			}
		})
	}
	t.Run("as it is told", func(t *testing.T) {
		_, verifier := keyPair(t)
		for _, c := range []func(*registry.Repository) *remote.Cache{
			func(r *registry.Repository) *remote.Cache { return remote.New(r, remote.Options{ReadOnly: true}) },
			func(r *registry.Repository) *remote.Cache { return remote.New(r, remote.Options{}).ReadOnly() },
			func(r *registry.Repository) *remote.Cache {
				return remote.New(r, remote.Options{Trust: []signature.Verifier{verifier}})
			},
		} {
			counted := registrytest.Count(registrytest.GGCR())
			if err := c(repository(t, registrytest.Serve(t, counted))).Put(t.Context(), key, documents()); !errdefs.IsPermissionDenied(err) {
				t.Errorf("put: %v", err)
			}
			if n := counted.Stats().Total(); n > 0 {
				t.Errorf("%d requests", n)
			}
		}
	})
	t.Run("immutable tags", func(t *testing.T) {
		inner := registrytest.GGCR()
		addr := registrytest.Serve(t, registrytest.Misbehave(inner, registrytest.After(1, registrytest.Is(registrytest.Manifests, http.MethodPut)), registrytest.Status(http.StatusConflict)))
		log := &lines{}
		for i := range 3 {
			put(t, remote.New(repository(t, addr), remote.Options{Log: slog.New(log)}), key, map[string][]byte{"x": fmt.Append(nil, i)})
		}
		if got, err := remote.New(repository(t, addr), remote.Options{}).Get(t.Context(), key); err != nil || string(got["x"]) != "0" {
			t.Errorf("got %q, %v", got, err)
		}
		if warned := log.of(slog.LevelWarn); len(warned) > 0 {
			t.Errorf("warned: %q", warned)
		}
	})
}
