// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Match reports whether a request is affected.
type Match func(*http.Request) bool

// Is matches requests of a kind, with one of the methods if any are given.
func Is(kind Kind, methods ...string) Match {
	return func(r *http.Request) bool {
		return parse(r.URL).kind == kind && (len(methods) == 0 || slices.Contains(methods, r.Method))
	}
}

// Of restricts a match to requests whose path contains s: a repository, a tag or a
// digest.
func Of(s string, m Match) Match {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, s) && m(r) }
}

// First matches the first n requests that m matches.
func First(n int64, m Match) Match {
	var seen atomic.Int64
	return func(r *http.Request) bool { return m(r) && seen.Add(1) <= n }
}

// After matches the requests that m matches, except the first n.
func After(n int64, m Match) Match {
	var seen atomic.Int64
	return func(r *http.Request) bool { return m(r) && seen.Add(1) > n }
}

// Fault is a faulty behaviour: it wraps the handler that would have responded.
type Fault func(next http.Handler) http.Handler

// Misbehave returns a handler in which the fault answers the requests that match.
func Misbehave(next http.Handler, when Match, how Fault) http.Handler {
	faulty := how(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if when(r) {
			faulty.ServeHTTP(w, r)
		} else {
			next.ServeHTTP(w, r)
		}
	})
}

// Status answers with a status, and with headers given as pairs of name and
// value ("Retry-After", "1").
func Status(code int, headers ...string) Fault {
	return instead(func(w http.ResponseWriter, _ *http.Request) {
		for pair := range slices.Chunk(headers, 2) {
			w.Header().Set(pair[0], pair[1])
		}
		deny(w, code, "UNKNOWN", strings.ToLower(http.StatusText(code)))
	})
}

// Refuse closes the connection without an answer.
func Refuse() Fault {
	return instead(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Hang reads the request and never answers. It ends when the client disconnects.
func Hang() Fault {
	return instead(func(_ http.ResponseWriter, r *http.Request) {
		// The server notices that the client has disconnected only if it has read the body.
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	})
}

// instead answers in place of the handler.
func instead(answer http.HandlerFunc) Fault {
	return func(http.Handler) http.Handler { return answer }
}

// Truncate ends the body after n bytes as if it were complete.
func Truncate(n int64) Fault { return body(n, nil) }

// Cut sends n bytes of the body and then cuts the connection.
func Cut(n int64) Fault {
	return body(n, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		flush(w)
		panic(http.ErrAbortHandler)
	})
}

// Stall sends n bytes of the body and then nothing more. It ends when the
// client disconnects.
func Stall(n int64) Fault {
	return body(n, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		flush(w)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// Corrupt flips a bit of the body's byte n.
func Corrupt(n int64) Fault {
	return body(n, func(w http.ResponseWriter, _ *http.Request, rest []byte) {
		rest[0] ^= 1
		w.Write(rest) //nolint:errcheck // the client has disconnected
	})
}

// body passes on the first n bytes of a body, and then calls reach with the rest if there is
// one. If reach is nil, these bytes are declared to be all.
func body(n int64, reach func(w http.ResponseWriter, r *http.Request, rest []byte)) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, r)
			maps.Copy(w.Header(), whole.Header())
			if length, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64); err == nil && reach == nil {
				w.Header().Set("Content-Length", strconv.FormatInt(min(length, n), 10))
			}
			w.WriteHeader(whole.Code)
			data := whole.Body.Bytes()
			head := data[:min(int64(len(data)), n)]
			if _, err := w.Write(head); err == nil && len(head) < len(data) && reach != nil {
				reach(w, r, data[len(head):])
			}
		})
	}
}

func flush(w http.ResponseWriter) {
	http.NewResponseController(w).Flush() //nolint:errcheck // a connection that is gone need not be cut
}

// Reject refuses manifests that match, as old registries do, with status 400
// and code MANIFEST_INVALID.
func Reject(next http.Handler, match func(m ManifestFields) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && parse(r.URL).kind == Manifests {
			data, err := io.ReadAll(r.Body)
			if err != nil {
				deny(w, http.StatusBadRequest, "MANIFEST_INVALID", "body cannot be read")
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(data))
			fields := ManifestFields{ContentType: r.Header.Get("Content-Type")}
			if json.Unmarshal(data, &fields) == nil && match(fields) {
				deny(w, http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ManifestFields are the fields of a pushed manifest that [Reject] passes on.
type ManifestFields struct {
	ContentType  string              `json:"-"`
	MediaType    string              `json:"mediaType"`
	ArtifactType string              `json:"artifactType"`
	Config       *ocispec.Descriptor `json:"config"`
	Subject      *ocispec.Descriptor `json:"subject"`
}

// Index matches image indexes, OCI's and Docker's.
func Index(m ManifestFields) bool {
	return images.IsIndexType(m.ContentType)
}

// ArtifactType matches manifests that have one.
func ArtifactType(m ManifestFields) bool { return m.ArtifactType != "" }

// EmptyConfig matches manifests with the empty config of OCI 1.1.
func EmptyConfig(m ManifestFields) bool {
	return m.Config != nil && m.Config.MediaType == ocispec.MediaTypeEmptyJSON
}

// NoReferrers returns a registry like those from before OCI 1.1: it has no
// referrers API, and does not send OCI-Subject.
func NoReferrers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if parse(r.URL).kind == Referrers {
			deny(w, http.StatusNotFound, "UNSUPPORTED", "no such route")
			return
		}
		next.ServeHTTP(&subjectless{ResponseWriter: w}, r)
	})
}

type subjectless struct {
	http.ResponseWriter
}

func (w *subjectless) WriteHeader(code int) {
	w.Header().Del("OCI-Subject")
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *subjectless) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Quota accepts at most n requests in each window of time. It answers the others with 429 and
// a Retry-After.
type Quota struct {
	next   http.Handler
	n      int
	window time.Duration

	mu    sync.Mutex
	at    time.Time // the window
	used  int       // of it
	stats QuotaStats
}

// QuotaStats counts the requests to a [Quota].
type QuotaStats struct {
	Requests, Refused int
	// Most is the largest number of requests in one window.
	Most int
}

// NewQuota returns a quota of n requests per window. Windows begin at multiples of their length.
func NewQuota(next http.Handler, n int, window time.Duration) *Quota {
	return &Quota{next: next, n: n, window: window}
}

// Stats returns the counts so far.
func (q *Quota) Stats() QuotaStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats
}

// ServeHTTP implements http.Handler.
func (q *Quota) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	q.mu.Lock()
	if at := now.Truncate(q.window); !at.Equal(q.at) {
		q.at, q.used = at, 0
	}
	q.used++
	refused := q.used > q.n
	q.stats.Requests++
	if refused {
		q.stats.Refused++
	}
	q.stats.Most = max(q.stats.Most, q.used)
	again := q.at.Add(q.window).Sub(now)
	q.mu.Unlock()
	if refused {
		Status(http.StatusTooManyRequests, "Retry-After", strconv.Itoa(int((again+time.Second-1)/time.Second)))(nil).ServeHTTP(w, r)
		return
	}
	q.next.ServeHTTP(w, r)
}
