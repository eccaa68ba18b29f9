// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"io"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Counter counts requests and answers.
type Counter struct {
	next http.Handler

	mu       sync.Mutex
	stats    Stats
	inFlight int
}

// Stats are the counts of a [Counter], by method and kind: "GET blobs".
type Stats struct {
	Requests map[string]int
	Bytes    map[string]int64 // bodies, in both directions
	// InFlight is the largest number of concurrent requests.
	InFlight int
}

// Total returns the number of all requests.
func (s Stats) Total() int {
	total := 0
	for _, n := range s.Requests {
		total += n
	}
	return total
}

// Count returns a handler that counts requests and the bytes of bodies.
func Count(next http.Handler) *Counter {
	return &Counter{next: next, stats: Stats{Requests: map[string]int{}, Bytes: map[string]int64{}}}
}

// Stats returns the counts so far.
func (c *Counter) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Requests: maps.Clone(c.stats.Requests), Bytes: maps.Clone(c.stats.Bytes), InFlight: c.stats.InFlight}
}

// Reset returns the counts so far and sets them to zero.
func (c *Counter) Reset() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	c.stats = Stats{Requests: map[string]int{}, Bytes: map[string]int64{}}
	return s
}

// ServeHTTP implements http.Handler.
func (c *Counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + " " + string(parse(r.URL).kind)
	c.mu.Lock()
	c.stats.Requests[key]++
	c.inFlight++
	c.stats.InFlight = max(c.stats.InFlight, c.inFlight)
	c.mu.Unlock()

	sent := &countingWriter{ResponseWriter: w}
	received := &countingBody{ReadCloser: r.Body}
	r.Body = received
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stats.Bytes[key] += sent.n + received.n
		c.inFlight--
	}()
	c.next.ServeHTTP(sent, r)
}

type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// ReadFrom keeps the fast path of the connection below.
func (w *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	w.n += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type countingBody struct {
	io.ReadCloser
	n int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

// Delay answers every request d later, or not at all if the client has disconnected.
func Delay(next http.Handler, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}
