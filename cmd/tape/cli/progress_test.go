// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine"
)

// TestTTYPrintsOnce checks that each node that ran has exactly one final line, in the order in
// which the nodes ended, whatever is drawn in between, and that nothing is drawn after it.
func TestTTYPrintsOnce(t *testing.T) {
	var out bytes.Buffer
	view := newTTY(&out, false)
	begun := time.Unix(1000, 0)
	view.Event(engine.Event{Node: "never", State: engine.Waiting, At: begun})
	var events sync.WaitGroup
	for i := range 20 { // more than are drawn at once
		events.Go(func() {
			name := fmt.Sprintf("node-%d", i)
			view.Event(engine.Event{Node: name, State: engine.Running, At: begun})
			for n := range int64(100) {
				view.Event(engine.Event{Node: name, Current: n + 1, Total: 100, Unit: "files"})
			}
			if i > 0 { // the first node is still running when the view closes
				view.Event(engine.Event{Node: name, State: engine.Done, At: begun.Add(time.Second)})
			}
		})
	}
	events.Wait()
	view.Event(engine.Event{Node: "kept", State: engine.Cached, At: begun})
	view.Event(engine.Event{Node: "never", State: engine.Cancelled, At: begun})
	view.Event(engine.Event{Node: "kept", Level: "warning", Message: "look at this"})
	view.Close()

	text := out.String()
	for i := range 20 {
		want := fmt.Sprintf("✓ %-14s   1.0s  100 files\n", fmt.Sprintf("node-%d", i))
		if i == 0 {
			want = "100 files\n"
		}
		if strings.Count(text, want) < 1 || i > 0 && strings.Count(text, want) > 1 {
			t.Errorf("%d lines %q", strings.Count(text, want), want)
		}
	}
	for _, want := range []string{"\r- node-0", "\r= kept             0.0s  cached\n", "\rwarning: look at this\n"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%d lines with %q in %q", strings.Count(text, want), want, text)
		}
	}
	if strings.Contains(text, "never") {
		t.Errorf("a node that did not begin has a line: %q", text)
	}
}

// TestTTYPrintsAll checks that messages are printed even if no node ran.
func TestTTYPrintsAll(t *testing.T) {
	var out bytes.Buffer
	view := newTTY(&out, false)
	view.Event(engine.Event{Message: "waiting for registry.example"})
	view.Close()
	if !strings.Contains(out.String(), "waiting for registry.example\n") {
		t.Errorf("printed %q", out.String())
	}
	out.Reset()
	newTTY(&out, false).Close()
	if out.Len() > 0 {
		t.Errorf("printed %q, where nothing was said", out.String())
	}
}

// TestTTYAgain checks that a node that runs a second time starts from zero.
func TestTTYAgain(t *testing.T) {
	n := &nodeState{name: "resolve"}
	begun := time.Unix(1000, 0)
	for range 2 {
		n.apply(engine.Event{State: engine.Running, At: begun})
		if n.current != 0 || n.elapsed(begun.Add(time.Second)) != time.Second {
			t.Errorf("at its beginning: %+v", n)
		}
		n.apply(engine.Event{Current: 3, Total: 3, Unit: "images"})
		n.apply(engine.Event{State: engine.Done, At: begun.Add(time.Second)})
		begun = begun.Add(time.Minute)
	}
}

// TestTTYLine checks that a line never exceeds its row, keeps its color where it is cut, and
// starts at the left wherever the cursor is.
func TestTTYLine(t *testing.T) {
	begun := time.Unix(1000, 0)
	node := &nodeState{name: "source/shop"}
	node.apply(engine.Event{State: engine.Running, At: begun})
	node.apply(engine.Event{Current: 3, Total: 7, Unit: "files", Message: "interpreter plain: no other claims it"})
	node.apply(engine.Event{State: engine.Done, At: begun.Add(1500 * time.Millisecond)})

	for name, test := range map[string]struct {
		color bool
		width int
		want  string
	}{
		"whole":   {false, 80, "✓ source/shop      1.5s  3 of 7 files  interpreter plain: no other claims it"},
		"cut":     {false, 40, "✓ source/shop      1.5s  3 of 7 files  …"},
		"colored": {true, 33, "\x1b[32m✓\x1b[0m source/shop      1.5s…"},
		"no room": {false, 1, "✓ …"},
	} {
		t.Run(name, func(t *testing.T) {
			view := &tty{color: test.color, running: []*nodeState{node}}
			got, atLeft := strings.CutPrefix(view.line(0, begun, test.width), "\r")
			if got != test.want || !atLeft {
				t.Errorf("line of %d columns: %q, at the left: %v, want %q", test.width, got, atLeft, test.want)
			}
		})
	}
}

// TestAmount formats the progress of a node.
func TestAmount(t *testing.T) {
	begun := time.Unix(1000, 0)
	for _, test := range []struct {
		want  string
		event engine.Event
		done  bool
	}{
		{"", engine.Event{}, false},
		{"3 of 5 images", engine.Event{Current: 3, Total: 5, Unit: "images"}, false},
		{"5 images", engine.Event{Current: 5, Total: 5, Unit: "images"}, true},
		{"1 file", engine.Event{Current: 1, Total: 1, Unit: "files"}, true},
		{"0 of 1 lookup", engine.Event{Total: 1, Unit: "lookups"}, false},
		{"0 B of 2.0 MB", engine.Event{Total: 2e6, Unit: "bytes"}, false},
		{"1.0 MB of 2.0 MB, 500.0 kB/s", engine.Event{Current: 1e6, Total: 2e6, Unit: "bytes"}, false},
		{"1.0 MB, 500.0 kB/s", engine.Event{Current: 1e6, Total: 2e6, Unit: "bytes"}, true},
		{"", engine.Event{Total: 234, Unit: "bytes"}, true}, // the registry already had everything
	} {
		n := &nodeState{}
		n.apply(engine.Event{State: engine.Running, At: begun})
		n.apply(test.event)
		if test.done {
			n.apply(engine.Event{State: engine.Done, At: begun.Add(2 * time.Second)})
		}
		if got := n.amount(begun.Add(2 * time.Second)); got != test.want {
			t.Errorf("%+v, done: %v: got %q, want %q", test.event, test.done, got, test.want)
		}
	}
}
