// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/app"
)

// environment returns the environment that the flags describe. The caller must close it.
func (a *program) environment(ctx context.Context) (app.Environment, error) {
	if a.opened != nil {
		return *a.opened, nil
	}
	log, err := a.log()
	if err != nil {
		return app.Environment{}, err
	}
	s := a.settings()
	s.Log, s.Kinds = slog.New(noticeHandler{log.Handler(), a.progress}), a.kinds
	s.Events = func(e engine.Event) { a.progress.Event(e) }
	env, err := app.Open(ctx, s)
	if err != nil {
		return app.Environment{}, err
	}
	a.opened = env
	a.closers = append(a.closers, env.Close)
	return *env, nil
}

// in returns the function of a command that needs the environment.
func (a *program) in(run func(ctx context.Context, env app.Environment, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		env, err := a.environment(cmd.Context())
		if err != nil {
			return err
		}
		return run(cmd.Context(), env, args)
	}
}

// settings returns the settings from the flags.
func (a *program) settings() app.Settings {
	return app.Settings{
		Store: a.flags.store, HostsDir: a.flags.hostsDir, PlainHTTP: a.flags.plainHTTP, CAFile: a.flags.caFile, Concurrency: a.flags.concurrency,
		Limits: a.flags.limits,
	}
}

// settle ends the live view before a result is printed.
func (a *program) settle() {
	if a.progress != nil && a.flags.progress != "json" {
		a.progress.Close()
		a.progress = quiet{a.Err}
	}
}

// warn and note report what is not part of the result.
func (a *program) warn(format string, args ...any) { a.say(engine.Warning, format, args...) }
func (a *program) note(format string, args ...any) { a.say(engine.Note, format, args...) }

func (a *program) say(level, format string, args ...any) {
	a.progress.Event(engine.Event{At: time.Now(), Level: level, Message: fmt.Sprintf(format, args...)})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
