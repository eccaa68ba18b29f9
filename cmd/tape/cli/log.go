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

// spoken is a log of which people read what is at least a warning, like the warnings of stages.
// The rest remains lines of a log.
type spoken struct {
	slog.Handler
	progress progress
}

func (s spoken) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return s.Handler.Handle(ctx, r)
	}
	parts := []string{r.Message} // a thing, and what is wrong with it
	r.Attrs(func(a slog.Attr) bool {
		parts = append(parts, a.Value.String())
		return true
	})
	s.progress.Event(engine.Event{Level: engine.Warning, At: r.Time, Message: strings.Join(parts, ": ")})
	return nil
}
