// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

const (
	maxLine   = 16 << 10 // longer lines are split
	tailLines = 20
)

// output receives what a process prints: it logs every line at debug level and keeps the
// last ones. The first line of stdout is the handshake and is sent to first.
type output struct {
	log   *slog.Logger
	first chan string // buffered, capacity 1

	mu     sync.Mutex
	last   []string
	memory bool // a line reported that memory ran out
}

// lines returns a writer for one output stream.
func (o *output) lines() *lineWriter { return &lineWriter{emit: o.add} }

// stdout returns a writer for stdout, whose first line is the handshake.
func (o *output) stdout() *lineWriter {
	seen := false
	return &lineWriter{emit: func(line string) {
		if seen {
			o.add(line)
			return
		}
		seen = true
		o.first <- line
	}}
}

func (o *output) add(line string) {
	o.log.Debug(line)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.memory = o.memory || noMemory(line)
	if len(o.last) == tailLines {
		o.last = slices.Delete(o.last, 0, 1)
	}
	o.last = append(o.last, line)
}

// noMemory reports whether a line is one that runtimes print when they run out of memory:
// those of Go, C, C++, Rust, Python, Java and JavaScript.
func noMemory(line string) bool {
	return slices.ContainsFunc([]string{
		"out of memory", "cannot allocate memory", "Cannot allocate memory", "memory allocation of", "failed to allocate", "bad_alloc", "MemoryError", "OutOfMemoryError",
	}, func(words string) bool { return strings.Contains(line, words) })
}

// outOfMemory reports whether the process printed that it ran out of memory.
func (o *output) outOfMemory() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.memory
}

// tail returns the last lines, each shortened to a readable length.
func (o *output) tail() string {
	const most = 500
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := slices.Clone(o.last)
	for i, line := range lines {
		if len(line) > most {
			line = line[:most] + "…"
		}
		lines[i] = "  " + strings.ToValidUTF8(line, "\uFFFD")
	}
	return strings.Join(lines, "\n")
}

// lineWriter calls emit for every line. It must be used by one goroutine at a time.
type lineWriter struct {
	emit func(string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, found := bytes.Cut(p, []byte{'\n'})
		if room := maxLine - len(w.rest); len(line) > room {
			line, rest, found = p[:room], p[room:], true
		}
		w.rest = append(w.rest, line...)
		p = rest
		if found {
			w.emit(string(bytes.TrimSuffix(w.rest, []byte{'\r'})))
			w.rest = w.rest[:0]
		}
	}
	return n, nil
}

// flush emits an unfinished last line.
func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.emit(string(w.rest))
		w.rest = nil
	}
}
