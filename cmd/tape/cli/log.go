// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"log/slog"
	"strings"

	"github.com/taped-dev/tape/engine"
)

// log returns a logger that writes to stderr without garbling the progress.
func (a *program) log() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.flags.logLevel)); err != nil {
		return nil, usagef("unknown log level %q: want debug, info, warn or error", a.flags.logLevel)
	}
	return slog.New(slog.NewTextHandler(a.progress, &slog.HandlerOptions{Level: level})), nil
}

// noticeHandler is a log handler that reports warnings and errors in the same way as those of stages.
// Other records remain lines of the log.
type noticeHandler struct {
	slog.Handler
	progress progress
}

func (h noticeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.Handler.Handle(ctx, r)
	}
	parts := []string{r.Message} // a message, followed by the values of its attributes
	r.Attrs(func(a slog.Attr) bool {
		parts = append(parts, a.Value.String())
		return true
	})
	h.progress.Event(engine.Event{Level: engine.Warning, At: r.Time, Message: strings.Join(parts, ": ")})
	return nil
}
