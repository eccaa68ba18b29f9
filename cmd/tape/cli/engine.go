// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// EngineFlags configure how to reach the engine of a fleet. Keys are given by name, not by
// value.
type EngineFlags struct {
	Address, Namespace, TaskQueue string
	CAFile, Cert, Key             string
	APIKeyFrom, PayloadKey        string

	engine string
}

// Add defines the flags.
func (e *EngineFlags) Add(f *pflag.FlagSet) {
	for _, flag := range e.list() {
		f.StringVar(flag.value, flag.name, "", flag.usage)
	}
}

type engineFlag struct {
	value       *string
	name, usage string
}

func (e *EngineFlags) list() []engineFlag {
	return []engineFlag{
		{&e.Address, "temporal-address", "`HOST:PORT` of Temporal (default as Temporal's own tools: $TEMPORAL_ADDRESS, its configuration file, 127.0.0.1:7233)"},
		{&e.Namespace, "namespace", "Temporal's namespace, by `NAME` (default $TEMPORAL_NAMESPACE)"},
		{&e.TaskQueue, "task-queue", "`NAME` of Temporal's queue (default: one of this fleet and this version)"},
		{&e.CAFile, "temporal-ca", "PEM `FILE` of the authority of Temporal's certificate"},
		{&e.Cert, "temporal-cert", "PEM `FILE` of the client's certificate for Temporal"},
		{&e.Key, "temporal-key", "PEM `FILE` of that certificate's key"},
		{&e.APIKeyFrom, "temporal-api-key", "API key for Temporal: `FILE` or env://NAME (default $TEMPORAL_API_KEY)"},
		{&e.PayloadKey, "payload-key", "encrypt what Temporal keeps, with 32 bytes in hex from `FILE` or env://NAME"},
	}
}

// localEngine and temporalEngine execute a plan: in this process, or on workers.
const localEngine, temporalEngine = "local", "temporal"

// add defines the flags, including the one that selects the engine.
func (e *EngineFlags) add(f *pflag.FlagSet) {
	f.StringVar(&e.engine, "engine", localEngine, "`NAME` of the engine: local, or temporal, which runs on workers")
	e.Add(f)
}

// check returns an error for flags that cannot be combined.
func (e *EngineFlags) check() error {
	switch e.engine {
	case localEngine:
		for _, flag := range e.list() {
			if *flag.value != "" {
				return usagef("--%s requires --engine %s", flag.name, temporalEngine)
			}
		}
	case temporalEngine:
	default:
		return usagef("unknown --engine %q: want %s or %s", e.engine, localEngine, temporalEngine)
	}
	return nil
}

// onEngine returns the function of a command that may use an engine; nil is this process. If
// this program does not link the engine, the one that does runs the same command.
func (a *program) onEngine(flags *EngineFlags, run func(cmd *cobra.Command, args []string, engine fleet.Engine) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		if flags.engine == localEngine {
			return run(cmd, args, nil)
		}
		if a.engine == nil {
			return a.startCompanion(cmd, flags.engine)
		}
		engine, err := a.engine(flags)
		if err != nil {
			return err
		}
		return run(cmd, args, engine)
	}
}

// patience is how long a companion may take to end after a signal.
const patience = 500 * time.Millisecond

// startCompanion runs this command with the program that links an engine, and ends with its status.
func (a *program) startCompanion(cmd *cobra.Command, engine string) error {
	file := "tape-fleet-" + engine
	if runtime.GOOS == "windows" {
		file += ".exe"
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find %s: %w", file, err)
	}
	dirs := host.SearchPath(exe, os.Getenv)
	path := ""
	for _, dir := range dirs {
		at := filepath.Join(dir, file)
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() {
			path = at
			break
		}
	}
	if path == "" {
		return fmt.Errorf("there is no %s in %s: put it beside tape", file, strings.Join(dirs, ", "))
	}
	ctx := cmd.Root().Context() // without --timeout, which the companion applies itself
	started := exec.CommandContext(ctx, path, a.args...)
	started.Cancel = func() error { return started.Process.Signal(os.Interrupt) }
	started.WaitDelay = patience
	started.Stdin, started.Stdout, started.Stderr = a.In, a.Out, a.terminal
	err = started.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok && ended.ExitCode() > 0 {
		a.printed = true // it has printed its error
		return &statusError{code: ended.ExitCode()}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", file, err)
	}
	return nil
}

func runText(p *printer, r *fleet.Run) {
	if r == nil {
		return
	}
	p.lay(`{{range .Running}}running    {{or .Name "(begun just now)"}}  attempt {{.Attempt}} at {{.Worker}}  {{.Doing}}
{{end}}run        {{.State}}; workers: {{len .Workers}}
`, r)
}

func (a *program) fleetCancelCommand() *cobra.Command {
	var (
		plan  string
		flags fleetFlags
	)
	engine := EngineFlags{engine: temporalEngine}
	cmd := &cobra.Command{
		Use:     "cancel [FILE]",
		Short:   "Cancel a run on the workers of an engine",
		Example: "  tape fleet cancel\n  tape fleet cancel --plan sha256:…",
		Long: `Applications that are already packaged are kept. (A run on this machine is ended
with Ctrl-C, one in CI with its job.)`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.onEngine(&engine, func(cmd *cobra.Command, args []string, engine fleet.Engine) error {
			o, err := flags.options(cmd.Context(), a, args, 1)
			if err != nil {
				return err
			}
			plan := digest.Digest(plan)
			if plan == "" {
				if plan, err = fleet.LatestPlan(cmd.Context(), o); err != nil {
					return err
				}
			}
			if err := engine.Cancel(cmd.Context(), plan); err != nil {
				return err
			}
			return a.print(map[string]digest.Digest{"canceled": plan}, func(p *printer) {
				p.f("canceled   %s\n", plan)
			})
		}),
	}
	cmd.Flags().StringVar(&plan, "plan", "", "`DIGEST` of the plan (default: the latest)")
	flags.register(cmd)
	engine.Add(cmd.Flags())
	return cmd
}
