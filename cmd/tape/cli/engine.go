// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// EngineFlags configure how the engine of a fleet is reached. Keys are given by name, not by
// value.
type EngineFlags struct {
	Address, Namespace     string
	CAFile, Cert, Key      string
	APIKeyFrom, PayloadKey string

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
		{&e.CAFile, "temporal-ca", "PEM `FILE` of the authority of Temporal's certificate"},
		{&e.Cert, "temporal-cert", "PEM `FILE` of the client's certificate for Temporal"},
		{&e.Key, "temporal-key", "PEM `FILE` of that certificate's key"},
		{&e.APIKeyFrom, "temporal-api-key", "API key for Temporal: `FILE` or env://NAME (default $TEMPORAL_API_KEY)"},
		{&e.PayloadKey, "payload-key", "encrypt what Temporal keeps, with 32 bytes in hex from `FILE` or env://NAME"},
	}
}

// args returns the flags that were given, as arguments.
func (e *EngineFlags) args() []string {
	var out []string
	for _, flag := range e.list() {
		if *flag.value != "" {
			out = append(out, "--"+flag.name+"="+*flag.value)
		}
	}
	return out
}

// localEngine and temporalEngine execute a plan: in this process, or in a program in the folder
// of tape.
const localEngine, temporalEngine = "local", "temporal"

// add defines the flags, including the one that selects the engine.
func (e *EngineFlags) add(f *pflag.FlagSet) {
	f.StringVar(&e.engine, "engine", localEngine, "`NAME` of the engine: local, or temporal, which runs on workers")
	e.Add(f)
}

// check refuses flags that cannot be combined.
func (e *EngineFlags) check(shard string, signed bool) error {
	switch {
	case e.engine == localEngine:
		if args := e.args(); len(args) > 0 {
			given, _, _ := strings.Cut(args[0], "=")
			return usagef("%s requires --engine %s", given, temporalEngine)
		}
	case e.engine != temporalEngine:
		return usagef("unknown --engine %q: want %s or %s", e.engine, localEngine, temporalEngine)
	case shard != "":
		return usagef("--engine %s gives every worker its part: leave out --shard", e.engine)
	case signed:
		return usagef("with --engine %s the workers sign: give --sign and --key to them", e.engine)
	}
	return nil
}

func (a *program) engineProgram(flags *EngineFlags) (*engineProgram, error) {
	file := "tape-fleet-" + flags.engine
	if runtime.GOOS == "windows" {
		file += ".exe"
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", file, err)
	}
	dirs := host.SearchPath(exe, os.Getenv)
	for _, dir := range dirs {
		path := filepath.Join(dir, file)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return &engineProgram{path: path, args: flags.args(), to: a}, nil
		}
	}
	return nil, fmt.Errorf("there is no %s in %s: put it beside tape", file, strings.Join(dirs, ", "))
}

// askEngine asks the selected engine for its status. This process has none.
func (a *program) askEngine(ctx context.Context, flags *EngineFlags, o fleet.Options, r *fleet.Report) (*fleet.Run, error) {
	if flags.engine == "" {
		return nil, nil //nolint:nilnil // the command has no engine
	}
	if err := flags.check("", false); err != nil || flags.engine == localEngine {
		return nil, err
	}
	e, err := a.engineProgram(flags)
	if err != nil {
		return nil, err
	}
	id, err := fleet.Identify(ctx, o)
	if err != nil {
		return nil, err
	}
	var run fleet.Run
	err = e.run(ctx, "status", fleet.Job{Fleet: id, Version: r.Version, Plan: r.Plan}, func(out io.Reader) error {
		return json.NewDecoder(out).Decode(&run)
	})
	return &run, err
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
		plan   string
		flags  fleetFlags
		engine EngineFlags
	)
	cmd := &cobra.Command{
		Use:     "cancel [FILE]",
		Short:   "Cancel a run on the workers of an engine",
		Example: "  tape fleet cancel\n  tape fleet cancel --plan sha256:…",
		Long: `Applications that are already packaged are kept. (A run on this machine is ended
with Ctrl-C, one in CI with its job.)`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			engine.engine = temporalEngine
			o, err := flags.options(cmd.Context(), a, args, 1)
			if err != nil {
				return err
			}
			e, err := a.engineProgram(&engine)
			if err != nil {
				return err
			}
			job := fleet.Job{Plan: digest.Digest(plan), Version: o.Version}
			if plan == "" {
				latest, err := fleet.LatestPlan(cmd.Context(), o)
				if err != nil {
					return err
				}
				if job.Plan, err = latest.Digest(); err != nil {
					return err
				}
			}
			if job.Fleet, err = fleet.Identify(cmd.Context(), o); err != nil {
				return err
			}
			if err := e.run(cmd.Context(), "cancel", job, func(io.Reader) error { return nil }); err != nil {
				return err
			}
			return a.print(map[string]digest.Digest{"canceled": job.Plan}, func(p *printer) {
				p.f("canceled   %s\n", job.Plan)
			})
		},
	}
	cmd.Flags().StringVar(&plan, "plan", "", "`DIGEST` of the plan (default: the latest)")
	flags.register(cmd)
	engine.Add(cmd.Flags())
	return cmd
}

// engineProgram is an engine that is a program. Its commands read a [fleet.Job] as JSON from
// stdin.
type engineProgram struct {
	path string
	args []string
	to   *program
}

// Package implements [fleet.Engine]: the program prints every outcome as a line.
func (e *engineProgram) Package(ctx context.Context, job fleet.Job, ended func(fleet.Outcome)) error {
	job.Limits = map[string]float64{}
	for host, limit := range e.to.flags.limits { // with those of the fleet's file
		job.Limits[host] = float64(limit)
	}
	return e.run(ctx, "submit", job, func(out io.Reader) error {
		lines := json.NewDecoder(bufio.NewReader(out))
		for {
			var o fleet.Outcome
			if err := lines.Decode(&o); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("read what %s says: %w", filepath.Base(e.path), err)
			}
			ended(o)
		}
	})
}

// patience is how long the program may take to end after a signal.
const patience = 500 * time.Millisecond

// run starts a command of the program. The last line that it writes to stderr is its error; all
// others are shown as they arrive.
func (e *engineProgram) run(ctx context.Context, command string, job fleet.Job, read func(io.Reader) error) error {
	in, err := json.Marshal(job)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, e.path, append([]string{command}, e.args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	cmd.Stdin = bytes.NewReader(in)
	said := &lastLine{to: e.to.progress}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(e.path), err)
	}
	err = read(out)
	_, _ = io.Copy(io.Discard, out) // so that it ends
	if failed := cmd.Wait(); failed != nil {
		program := filepath.Base(e.path)
		if text := strings.TrimPrefix(strings.TrimSpace(string(said.line)), program+": "); text != "" {
			err = errors.New(text)
		} else {
			err = fmt.Errorf("%s: %w", program, failed)
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// lastLine passes on all lines except the last.
type lastLine struct {
	to   io.Writer
	line []byte
}

func (l *lastLine) Write(p []byte) (int, error) {
	for part := range bytes.Lines(p) {
		if bytes.HasSuffix(l.line, []byte("\n")) {
			if _, err := l.to.Write(l.line); err != nil {
				return 0, err
			}
			l.line = l.line[:0]
		}
		l.line = append(l.line, part...)
	}
	return len(p), nil
}
