// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine"
)

// TestTTYLine: a line fills its row at most, keeps its color where it is cut, and
// begins at the left wherever the cursor is.
func TestTTYLine(t *testing.T) {
	begun := time.Unix(1000, 0)
	node := &ttyNode{nodeState: nodeState{name: "source/shop"}}
	node.apply(engine.Event{State: engine.Running, At: begun})
	node.apply(engine.Event{Current: 3, Total: 7, Unit: "files", Message: "interpreter plain: no other claims it"})
	node.apply(engine.Event{State: engine.Done, At: begun.Add(1500 * time.Millisecond)})

	for name, test := range map[string]struct {
		color bool
		width int
		want  string
	}{
		"whole":   {false, 80, "✓ source/shop      1.5s  3/7 files  interpreter plain: no other claims it"},
		"cut":     {false, 40, "✓ source/shop      1.5s  3/7 files  int…"},
		"colored": {true, 33, "\x1b[32m✓\x1b[0m source/shop      1.5s…"},
		"no room": {false, 1, "✓ …"},
	} {
		t.Run(name, func(t *testing.T) {
			view := &tty{color: test.color}
			got, atLeft := strings.CutPrefix(view.line(node, begun, test.width), "\r")
			if got != test.want || !atLeft {
				t.Errorf("line of %d columns: %q, at the left: %v, want %q", test.width, got, atLeft, test.want)
			}
		})
	}
}
