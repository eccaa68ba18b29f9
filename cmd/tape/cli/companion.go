// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// Companion is a program in the same folder as tape that links an engine. It has tape's global flags
// and the commands of a fleet, which tape starts if they need the engine.
type Companion struct {
	Name, Short, Long, Example string
	// Grace is how long a command may take to end after a signal; 0 means the same as for tape.
	Grace time.Duration
	// Engine returns the engine that the flags describe.
	Engine func(*Program, *EngineFlags) (fleet.Engine, error)
	// Commands returns its other commands.
	Commands func(*Program) []*cobra.Command
	// Kinds are stages in addition to tape's own, as in [Main].
	Kinds []pipeline.Kind
}

// Main runs the command and exits.
func (c Companion) Main() {
	main(c.Name, max(c.Grace, grace), c.Run)
}

// Run runs the command and returns the exit status.
func (c Companion) Run(ctx context.Context, args []string, streams Streams) int {
	a := newProgram(c.Name, streams, c.Kinds)
	a.engine = func(flags *EngineFlags) (fleet.Engine, error) { return c.Engine(&Program{a}, flags) }
	root := &cobra.Command{Use: c.Name, Short: c.Short, Long: c.Long, Example: c.Example}
	a.asRoot(root)
	root.AddCommand(append(c.Commands(&Program{a}), a.fleetCommand())...)
	return a.run(ctx, root, args)
}

// Program is one run of a command of a [Companion].
type Program struct{ *program }

// FleetFlags defines the flags of a command that packages applications of a fleet. The returned
// function reads the options of the fleet whose file is an argument, or is in the working
// folder.
func (p *Program) FleetFlags(cmd *cobra.Command) func(ctx context.Context, args []string) (fleet.Options, error) {
	var flags fleetFlags
	flags.register(cmd)
	flags.registerSigning(cmd)
	return func(ctx context.Context, args []string) (fleet.Options, error) {
		return flags.options(ctx, p.program, args, 1)
	}
}

// Log returns the logger that the flags describe.
func (p *Program) Log() (*slog.Logger, error) { return p.log() }

// Note writes lines for people to stderr.
func (p *Program) Note() io.Writer { return p.progress }

// Usage returns an error that reports wrong usage, with exit status 2.
func Usage(format string, args ...any) error { return usagef(format, args...) }
