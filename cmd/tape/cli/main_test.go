// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"io"
	"runtime/debug"
	"strings"
	"testing"
)

// TestInterrupted checks that an interrupted command says how to continue.
func TestInterrupted(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	for command, want := range map[string]string{
		"copy 127.0.0.1:1/a/b:c 127.0.0.1:1/d/e": "tape: interrupted; what was sent is kept; run the same command to continue\n",
		"save 127.0.0.1:1/a/b:c f.tar":           "tape: interrupted; run the same command with --resume to continue\n",
		"view 127.0.0.1:1/a/b:c":                 "tape: interrupted\n",
	} {
		t.Run(command, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := Run(ctx, strings.Fields(command), Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
			if code != exitInterrupted || errs.String() != want || out.Len() > 0 {
				t.Errorf("status %d, %q on stderr, want %q; stdout %q", code, errs.String(), want, out.String())
			}
		})
	}
}

// TestGarbageOfFleet checks that a program that runs a command keeps its own percentage of
// garbage, which 'tape fleet package' changes.
func TestGarbageOfFleet(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	defer debug.SetGCPercent(debug.SetGCPercent(90))
	_ = Run(t.Context(), []string{"fleet", "package", t.TempDir()}, Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	if now := debug.SetGCPercent(90); now != 90 {
		t.Errorf("the percentage became %d", now)
	}
}
