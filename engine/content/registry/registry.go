// SPDX-License-Identifier: Apache-2.0

// Package registry implements the protocol of OCI registries. containerd reads
// hosts.toml with its mirrors and requests tokens (core/remotes/docker); the rest of
// the protocol is here:
//
//   - A request that is refused temporarily (408, 429, 5xx) or breaks off is
//     repeated after growing pauses, and not before its Retry-After. One without
//     any activity for [Options.Patience] counts as broken.
//   - Each host gets a bounded number of concurrent requests, which grows until the
//     host answers 429. A request counts until its answer begins, so that no
//     request that has a place waits for another; bodies do not count.
//   - A host with a limit ([Options.Limits]) gets at most that many requests per
//     second, evenly spaced. Repeated requests count, and so do those for tokens
//     and those that another host redirects to it.
//   - A blob is verified while it is read. Its end is held back until size and
//     digest are right, so that no reader gets all of a wrong blob. A broken
//     download is resumed, a broken upload starts again.
//   - Credentials and tokens are sent only to the scheme, host and port that they
//     are for, not to the targets of redirections or to locations for uploads.
//   - A request succeeded if the specification defines its status as success, or if
//     the registry confirms it. A web page is not a success.
//   - Manifests and small blobs are written with one request each, without asking
//     first. If a registry does not accept blobs that way, which the first one
//     shows, they are written with the two requests of an upload.
//   - In registries without the referrers API, referrers are read and written under
//     the tag sha256-<hex> of the distribution specification 1.1.
//
// [Client.Source] reads through mirrors. [Client.Repository] always accesses the
// registry in its name, because a mirror could return other content than the
// repository that is written to.
//
// Errors name the registry, the reference and a remedy. They are of the classes of
// github.com/containerd/errdefs: ErrNotFound, ErrUnauthenticated,
// ErrPermissionDenied, ErrDataLoss (wrong bytes) and ErrUnavailable. Errors and
// logs contain neither credentials nor queries of URLs, which may contain some.
package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/internal/authorities"
)

const (
	// MaxManifest is the largest size of a manifest that is read or written, in bytes: the limit
	// of the distribution specification.
	MaxManifest = descriptor.MaxManifest
	// maxBuffered is the largest size of a blob that is held in memory. A larger one is
	// streamed.
	maxBuffered = 1 << 20
	// bufferBudget bounds the memory of all blobs that are held in memory at once.
	bufferBudget = 32 << 20
)

// Options configure a client. The zero value is usable.
type Options struct {
	// HostsDir is a folder of containerd's hosts.toml files, with a folder for each registry,
	// and _default.
	HostsDir string
	// PlainHTTP lists hosts, with their port, that are accessed without TLS. Loopback addresses
	// need not be listed, and their certificates are not verified.
	PlainHTTP []string
	// CAFile is a PEM file of certificates to trust in addition to the system's.
	CAFile string
	// Concurrency is how many concurrent requests a host gets. 0 starts with 16 and doubles up
	// to 64, unless the host answers 429.
	Concurrency int
	// Limits are how many requests per second hosts get, for any purpose. A host that is not
	// listed has no limit.
	Limits Limits
	// Patience is how long a registry may do nothing before a request is considered broken. 0 is
	// 30 seconds.
	Patience time.Duration
	// Waiting is called with a host that has not responded, or not continued, for so long that a
	// user should know; again every few seconds. It may be nil.
	Waiting func(host string, waited time.Duration)
	// Credentials returns the credentials of a host; a secret without a user is a refresh token,
	// and neither means anonymous. Nil uses those of docker and podman, and the credential
	// helpers that they name.
	Credentials func(host string) (user, secret string, err error)
	// ManifestFile keeps the manifests read from sources between runs, so that one with a known
	// digest is not read again. "" keeps none.
	ManifestFile string
	// DialContext opens connections. Nil uses the network.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Log logs requests at the debug level, and retries at the info level. It may be nil.
	Log *slog.Logger
}

// Client accesses registries. It remembers tokens, manifests, and what registries do not
// support. Its methods may be called concurrently.
type Client struct {
	options Options
	// credentials returns the credentials of HOST/REPOSITORY.
	credentials func(ctx context.Context, name string) (user, secret string, err error)

	log     *slog.Logger
	trust   *x509.CertPool // nil is the system's
	buffers *semaphore.Weighted
	cache   *manifestCache
	kept    *kept

	mu         sync.Mutex
	hosts      map[string]*host                 // by URL host
	budgets    map[string]*rate.Limiter         // by the host's name for limits
	registries map[string][]docker.RegistryHost // by "source " or "repository " and registry

	turns       sync.Map // locks of tags that are read, changed and written, by reference
	noReferrers sync.Map // URL hosts without the referrers API
	noMounts    sync.Map // names of repositories that nothing can be mounted from
}

// New returns a client. It reads CAFile; everything else is read when needed.
func New(options Options) (*Client, error) {
	trust, err := authorities.Read(options.CAFile)
	if err != nil {
		return nil, err
	}
	options.Patience = cmp.Or(max(options.Patience, 0), defaultPatience)
	options.Log = cmp.Or(options.Log, slog.New(slog.DiscardHandler))
	credentials := newCredentials(options.Log).credentials
	if options.Credentials != nil {
		credentials = func(_ context.Context, name string) (user, secret string, err error) {
			host, _, _ := strings.Cut(name, "/")
			return options.Credentials(host)
		}
	}
	c := &Client{
		options:     options,
		credentials: credentials,
		log:         options.Log,
		trust:       trust,
		buffers:     semaphore.NewWeighted(bufferBudget),
		cache:       &manifestCache{known: map[manifestKey]manifest{}, tags: map[string]digest.Digest{}},
		kept:        newKept(options.ManifestFile),
		hosts:       map[string]*host{},
		budgets:     map[string]*rate.Limiter{},
		registries:  map[string][]docker.RegistryHost{},
	}
	c.Limit(options.Limits)
	return c, nil
}

// Source returns a repository to read images from, such as docker.io/library/nginx. Mirrors,
// and the hosts.toml of _default, are used.
func (c *Client) Source(name string) (*Repository, error) {
	return c.repository(name, true)
}

// Repository returns a repository to read and write, at the registry in its name. Only a
// hosts.toml of that registry is used.
func (c *Client) Repository(name string) (*Repository, error) {
	return c.repository(name, false)
}

func (c *Client) repository(name string, source bool) (*Repository, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	if !reference.IsNameOnly(named) {
		return nil, fmt.Errorf("repository %q has a tag or digest: %w", name, errdefs.ErrInvalidArgument)
	}
	if c == nil {
		return nil, fmt.Errorf("repository %s: there is no client of registries", named.Name())
	}
	hosts, err := c.registryHosts(reference.Domain(named), source)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", named.Name(), err)
	}
	r := &Repository{
		client: c,
		name:   named.Name(),
		host:   reference.Domain(named),
		path:   reference.Path(named),
		hosts:  hosts,
	}
	if source {
		r.kept = c.kept
	}
	return r, nil
}

// host is what a client knows about a host.
type host struct {
	name      string
	requests  *limiter // that wait for an answer
	transfers *limiter // blobs being sent to it

	mu      sync.Mutex
	down    error     // why it could not be reached
	at      time.Time // when
	noticed time.Time // that it is slow
	posts   verdict   // on blobs with one request
}

func (c *Client) host(name string) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.hosts[name]
	if !ok {
		h = &host{name: name, requests: newLimiter(c.options.Concurrency), transfers: newLimiter(c.options.Concurrency)}
		c.hosts[name] = h
	}
	return h
}

// unreachable returns why a host could not be reached a moment ago, so that the next request
// need not find out again.
func (h *host) unreachable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down == nil || time.Since(h.at) > downFor {
		return nil
	}
	return h.down
}

func (h *host) reached(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down, h.at = err, time.Now()
}

func (h *host) succeeded() {
	h.requests.succeeded()
	h.transfers.succeeded()
}

func (h *host) throttled() {
	h.requests.throttled()
	h.transfers.throttled()
}

// mayPost reports whether to send a blob with one request. A single request finds out for all;
// meanwhile the others send theirs with two. The result must be passed to posted.
func (h *host) mayPost() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.posts == undecided {
		h.posts = asking
		return true
	}
	return h.posts == taken
}

// takesPosts reports whether the host is known to accept blobs with one request.
func (h *host) takesPosts() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.posts == taken
}

// posted records the host's verdict on a blob with one request, and whether the blob was sent
// in the end. If the one request failed, and two did not, the host does not support it.
func (h *host) posted(said verdict, sent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case said != undecided:
		h.posts = said
	case h.posts == asking && sent:
		h.posts = refused
	case h.posts == asking:
		h.posts = undecided
	}
}

// readAll reads a blob whole. An error that comes with its last bytes, such as that of a wrong
// digest, is returned.
func (c *Client) readAll(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) ([]byte, error) {
	var data []byte
	err := c.retry(ctx, func() error {
		body, err := open()
		if err != nil {
			return err
		}
		defer body.Close()
		buffer := bytes.NewBuffer(make([]byte, 0, min(desc.Size, maxBuffered)+bytes.MinRead))
		if _, err = buffer.ReadFrom(io.LimitReader(body, desc.Size+1)); err != nil {
			return err
		}
		if data = buffer.Bytes(); int64(len(data)) != desc.Size {
			return fmt.Errorf("%d bytes, announced with %d: %w", len(data), desc.Size, io.ErrUnexpectedEOF)
		}
		return nil
	})
	return data, err
}

// retry repeats an operation after a temporary failure. What the transport has retried already
// is final.
func (c *Client) retry(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if err == nil || n >= worth(err) || context.Cause(ctx) != nil {
			return err
		}
		c.log.InfoContext(ctx, "trying again", "try", n+1, "after", err.Error())
		wait := backoff(n)
		if broken, ok := errors.AsType[*requestError](err); ok {
			wait = max(wait, broken.wait)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// worth returns how many tries an operation is worth after an error.
func worth(err error) int {
	if broken, ok := errors.AsType[*requestError](err); ok {
		if broken.again {
			return broken.worth
		}
		return 1
	}
	if errdefs.IsDataLoss(err) || errors.Is(err, content.ErrReset) {
		return maxTries
	}
	return 1
}
