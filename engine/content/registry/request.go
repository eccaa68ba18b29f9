// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

// maxChallenges bounds how often one request is repeated with the authorization that the
// registry asked for: the tokens it had may be refused. See maxRefusals.
const maxChallenges = maxRefusals

// request is a request about a repository.
type request struct {
	method string
	path   string   // below the repository's: /manifests/v1
	at     *url.URL // instead of path: an upload location of the registry
	query  url.Values
	header http.Header

	mediaType string // of the body
	body      []byte
	stream    *stream // instead of body

	// pulls is another repository that the request also reads from.
	pulls string
	// wanted are the expected statuses. Others are errors, and so are web pages, unless one has
	// this length.
	wanted []int
	page   int64
}

// do sends a request to the host that accepts pushes. The answer must be drained by the caller.
func (r *Repository) do(ctx context.Context, ask request) (*http.Response, error) {
	host, err := r.pushHost()
	if err != nil {
		return nil, err
	}
	return r.ask(r.scope(ctx, "pull,push", ask.pulls), host, ask)
}

// read sends a request to the hosts to read from, mirrors first, until one succeeds. Of several
// errors, the most informative is returned: a status before "not found", and that before no
// answer.
func (r *Repository) read(ctx context.Context, capability docker.HostCapabilities, ask request) (*http.Response, error) {
	ctx = r.scope(ctx, "pull", "")
	var first error
	weight := 0
	for _, host := range r.hosts {
		if !host.Capabilities.Has(capability) {
			continue
		}
		resp, err := r.ask(ctx, host, ask)
		if err == nil {
			return resp, nil
		}
		if context.Cause(ctx) != nil {
			return nil, err
		}
		if w := telling(err); w > weight {
			first, weight = err, w
		}
	}
	return nil, cmp.Or(first, fmt.Errorf("hosts.toml names no host to read from: %w", errdefs.ErrNotFound))
}

// telling ranks an error by how much it tells about the requested content.
func telling(err error) int {
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	switch {
	case !ok:
		return 1
	case status.StatusCode == http.StatusNotFound:
		return 2
	}
	return 3
}

// scope returns the context of requests about the repository: the scopes of tokens, and the
// repository whose credentials are needed.
func (r *Repository) scope(ctx context.Context, actions, pulls string) context.Context {
	ctx = context.WithValue(ctx, repositoryKey{}, r.path)
	ctx = docker.WithScope(ctx, "repository:"+r.path+":"+actions)
	if pulls != "" && pulls != r.path {
		ctx = docker.ContextWithAppendPullRepositoryScope(ctx, pulls)
	}
	return ctx
}

// ask sends a request to a host, and repeats it if it must be authorized.
func (r *Repository) ask(ctx context.Context, host docker.RegistryHost, ask request) (*http.Response, error) {
	var answers []*http.Response
	for {
		req, err := ask.to(ctx, r, host)
		if err != nil {
			return nil, err
		}
		if err := host.Authorizer.Authorize(ctx, req); err != nil {
			return nil, err
		}
		resp, err := host.Client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized && !stale(resp) {
			return resp, ask.judge(resp)
		}
		answers = append(answers, resp)
		err = host.Authorizer.AddResponses(ctx, answers)
		if errdefs.IsNotImplemented(err) || err == nil && len(answers) > maxChallenges {
			return nil, unexpected(resp) // the answer has no more information
		}
		drain(resp)
		if err != nil {
			return nil, err
		}
	}
}

// stale reports whether a registry rejects an expired token with 403, as some do.
func stale(resp *http.Response) bool {
	return resp.StatusCode == http.StatusForbidden && resp.Request.Header.Get("Authorization") != "" &&
		slices.ContainsFunc(challenges(resp.Header), func(c challenge) bool { return c.scheme == "bearer" && c.parameters["error"] == "invalid_token" })
}

// to makes the request for a host.
func (ask request) to(ctx context.Context, r *Repository, host docker.RegistryHost) (*http.Request, error) {
	to := url.URL{Scheme: host.Scheme, Host: host.Host, Path: host.Path + "/" + r.path + ask.path}
	if ask.at != nil {
		to = *ask.at
	}
	own := origin(&to) == origin(&url.URL{Scheme: host.Scheme, Host: host.Host})
	query := url.Values{}
	maps.Copy(query, ask.query)
	if own && host.Host != r.host && (r.host != hubName || host.Host != hubHost) {
		query.Set("ns", r.host) // names the registry of a mirror, as containerd's hosts.toml expects
	}
	to.RawQuery = setQuery(to.RawQuery, query)
	req, err := http.NewRequestWithContext(ctx, ask.method, to.String(), bytes.NewReader(ask.body))
	if err != nil {
		return nil, err
	}
	if ask.stream != nil {
		req.ContentLength, req.GetBody = ask.stream.size, ask.stream.next
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	req.Header = r.client.header()
	maps.Copy(req.Header, ask.header)
	if own {
		for key, values := range host.Header {
			req.Header[key] = append(req.Header[key], values...)
		}
	}
	if ask.mediaType != "" {
		req.Header.Set("Content-Type", ask.mediaType)
	}
	return req, nil
}

// setQuery sets parameters of a query. The others are kept as they are: they may be signed.
func setQuery(query string, set url.Values) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(key); pair != "" && (err != nil || !set.Has(name)) {
			kept = append(kept, pair)
		}
	}
	if len(set) > 0 {
		kept = append(kept, set.Encode())
	}
	return strings.Join(kept, "&")
}

// judge returns an error for an unexpected answer, and drains it.
func (ask request) judge(resp *http.Response) error {
	page := isPage(resp) && (ask.page == 0 || resp.ContentLength != ask.page)
	if slices.Contains(ask.wanted, resp.StatusCode) && !(page && resp.StatusCode < http.StatusMultipleChoices) {
		return nil
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return unexpected(resp)
	}
	defer drain(resp)
	answered := &answerError{host: resp.Request.URL.Host, method: ask.method, status: resp.Status, page: page}
	for _, code := range ask.wanted {
		answered.wanted = append(answered.wanted, fmt.Sprintf("%d %s", code, http.StatusText(code)))
	}
	return answered
}

// unexpected returns the error of an unexpected status. A redirection is one that was not
// followed.
func unexpected(resp *http.Response) error {
	defer drain(resp)
	err := remoteerrors.NewUnexpectedStatusErr(resp)
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	if to := resp.Header.Get("Location"); ok && to != "" && resp.StatusCode < http.StatusBadRequest {
		status.Status += " to " + cleanText(to)
		return status
	}
	return err
}

// isPage reports whether an answer is a web page, which a registry never sends.
func isPage(resp *http.Response) bool {
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && (mediaType == "text/html" || mediaType == "application/xhtml+xml")
}

// answerError is a successful answer that is not from a registry.
type answerError struct {
	host, method, status string
	wanted               []string
	page                 bool
}

func (e *answerError) Error() string {
	what := e.status
	if e.page {
		what += " and a web page"
	}
	if len(e.wanted) > 0 && e.status != e.wanted[0] {
		what += " where a registry answers " + e.wanted[0]
	}
	return fmt.Sprintf("it answers %s with %s", e.method, what)
}

// stream is a body that is opened again if a request is sent again: after a redirection, or
// with another token.
type stream struct {
	open func() (io.ReadCloser, error)
	size int64

	mu   sync.Mutex
	body io.ReadCloser // nil: the next one must be opened
	err  error         // of reading, as opposed to one of the request
}

// next returns a body from its start.
func (s *stream) next() (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.body == nil {
		body, err := s.open()
		if err != nil {
			s.err = err
			return nil, err
		}
		s.body = body
	}
	out := &streamed{stream: s, body: s.body}
	s.body = nil
	return out, nil
}

// close closes a body that was not used.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}

// failed returns why a body could not be read.
func (s *stream) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// streamed is one body of a stream. net/http may close it while reading it.
type streamed struct {
	stream *stream

	mu     sync.Mutex
	body   io.ReadCloser
	closed bool
}

func (s *streamed) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	n, err := s.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.stream.mu.Lock()
		s.stream.err = err
		s.stream.mu.Unlock()
	}
	return n, err
}

func (s *streamed) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.body.Close()
}

// pushHost returns the host that accepts pushes.
func (r *Repository) pushHost() (docker.RegistryHost, error) {
	for _, h := range r.hosts {
		if h.Capabilities.Has(docker.HostCapabilityPush) {
			return h, nil
		}
	}
	return docker.RegistryHost{}, errNoPushHost
}

var errNoPushHost = errors.New("hosts.toml names no host that takes pushes")

// drain closes an answer, and keeps its connection if there is little left to read.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
	resp.Body.Close()
}
