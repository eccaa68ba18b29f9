// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/advice"
)

const (
	maxTries = 6
	// fewTries is for a refused connection, which seldom recovers within seconds.
	fewTries = 3
	// stalledTries is for a host that did nothing for [Options.Patience].
	stalledTries = 2
	// mirrorTries is for a host that is followed by another one.
	mirrorTries = 2
	// mountTries is for a mount, after which the blob can be sent.
	mountTries = 2

	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 8 * time.Second
	// maxRetryAfter is the longest wait that a registry may impose on one request.
	maxRetryAfter = 2 * time.Minute

	defaultPatience = 30 * time.Second
	// slowest is how many bytes of an answer, or its end, must arrive within the patience. A
	// registry that sends fewer would never finish.
	slowest = 16 << 10
	// commitPatience is how many times longer a registry may take to answer once it has a whole
	// large blob: it may be hashing or moving it.
	commitPatience = 10
	// noticeAfter is how long nothing happens before [Options.Waiting] is called.
	noticeAfter = 5 * time.Second
	// downFor is how long an unreachable host is assumed to be down.
	downFor = 30 * time.Second
	// maxDrained bounds how much of an unwanted answer is read to keep its connection.
	maxDrained = 64 << 10
	// maxTokenAnswer bounds the answer of a token server.
	maxTokenAnswer = 1 << 20
)

// accepted lists the media types of manifests. Registries refuse, or even convert, others.
var accepted = strings.Join([]string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
	images.MediaTypeDockerSchema2ManifestList, images.MediaTypeDockerSchema2Manifest,
	"*/*",
}, ", ")

// contentDigest is the header with a manifest's digest.
const contentDigest = "Docker-Content-Digest"

// transport sends the requests of one host of a registry, and of the hosts that it redirects to
// or that issue its tokens.
type transport struct {
	client *Client
	base   http.RoundTripper
	tries  int  // bounds the tries of one request
	tokens bool // sends requests for tokens, which belong to no operation
}

// RoundTrip implements [http.RoundTripper]. It never returns an answer that asks for another
// try.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, host := req.Context(), t.client.host(req.URL.Host)
	if cause := context.Cause(ctx); cause != nil {
		closeBody(req)
		return nil, cause
	}
	if err := host.unreachable(); err != nil {
		closeBody(req)
		return nil, err
	}
	// Half an upload of a blob is worthless, and its next try is another upload.
	replayable := req.Body == nil || req.Body == http.NoBody || t.tokens || isManifest(req)
	var waited time.Duration // because the registry asked for it
	for try := 1; ; try++ {
		attempt := req.Clone(ctx)
		if try > 1 && req.GetBody != nil {
			var err error
			if attempt.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
		if isManifest(req) && req.Method != http.MethodPut {
			attempt.Header.Set("Accept", accepted)
		}
		// Digests are those of the bytes without a content coding.
		attempt.Header.Set("Accept-Encoding", "identity")
		start := time.Now()
		resp, err := t.once(attempt, host)
		if cause := context.Cause(ctx); cause != nil {
			if err == nil {
				resp.Body.Close()
			}
			if limited, ok := errors.AsType[*limitedError](err); ok {
				return nil, limited
			}
			return nil, fmt.Errorf("%w: %w", cause, stalled(req, time.Since(start), false))
		}
		failure := judge(req, resp, err)
		if failure == nil {
			host.reached(nil)
			return resp, nil
		}
		if failure.status == http.StatusTooManyRequests {
			host.throttled()
		}
		if waited += failure.wait; waited > maxRetryAfter && failure.wait <= maxRetryAfter {
			failure.message += fmt.Sprintf("; it asks to wait another %s", failure.wait.Round(time.Second))
			failure.worth = 1
		}
		tries := min(failure.worth, t.tries)
		if !replayable {
			failure.again, tries = tries > 1, 1
		}
		if failure.tried = try; try >= tries {
			// A request that cannot be replayed is repeated by its sender.
			if failure.down && replayable {
				host.reached(failure)
			}
			return nil, failure
		}
		wait := max(failure.wait, backoff(try))
		t.client.log.InfoContext(ctx, "trying again", "try", try+1, "in", wait, "after", failure.Error())
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// once sends a request. It holds a place at the host until the answer begins, unless the body
// is a stream, which has a place as a transfer.
func (t *transport) once(req *http.Request, host *host) (*http.Response, error) {
	release, err := t.turn(req, host)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithCancelCause(req.Context())
	patience := t.client.options.Patience
	watch := newWatch(func(waited time.Duration) { cancel(stalled(req, waited, false)) }, t.client.notices(host))
	watch.expect(patience)
	defer watch.end()
	if req.Body != nil && req.Body != http.NoBody {
		// A writer to containerd's pipe may silently be gone.
		body := req.Body
		defer context.AfterFunc(ctx, func() { body.Close() })()
		commit := patience
		if req.ContentLength > maxBuffered {
			commit *= commitPatience
		}
		req.Body = &sending{ReadCloser: req.Body, watch: watch, patience: patience, commit: commit}
	}
	start := time.Now()
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		t.client.log.DebugContext(ctx, "request", "method", req.Method, "host", req.URL.Host, "path", req.URL.Path, "took", time.Since(start), "error", cleanText(err.Error()))
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	t.client.log.DebugContext(ctx, "request", "method", req.Method, "host", req.URL.Host, "path", req.URL.Path, "took", time.Since(start), "status", resp.StatusCode)
	if resp.StatusCode < http.StatusBadRequest {
		host.succeeded()
	}
	if resp.Body == http.NoBody {
		cancel(nil)
		return resp, nil
	}
	body := &receiving{
		ReadCloser: resp.Body, ctx: ctx, cancel: cancel, request: req, patience: patience,
	}
	body.watch = newWatch(body.stalled, t.client.notices(host))
	resp.Body = body
	if codings := codings(resp.Header); t.tokens || resp.StatusCode >= http.StatusBadRequest && len(codings) > 0 {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{&shortAnswer{body: body, codings: codings, token: t.tokens}, body}
	}
	return resp, nil
}

// turn waits until a request may be sent, with a place at the host unless its body is a stream.
func (t *transport) turn(req *http.Request, host *host) (release func(), err error) {
	ctx := req.Context()
	defer waits(ctx)()
	release = func() {}
	if req.ContentLength <= maxBuffered {
		if err := host.requests.acquire(ctx); err != nil {
			return nil, err
		}
		release = host.requests.release
	}
	// This comes last: requests that waited for a place after their turn would leave in a burst.
	if err := t.client.await(ctx, host.name); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func isManifest(req *http.Request) bool {
	return strings.Contains(req.URL.Path, "/manifests/")
}

func mounts(req *http.Request) bool {
	return req.Method == http.MethodPost && req.URL.Query().Has("mount")
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// requestError is a request without an answer, or with one that asks to wait. Its
// chain ends here, because containerd takes a timeout or an io.EOF in it as a reason to retry
// at once, which the transport has already done with more patience.
type requestError struct {
	method, host, path string

	status  int    // 0: no answer
	message string // of the registry, with its status, or why there is no answer
	hint    hint   // what to do about it
	cause   error  // of no answer

	worth int           // how many tries are worthwhile
	tried int           // how many were made
	wait  time.Duration // that the registry asked for
	down  bool          // the host cannot be reached at all
	again bool          // tried once, because another try repeats the whole operation
}

func (e *requestError) Error() string {
	text := e.message
	if e.cause != nil {
		text = cleanText(e.cause.Error())
	}
	return fmt.Sprintf("%s %s%s: %s%s", e.method, e.host, e.path, text, e.tries())
}

func (e *requestError) tries() string {
	if e.tried > 1 {
		return fmt.Sprintf(" (tried %d times)", e.tried)
	}
	return ""
}

// stalledError is a host that did nothing for a while.
type stalledError struct {
	method, host, path string
	waited             time.Duration
	begun              bool // whether the answer had begun
	came               int  // bytes of it that arrived meanwhile
}

func stalled(req *http.Request, waited time.Duration, begun bool) *stalledError {
	return &stalledError{method: req.Method, host: req.URL.Host, path: req.URL.Path, waited: waited, begun: begun}
}

func (e *stalledError) Error() string {
	waited := cmp.Or(e.waited.Round(time.Second), e.waited.Round(time.Millisecond))
	if e.came > 0 {
		return fmt.Sprintf("only %d bytes came within %s of %s %s", e.came, waited, e.method, e.path)
	}
	if e.begun {
		return fmt.Sprintf("nothing more came for %s of %s %s", waited, e.method, e.path)
	}
	return fmt.Sprintf("no answer for %s to %s %s", waited, e.method, e.path)
}

// judge returns nil for a final answer, and an error if a later try may succeed.
func judge(req *http.Request, resp *http.Response, err error) *requestError {
	failure := &requestError{method: req.Method, host: req.URL.Host, path: req.URL.Path, cause: err, worth: maxTries}
	if mounts(req) && (err != nil || resp.StatusCode != http.StatusTooManyRequests) {
		failure.worth = mountTries
	}
	if err == nil {
		switch code := resp.StatusCode; {
		case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		case code < 500, code == http.StatusNotImplemented, code == http.StatusHTTPVersionNotSupported:
			return nil
		}
		failure.status = resp.StatusCode
		if resp.StatusCode == http.StatusTooManyRequests {
			failure.hint = hint{action: advice.RaiseLimit}
		}
		failure.message = resp.Status
		if text := messages(io.LimitReader(resp.Body, maxDrained)); text != "" {
			failure.message += ": " + text
		}
		resp.Body.Close()
		failure.wait = retryAfter(resp.Header.Get("Retry-After"))
		if failure.wait > maxRetryAfter {
			failure.message += fmt.Sprintf("; it asks to wait %s", failure.wait.Round(time.Second))
			failure.worth = 1
		}
		return failure
	}
	failure.diagnose(err)
	return failure
}

// maxSeconds is longer than any real wait, and still fits a [time.Duration].
const maxSeconds = 1 << 31

// retryAfter parses the header of that name: seconds, or a date.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), maxSeconds)) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(time.Until(date), 0)
	}
	return 0
}

// backoff returns how long to wait after the nth try: about twice as long as before, with a
// random part, so that clients that failed together do not return together.
func backoff(n int) time.Duration {
	wait := min(firstBackoff<<(n-1), maxBackoff)
	return wait/2 + rand.N(wait/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watch fires when nothing happens for a while, and gives notice before.
type watch struct {
	timer  *time.Timer
	fire   func(waited time.Duration)
	notice func(waited time.Duration) // returns before the watch ends

	mu             sync.Mutex
	ended, resting bool
	waited         time.Duration // that notice was given of
	patience       time.Duration
}

// newWatch returns a watch that is not running.
func newWatch(fire, notice func(waited time.Duration)) *watch {
	w := &watch{fire: fire, notice: notice, resting: true}
	w.timer = time.AfterFunc(time.Hour, w.ring)
	w.timer.Stop()
	return w
}

// expect starts the watch: something must happen within d.
func (w *watch) expect(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.resting, w.waited, w.patience = false, 0, d
		w.timer.Reset(min(d, noticeAfter))
	}
}

// ring is called when the time of expect is over.
func (w *watch) ring() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || w.resting {
		return
	}
	w.waited += min(w.patience-w.waited, noticeAfter)
	if w.waited >= w.patience {
		w.fire(w.patience)
		return
	}
	w.notice(w.waited)
	w.timer.Reset(min(w.patience-w.waited, noticeAfter))
}

// rest stops the watch while others have their turn.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resting = true
	w.timer.Stop()
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}

// notices returns the function that reports to the client's owner how long a host has kept it
// waiting: one notice at a time, however many requests wait.
func (c *Client) notices(h *host) func(waited time.Duration) {
	return func(waited time.Duration) {
		h.mu.Lock()
		heard := time.Since(h.noticed) < noticeAfter
		if !heard {
			h.noticed = time.Now()
		}
		h.mu.Unlock()
		if !heard && c.options.Waiting != nil {
			c.options.Waiting(h.name, waited)
		}
	}
}

// sending is the body of a request. The registry is watched between reads, but not during one,
// when the reader of the body is waited for.
type sending struct {
	io.ReadCloser
	watch    *watch
	patience time.Duration
	commit   time.Duration // patience after the last byte
}

func (s *sending) Read(p []byte) (int, error) {
	s.watch.rest()
	n, err := s.ReadCloser.Read(p)
	if err != nil {
		s.watch.expect(s.commit)
	} else {
		s.watch.expect(s.patience)
	}
	return n, err
}

// receiving is the body of an answer. The registry is watched during a read, until it has sent
// what it must send within the patience.
type receiving struct {
	io.ReadCloser
	ctx      context.Context // of the request, for its cause
	cancel   context.CancelCauseFunc
	request  *http.Request
	watch    *watch
	patience time.Duration

	// came are the bytes that arrived, and waited the time they took, in the current patience.
	// They are changed while the watch is stopped.
	came   int
	waited time.Duration
}

// stalled is called when the time of the watch is over.
func (r *receiving) stalled(waited time.Duration) {
	cause := stalled(r.request, r.waited+waited, true)
	if r.waited > waited {
		cause.came = r.came
	}
	r.cancel(cause)
}

func (r *receiving) Read(p []byte) (int, error) {
	r.watch.expect(max(r.patience-r.waited, time.Millisecond))
	start := time.Now()
	n, err := r.ReadCloser.Read(p)
	r.watch.rest()
	r.came += n
	if r.waited += time.Since(start); r.came >= slowest {
		r.came, r.waited = 0, 0
	}
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if cause := context.Cause(r.request.Context()); cause != nil {
		return n, fmt.Errorf("%w: %w", cause, stalled(r.request, time.Since(start), true))
	}
	if cause := context.Cause(r.ctx); cause != nil {
		err = cause
	}
	failure := judge(r.request, nil, err)
	failure.tried, failure.again = 1, true
	return n, failure
}

func (r *receiving) Close() error {
	r.watch.end()
	defer r.cancel(nil)
	return r.ReadCloser.Close()
}
