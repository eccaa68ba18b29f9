// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// network is a set of registries in memory, by host. In a bubble of testing/synctest, waiting
// takes no real time, and exactly as long as it should.
type network struct {
	t     *testing.T
	mu    sync.Mutex
	hosts map[string]*registryServer
	conns []net.Conn
	// forward is the address of a real server that replaces every host.
	forward string
}

// registryServer is a registry that counts requests.
type registryServer struct {
	handler http.Handler
	// before may handle a request instead of the registry. n counts the requests with this
	// method and path, from 1.
	before func(w http.ResponseWriter, r *http.Request, n int) (answered bool)
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
	down   bool // it does not listen
	refuse int  // number of dials before it listens
	dials  int  // guarded by network.mu

	mu       sync.Mutex
	seen     []string // "GET /v2/…"
	headers  []http.Header
	counts   map[string]int
	flying   int
	together int // most concurrent requests
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, hosts: map[string]*registryServer{}}
}

// add adds a registry to the network: nil is go-containerregistry's, with the referrers API.
func (n *network) add(host string, handler http.Handler) *registryServer {
	if handler == nil {
		handler = registrytest.GGCR()
	}
	s := &registryServer{handler: handler, conns: make(chan net.Conn), closed: make(chan struct{}), counts: map[string]int{}}
	s.server = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	n.hosts[host] = s
	go s.server.Serve(s)
	return s
}

func (n *network) close() {
	for _, s := range n.hosts {
		s.server.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		conn.Close()
	}
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if n.forward != "" {
		return (&net.Dialer{}).DialContext(ctx, "tcp", n.forward)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s, ok := n.hosts[host]
	if !ok {
		s, ok = n.hosts[net.JoinHostPort(host, port)]
	}
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	n.mu.Lock()
	s.dials++
	refused := s.refuse > 0
	if refused {
		s.refuse--
	}
	n.mu.Unlock()
	if s.down || refused {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	n.mu.Lock()
	n.conns = append(n.conns, ours, theirs)
	n.mu.Unlock()
	select {
	case s.conns <- theirs:
		return ours, nil
	case <-s.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// client returns a client that reaches every registry on the network by plain http.
func (n *network) client(options registry.Options) *registry.Client {
	n.t.Helper()
	options.DialContext = n.dial
	if options.Credentials == nil {
		options.Credentials = func(string) (string, string, error) { return "", "", nil }
	}
	if options.PlainHTTP == nil {
		for host := range n.hosts {
			options.PlainHTTP = append(options.PlainHTTP, host)
		}
	}
	client, err := registry.New(options)
	if err != nil {
		n.t.Fatal(err)
	}
	return client
}

// Accept implements [net.Listener].
func (s *registryServer) Accept() (net.Conn, error) {
	select {
	case conn := <-s.conns:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (s *registryServer) Close() error {
	defer func() { _ = recover() }() // closed twice by http.Server
	close(s.closed)                  // and not conns, which a client may be dialling
	return nil
}

// Addr implements [net.Listener].
func (s *registryServer) Addr() net.Addr { return &net.TCPAddr{} }

func (s *registryServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.seen = append(s.seen, key)
	s.headers = append(s.headers, r.Header.Clone())
	s.counts[key]++
	n := s.counts[key]
	s.flying++
	s.together = max(s.together, s.flying)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.flying--
		s.mu.Unlock()
	}()
	if s.before != nil && s.before(w, r, n) {
		return
	}
	s.handler.ServeHTTP(w, r)
}

// requests returns the requests whose "METHOD path" contains all parts.
func (s *registryServer) requests(parts ...string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
next:
	for _, r := range s.seen {
		for _, part := range parts {
			if !strings.Contains(r, part) {
				continue next
			}
		}
		out = append(out, r)
	}
	return out
}

func (s *registryServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.headers, s.counts, s.together = nil, nil, map[string]int{}, 0
}

// cut breaks the connection.
func cut() { panic(http.ErrAbortHandler) }

// bubble runs a test with fake time.
func bubble(t *testing.T, name string, test func(t *testing.T, n *network)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			defer time.Sleep(time.Second) // http.Server keeps a connection open for half a second
			defer n.close()
			test(t, n)
		})
	})
}

func repository(t *testing.T, client *registry.Client, name string) *registry.Repository {
	t.Helper()
	r, err := client.Repository(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func source(t *testing.T, client *registry.Client, name string) *registry.Repository {
	t.Helper()
	r, err := client.Source(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// blob returns a blob of a size, and its descriptor. The same size and seed give the same blob.
func blob(size int, seed byte) (ocispec.Descriptor, []byte) {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i>>8) ^ byte(i) ^ seed
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(data), Size: int64(size)}, data
}

func manifestOf(text string) (ocispec.Descriptor, []byte) {
	data := []byte(text)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}, data
}

// plain returns the manifest of an image, which is different for each name.
func plain(name string) (ocispec.Descriptor, []byte) {
	return manifestOf(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[],"annotations":{"name":%q}}`,
		ocispec.MediaTypeImageManifest, emptyConfig, name))
}

const emptyConfig = `{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`

// twoRequests returns a registry that accepts a blob only with the two requests of an
// upload, as most do. It ignores a blob in the first request.
func twoRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query := r.URL.Query(); r.Method == http.MethodPost && query.Has("digest") {
			query.Del("digest")
			r.URL.RawQuery = query.Encode()
			r.Body, r.ContentLength = http.NoBody, 0
		}
		next.ServeHTTP(w, r)
	})
}
