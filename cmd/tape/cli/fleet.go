// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/report"
	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/app/fleet"
	"github.com/taped-dev/tape/stages/artifact"
)

func (a *program) fleetCommand() *cobra.Command {
	cmd := group("fleet", "Package all applications of a repository",
		`  tape fleet init
  tape fleet plan
  tape fleet package
  tape fleet report -o html > report.html`,
		a.fleetInitCommand(), a.fleetPlanCommand(), a.fleetPackageCommand(), a.fleetReportCommand("status"), a.fleetReportCommand("report"),
		a.fleetVerifyCommand(), a.fleetSignCommand(), a.fleetCopyCommand(), a.fleetRelocateCommand(), a.fleetPromoteCommand(), a.fleetCancelCommand(),
		schemaCommand("Print the JSON Schema of tape.fleet.yaml", "  tape fleet schema > tape.fleet.schema.json", a.Out, fleet.Schema))
	cmd.Long = `Works on the applications that a tape.fleet.yaml selects. A plan lists which of
them changed, and why. All processes that package its shards use the image
digests in the plan. An application that fails does not stop the others.`
	return cmd
}

// fleetFile returns the fleet file in the argument, or in this folder.
func fleetFile(args []string) (*fleet.File, error) {
	name := fleet.FileName
	if len(args) > 0 {
		name = args[0]
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			name = strings.TrimSuffix(name, "/") + "/" + fleet.FileName
		}
	}
	return fleet.Read(name)
}

// fleetFlags are the flags of every command that reads a fleet file.
type fleetFlags struct {
	cacheFlags
	signed  bool
	signKey string
}

// registerSigning adds the flags of commands that package.
func (f *fleetFlags) registerSigning(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.signed, "sign", false, "sign root and content of each with --key")
	cmd.Flags().StringVar(&f.signKey, "key", "", "private key to sign with: `FILE`, env://NAME, - for stdin, or NAME://REF of a KMS")
}

// options returns the options that all fleet commands share. The file may set the cache and
// limits, which flags override. processes is the number of processes that share the limits.
func (f *fleetFlags) options(ctx context.Context, a *program, args []string, processes int) (fleet.Options, error) {
	if f.signKey != "" && !f.signed {
		return fleet.Options{}, usagef("--key requires --sign")
	}
	file, err := fleetFile(args)
	if err != nil {
		return fleet.Options{}, err
	}
	a.flags.limits = file.Budget(a.flags.limits).Share(processes)
	env, err := a.environment(ctx)
	if err != nil {
		return fleet.Options{}, err
	}
	o := fleet.Options{Environment: env, File: file, Version: readVersion().Version}
	if o.Created, err = artifact.SourceDateEpoch(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return o, err
	}
	if f.signed {
		if o.Signer, err = a.signer(ctx, f.signKey); err != nil {
			return o, err
		}
	}
	f.take(file)
	o.Cache, err = a.cache(ctx, &f.cacheFlags, env)
	if err != nil {
		return o, err
	}
	shown := &fleetProgress{to: a}
	o.Progress = shown.tell
	return o, nil
}

// take takes the settings of the cache from the file, unless flags set them.
func (f *fleetFlags) take(file *fleet.File) {
	if f.repository != "" || file.Cache.Repository == "" {
		return
	}
	f.repository = file.Cache.Repository
	if file.Cache.Trust != "" && len(f.trust) == 0 {
		f.trust = []string{file.Path(file.Cache.Trust)}
	}
	if file.Cache.Keep != 0 {
		f.keep = time.Duration(file.Cache.Keep)
	}
}

func (a *program) fleetInitCommand() *cobra.Command {
	var o fleet.InitOptions
	cmd := &cobra.Command{
		Use:     "init [DIR]",
		Short:   "Find the applications in a folder, and write tape.fleet.yaml",
		Example: "  tape fleet init\n  tape fleet init ./deploy -O registry.example.com/apps",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			o.Environment, o.Dir = env, "."
			if len(args) > 0 {
				o.Dir = args[0]
			}
			return printed(a, func(p *printer, result *fleet.InitResult) {
				p.f("%swrote      %s: %s; see what 'tape fleet plan' makes of it\n", result.Fleet, result.File, count.Of(result.Applications, "application"))
			})(fleet.Init(ctx, o))
		}),
	}
	cmd.Flags().StringVarP(&o.Repository, "output-image", "O", "", "`REPOSITORY` below which each application gets its own repository")
	cmd.Flags().BoolVar(&o.Force, "force", false, "replace an existing file")
	return cmd
}

func (a *program) fleetPlanCommand() *cobra.Command {
	var (
		since  string
		trust  string
		shards int
		flags  fleetFlags
	)
	cmd := &cobra.Command{
		Use:   "plan [FILE]",
		Short: "Show which applications changed, and why",
		Example: `  tape fleet plan
  tape fleet plan --since origin/main -o markdown
  tape fleet plan -o github    # the matrix of a GitHub job`,
		Annotations: map[string]string{formats: "markdown github gitlab job"},
		Args:        cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := flags.options(cmd.Context(), a, args, 1)
			if err != nil {
				return err
			}
			o.Trust = trust
			plan, dgst, err := fleet.MakePlan(cmd.Context(), fleet.PlanOptions{Options: o, Since: since, Shared: true})
			jobs := slices.Contains([]string{"github", "gitlab", "job"}, a.flags.output)
			if err != nil && (jobs || !errors.Is(err, fleet.ErrNotShared)) {
				return err
			}
			a.settle()
			if err != nil { // a pull request gets this, because it may only read the cache
				a.note("%v", err)
			}
			if shards == 0 {
				shards = report.Shards(plan)
			}
			switch a.flags.output {
			case "markdown":
				return report.PlanMarkdown(a.data(), plan, dgst)
			case "github":
				return report.GitHub(a.data(), dgst, shards)
			case "gitlab":
				return report.GitLab(a.data(), dgst, shards)
			case "job":
				return report.Job(a.data(), plan, dgst, o.URI(cmd.Context()), shards)
			}
			p := fleetPlan{Plan: dgst, Commit: plan.Commit, Applications: []fleetApplication{}, Images: len(plan.Images)}
			for _, a := range plan.Applications {
				p.Applications = append(p.Applications, fleetApplication{a.Name, a.Path, a.State, a.Key, a.Reason, a.Failure})
			}
			return a.print(p, func(to *printer) { planText(to, p, report.PlanCounts(plan)) })
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "skip applications whose files did not change since `REV`")
	cmd.Flags().StringVar(&trust, "trust", "", "trust policy `FILE` (trust.yaml) that package will apply to images")
	flags.register(cmd)
	cmd.Flags().IntVar(&shards, "shards", 0, "`N` jobs, for -o github, gitlab and job (default: one per 100 applications, at most 20)")
	return cmd
}

// fleetPlan is the printed form of a plan.
type fleetPlan struct {
	Plan         digest.Digest      `json:"plan"`
	Commit       string             `json:"commit"`
	Applications []fleetApplication `json:"applications"`
	Images       int                `json:"images"`
}

type fleetApplication struct {
	Name   string         `json:"name"`
	Path   string         `json:"path"`
	State  fleet.State    `json:"state"`
	Key    digest.Digest  `json:"key"`
	Reason string         `json:"reason"`
	Error  *fleet.Failure `json:"error,omitempty"`
}

func planText(p *printer, plan fleetPlan, totals string) {
	width := 0
	for _, a := range plan.Applications {
		width = max(width, len(a.Name))
	}
	for _, a := range plan.Applications {
		reason := a.Reason
		if a.Error != nil {
			reason += ": " + strings.ReplaceAll(a.Error.Message, "\n", "\n  ")
		}
		p.f("%-9s  %-*s  %s\n", a.State, width, a.Name, reason)
	}
	p.f("total      %s\nplan       %s\n", totals, plan.Plan)
}

func (a *program) fleetPackageCommand() *cobra.Command {
	var (
		o           fleet.PackageOptions
		engine      EngineFlags
		plan        string
		shard       string
		trust       string
		concurrency int
		flags       fleetFlags
	)
	cmd := &cobra.Command{
		Use:   "package [FILE]",
		Short: "Package the applications that changed",
		Example: `  tape fleet package
  tape fleet package --plan sha256:… --shard 3/8
  tape fleet package --sign --key cosign.key
  tape fleet package --engine temporal`,
		Annotations: map[string]string{afterInterrupt: "what was packaged is kept; run the same command to continue", formats: "markdown html junit"},
		Args:        cobra.MaximumNArgs(1),
		PreRunE: func(*cobra.Command, []string) error {
			switch {
			case engine.engine == localEngine:
			case shard != "":
				return usagef("--engine %s gives every worker its part: leave out --shard", engine.engine)
			case flags.signed:
				return usagef("with --engine %s the workers sign: give --sign and --key to them", engine.engine)
			case trust != "":
				return usagef("--trust requires --engine %s: workers have no trust file", localEngine)
			}
			return nil
		},
		RunE: a.onEngine(&engine, func(cmd *cobra.Command, args []string, engine fleet.Engine) error {
			var err error
			if o.Shard, err = parseShard(shard, os.Getenv); err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				defer debug.SetGCPercent(debug.SetGCPercent(fleetGarbage))
			}
			if o.Options, err = flags.options(cmd.Context(), a, args, max(o.Shard.Of, 1)); err != nil {
				return err
			}
			o.Concurrency, o.Plan, o.Trust = concurrency, digest.Digest(plan), trust
			o.Engine, o.Limits = engine, a.flags.limits
			result, err := fleet.Package(cmd.Context(), o)
			if err != nil && engine != nil && cmd.Context().Err() != nil {
				err = errors.New("interrupted; the run goes on: the same command follows it, and 'tape fleet cancel' ends it")
				return &statusError{code: exitInterrupted, err: err}
			}
			if err != nil {
				return err
			}
			a.settle()
			return a.reported(result, true)
		}),
	}
	cmd.Flags().StringVar(&plan, "plan", "", "`DIGEST` of the plan to execute (default: make one)")
	cmd.Flags().StringVar(&shard, "shard", "", "`I/N`: the part of the plan to execute, from 1/N to N/N; auto: from the environment of the CI job")
	cmd.Flags().IntVar(&concurrency, "concurrency", 0, "`N` concurrent applications (default 16)")
	cmd.Flags().BoolVar(&o.FailFast, "fail-fast", false, "stop at the first application that fails")
	cmd.Flags().BoolVar(&o.Force, "force", false, "move tags even if a newer commit was packaged already")
	cmd.Flags().BoolVar(&o.Again, "again", false, "retry applications that could not be read")
	flags.register(cmd)
	flags.registerSigning(cmd)
	cmd.Flags().StringVar(&trust, "trust", "", "trust policy `FILE` (trust.yaml) for images, checked before any is copied")
	engine.add(cmd.Flags())
	return cmd
}

// fleetGarbage is the garbage collection percentage (GOGC) while many applications are packaged.
// It is lower than the default, because most objects are short-lived and would otherwise accumulate.
const fleetGarbage = 40

// parseShard parses I/N. auto takes the shard from the environment of the job: GitLab's
// parallel, a Kubernetes Job with an index, or TAPE_SHARD=I/N.
func parseShard(text string, getenv func(string) string) (fleet.Shard, error) {
	if text == "auto" {
		switch index, of := getenv("JOB_COMPLETION_INDEX"), getenv("TAPE_SHARDS"); {
		case getenv("TAPE_SHARD") != "":
			text = getenv("TAPE_SHARD")
		case getenv("CI_NODE_INDEX") != "" && getenv("CI_NODE_TOTAL") != "":
			text = getenv("CI_NODE_INDEX") + "/" + getenv("CI_NODE_TOTAL")
		case index != "" && of != "":
			n, err := strconv.Atoi(index)
			if err != nil {
				return fleet.Shard{}, usagef("JOB_COMPLETION_INDEX %q is not a number", index)
			}
			text = strconv.Itoa(n+1) + "/" + of
		default:
			return fleet.Shard{}, usagef("--shard auto: the environment does not name the shard; set TAPE_SHARD=I/N, or TAPE_SHARDS=N in a Job of Kubernetes with an index")
		}
	}
	if text == "" {
		return fleet.Shard{}, nil
	}
	i, n, ok := strings.Cut(text, "/")
	index, err := strconv.Atoi(i)
	of, err2 := strconv.Atoi(n)
	if !ok || err != nil || err2 != nil {
		return fleet.Shard{}, usagef("--shard %q: want I/N, such as 1/8, or auto", text)
	}
	if of < 1 || index < 1 || index > of {
		return fleet.Shard{}, usagef("--shard %s is out of range: the first is 1/%d, the last %d/%d", text, max(of, 1), max(of, 1), max(of, 1))
	}
	return fleet.Shard{Index: index, Of: of}, nil
}

func (a *program) fleetReportCommand(name string) *cobra.Command {
	var (
		plan  string
		flags fleetFlags
	)
	engine := EngineFlags{engine: localEngine}
	short := "Show the progress of a plan"
	if name == "report" {
		short = "Report the outcome of every application"
	}
	cmd := &cobra.Command{
		Use:         name + " [FILE]",
		Short:       short,
		Example:     "  tape fleet " + name + "\n  tape fleet " + name + " --plan sha256:… -o markdown",
		Annotations: map[string]string{formats: "markdown html junit"},
		Args:        cobra.MaximumNArgs(1),
		RunE: a.onEngine(&engine, func(cmd *cobra.Command, args []string, engine fleet.Engine) error {
			o, err := flags.options(cmd.Context(), a, args, 1)
			if err != nil {
				return err
			}
			result, err := fleet.MakeReport(cmd.Context(), fleet.ReportOptions{Options: o, Plan: digest.Digest(plan), Engine: engine})
			if err != nil {
				return err
			}
			a.settle()
			return a.reported(result, name == "report")
		}),
	}
	cmd.Flags().StringVar(&plan, "plan", "", "`DIGEST` of the plan (default: the latest)")
	flags.register(cmd)
	if name == "status" {
		engine.add(cmd.Flags())
	}
	return cmd
}

// reported prints a report, and returns an error if an application failed.
func (a *program) reported(r *fleet.Report, whole bool) error {
	var err error
	switch a.flags.output {
	case "markdown":
		err = report.Markdown(a.data(), r)
	case "html":
		err = report.Page(a.data(), r)
	case "junit":
		err = report.JUnit(a.data(), r)
	default:
		err = a.print(r, func(p *printer) {
			p.by(func(w io.Writer) error { return report.Text(w, r, whole) })
			runText(p, r.Run)
		})
	}
	if err == nil && r.Totals.Failed > 0 {
		err = &statusError{code: exitFailed, err: fmt.Errorf("%d of %s failed", r.Totals.Failed, count.Of(r.Totals.Applications, "application"))}
	}
	return err
}

// fleetProgress shows the progress of a fleet: a line with the total, and one for each
// application that ends.
type fleetProgress struct {
	to *program

	mu      sync.Mutex
	doing   string
	printed time.Time // when the rate was last printed
}

// rateInterval is the interval for printing the rate and the remaining time.
const rateInterval = 2 * time.Second

func (f *fleetProgress) tell(p fleet.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	node, unit := string(p.Doing), "applications"
	if p.Doing == fleet.DoResolve {
		unit = "images"
	}
	if f.doing != node {
		f.doing, f.printed = node, now
		f.to.progress.Event(engine.Event{Node: node, State: engine.Running, At: now, Total: int64(p.Of), Unit: unit})
	}
	if o := p.Ended; o != nil {
		line := fmt.Sprintf("%-9s  %s  %.1fs  %s", o.State, o.Name, o.Seconds, o.Root)
		if o.Error != nil {
			first, _, _ := strings.Cut(o.Error.Message, "\n")
			line = fmt.Sprintf("%-9s  %s  %.1fs  %s", o.State, o.Name, o.Seconds, first)
		}
		f.to.progress.Event(engine.Event{At: now, Message: line})
		for _, m := range o.MovedTags {
			f.to.note("%s: %s", o.Name, m)
		}
	}
	e := engine.Event{Node: node, At: now, Current: int64(p.Done), Total: int64(p.Of), Unit: unit}
	if passed := now.Sub(p.Began).Seconds(); p.Done > 0 && p.Done < p.Of && now.Sub(f.printed) > rateInterval {
		f.printed = now
		left := time.Duration(passed / float64(p.Done) * float64(p.Of-p.Done) * float64(time.Second)).Round(time.Second)
		e.Message = fmt.Sprintf("%d of %s, %.3g a second, %s left", p.Done, count.Of(p.Of, strings.TrimSuffix(unit, "s")), float64(p.Done)/passed, left)
		if p.Doing == fleet.DoPackage {
			e.Message += fmt.Sprintf("; %d running, %d failed", p.Running, p.Failed)
		}
	}
	f.to.progress.Event(e)
	if p.Done == p.Of {
		f.to.progress.Event(engine.Event{Node: node, State: engine.Done, At: now})
	}
}
