// SPDX-License-Identifier: Apache-2.0

// Package cli implements the tape command: it parses flags, calls one function of package app and
// prints the result.
//
// Results are written to stdout, everything else to stderr. The exit status is 0 for success, 1
// for a failure, 2 for wrong usage, and 3 if a verification failed or a policy refused something.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/internal/lategc"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
	exitPolicy = 3
	// exitInterrupted is the conventional status of a program that was ended by SIGINT.
	exitInterrupted = 130
)

// grace is how long an interrupted command may take to end, even if it is in a system call that
// cannot be interrupted, such as one on a hanging file system. Afterwards the process exits, and
// leaves the same files as if it had been killed.
const grace = 900 * time.Millisecond

// softMemory is the memory limit above which the garbage collector works harder. Few inputs come
// near it, and most of those are hostile.
const softMemory = 640 << 20

// Main runs the command and exits. The kinds are additional stages for pipelines.
func Main(kinds ...pipeline.Kind) {
	main("tape", grace, func(ctx context.Context, args []string, streams Streams) int {
		return Run(ctx, args, streams, kinds...)
	})
}

// main is the main function of a program, which has some time to end after a signal.
func main(name string, grace time.Duration, run func(context.Context, []string, Streams) int) {
	lategc.Start()
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ended := context.AfterFunc(ctx, func() {
		time.AfterFunc(grace, func() {
			fmt.Fprintln(os.Stderr, name+": interrupted")
			os.Exit(exitInterrupted)
		})
	})
	code := run(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	ended() // the normal end is not an interrupt
	stop()
	os.Exit(code)
}

// Streams are the standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs the command and returns the exit status.
func Run(ctx context.Context, args []string, streams Streams, kinds ...pipeline.Kind) int {
	a := newProgram("tape", streams, kinds)
	return a.run(ctx, a.root(), args)
}

// Tree returns the tree of commands, from which manual pages and completion scripts are made.
func Tree() *cobra.Command {
	return newProgram("tape", Streams{Out: io.Discard, Err: io.Discard}, nil).root()
}

func newProgram(name string, streams Streams, kinds []pipeline.Kind) *program {
	// The output contains untrusted text. Progress writes escape sequences on purpose, and cleans
	// its texts itself.
	terminal := streams.Err
	streams.Err = visible{streams.Err}
	return &program{name: name, Streams: streams, terminal: terminal, kinds: kinds}
}

// run runs a command of root and returns the exit status.
func (a *program) run(ctx context.Context, root *cobra.Command, args []string) int {
	a.args = args
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)

	cmd, err := checkCommand(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	if a.progress == nil && a.flags.output == "text" { // flags before -o may be invalid
		a.flags.output = formatIn(args)
	}
	a.close()
	if err == nil {
		return 0
	}
	status := a.status(ctx, cmd, err)
	a.failed(err, status)
	return status
}

// formatIn returns the output format in arguments, even if these cannot be parsed completely.
func formatIn(args []string) string {
	format := "text"
	for i, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		switch {
		case (arg == "-o" || arg == "--output-format") && i+1 < len(args):
			format = args[i+1]
		case given && (name == "-o" || name == "--output-format"):
			format = value
		case arg == "-ojson" || arg == "-oyaml":
			format = arg[2:]
		}
	}
	return format
}

// status reports an error, and returns the exit status.
func (a *program) status(ctx context.Context, cmd *cobra.Command, err error) int {
	status, known := errors.AsType[*statusError](err)
	_, usage := errors.AsType[*app.UsageError](err)
	switch {
	case known:
		if status.err != nil {
			a.fail(status.err)
		}
		return status.code
	case usage:
		a.fail(err)
		fmt.Fprintf(a.Err, "see '%s --help'\n", cmd.CommandPath())
		return exitUsage
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))):
		text := a.name + ": interrupted"
		if hint := cmd.Annotations[afterInterrupt]; hint != "" {
			text += "; " + hint
		}
		fmt.Fprintln(a.Err, text)
		return exitInterrupted
	case errors.Is(err, engine.ErrPolicy):
		a.fail(err)
		return exitPolicy
	}
	a.fail(err)
	return exitFailed
}

// afterInterrupt is the annotation of a command that describes how to continue after an
// interrupt.
const afterInterrupt = "after interrupt"

// resumable is the annotation of commands that write to a registry. Repeating one continues it,
// because it writes the tag that people use last.
var resumable = map[string]string{afterInterrupt: "what was sent is kept; run the same command to continue"}

// program is one run of the command, with its flags, its streams, and what it opens on demand.
type program struct {
	Streams
	name     string
	terminal io.Writer // the unfiltered stderr; Err is filtered
	kinds    []pipeline.Kind
	engine   func(*EngineFlags) (fleet.Engine, error) // nil if the program links none
	args     []string
	flags    flags

	progress progress
	opened   *app.Environment
	closers  []func() error
	printed  bool // a result is on stdout
}

// flags are the global flags.
type flags struct {
	output      string
	logLevel    string
	progress    string
	store       string
	concurrency int
	limits      registry.Limits
	hostsDir    string
	plainHTTP   []string
	caFile      string
	timeout     time.Duration
}

func (a *program) fail(err error) {
	text := a.name + ": " + strings.TrimSpace(hinted(err))
	if a.flags.progress == "github" {
		text = annotations("error", text)
	}
	fmt.Fprintln(a.Err, text)
}

func (a *program) close() {
	for _, c := range slices.Backward(a.closers) {
		if err := c(); err != nil {
			a.fail(err)
		}
	}
	a.closers = nil
	if a.progress != nil {
		a.progress.Close()
		a.progress = nil
	}
}

// failed prints an error as a document, if the output format is one and no result has been
// printed.
func (a *program) failed(err error, status int) {
	if a.printed || a.flags.output != "json" && a.flags.output != "yaml" {
		return
	}
	var doc struct {
		Error struct {
			Message string `json:"message"`
			Status  int    `json:"status"`
		} `json:"error"`
	}
	doc.Error.Message, doc.Error.Status = strings.TrimSpace(hinted(err)), status
	if err := a.print(doc, nil); err != nil {
		a.fail(err)
	}
}

// root returns the command tree.
func (a *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tape",
		Short: "Pack a Kubernetes application into one OCI artifact",
		Long: `tape packs a whole Kubernetes application into one OCI artifact: the rendered
manifests with every image pinned by digest, all images that they use, the
signatures and SBOMs of these images, and statements about their origin.`,
		Example: `  tape package ./kustomize -O registry.example.com/team/podinfo
  tape view registry.example.com/team/podinfo:v1.2.3
  tape pull registry.example.com/team/podinfo:v1.2.3 ./podinfo
  kubectl apply -R -f ./podinfo`,
	}
	a.asRoot(root)
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"make", "Packaging:", []*cobra.Command{a.imagesCommand(), a.renderCommand(), a.packageCommand()}},
		{"use", "Inspecting and pulling:", []*cobra.Command{a.listCommand(), a.viewCommand(), a.diffCommand(), a.pullCommand()}},
		{"fleet", "Many applications:", []*cobra.Command{a.fleetCommand()}},
		{"trust", "Signing and verification:", []*cobra.Command{a.signCommand(), a.verifyCommand(), a.trustCommand(), a.reproduceCommand()}},
		{"move", "Moving:", []*cobra.Command{
			a.copyCommand(), a.promoteCommand(), a.relocateCommand(), a.saveCommand(), a.loadCommand(), a.cnabCommand(),
		}},
		{"set", "Setup:", []*cobra.Command{
			a.pipelineCommand(), a.interpreterCommand(), a.cacheCommand(), a.loginCommand(), a.logoutCommand(), a.registryCommand(), a.versionCommand(),
		}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
		}
		root.AddCommand(g.commands...)
	}
	root.SetHelpCommandGroupID("set")
	root.SetCompletionCommandGroupID("set")
	root.InitDefaultCompletionCmd()
	describeCompletion(root)
	a.completeFlags(root)
	a.completeTags(root)
	return root
}

// asRoot adds what every program has to a tree of commands: flags, help, and the reporting of
// mistakes.
func (a *program) asRoot(root *cobra.Command) {
	// Both the flag and the command exist: the command prints more, and supports -o json.
	root.Version = readVersion().Version
	root.SuggestionsMinimumDistance = 2
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Args = noArgs
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.begin(cmd) }
	root.SetFlagErrorFunc(flagError)
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageFunc(usage)
	root.SetHelpCommand(helpCommand(root))
	a.flags.limits = registry.Limits{}
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVarP(&a.flags.output, "output-format", "o", "text", "`FORMAT`: text, json or yaml; view and diff also html")
	f.StringVarP(&a.flags.logLevel, "log-level", "l", "warn", "`LEVEL`: debug, info, warn or error")
	f.StringVar(&a.flags.progress, "progress", "auto", "`MODE`: auto, tty, plain, github, gitlab, json or none")
	f.StringVar(&a.flags.store, "store", "", "`DIR` of the cache (default $XDG_CACHE_HOME/tape)")
	f.IntVar(&a.flags.concurrency, "concurrency", 0, "`N` concurrent requests per registry (default: automatic, at most 64)")
	f.Func("limit", "send a registry at most `HOST=N/s` requests, or N/m a minute (repeats)", func(text string) error {
		host, limit, err := registry.ParseLimit(text)
		if err == nil {
			a.flags.limits[host] = limit
		}
		return err
	})
	f.StringVar(&a.flags.hostsDir, "hosts-dir", "", "`DIR` with containerd's hosts.toml files, for mirrors (default $TAPE_HOSTS_DIR)")
	f.StringSliceVar(&a.flags.plainHTTP, "plain-http", nil, "`HOST` that uses plain http (repeats; not needed for loopback)")
	f.StringVar(&a.flags.caFile, "ca-file", "", "PEM `FILE` of additional certificate authorities")
	f.DurationVar(&a.flags.timeout, "timeout", 0, "give up after `TIME`, such as 10m")
}

// begin checks the global flags.
func (a *program) begin(cmd *cobra.Command) error {
	switch a.flags.output {
	case "text", "json", "yaml":
	case "detailed-text": // the spelling of the original tape
		a.flags.output = "text"
	case "direct-json":
		a.flags.output = "json"
	default:
		more := strings.Fields(cmd.Annotations[formats])
		if slices.Contains(more, a.flags.output) {
			break
		}
		format, hint := a.flags.output, ""
		a.flags.output = "text"
		if strings.ContainsAny(format, "/:") && cmd.Flags().Lookup("output-image") != nil {
			hint = "; a repository goes with -O, --output-image"
		}
		known := append([]string{"text", "json", "yaml"}, more...)
		last := len(known) - 1
		return usagef("unknown output format %q: want %s or %s%s", format, strings.Join(known[:last], ", "), known[last], hint)
	}
	if a.flags.timeout < 0 || a.flags.concurrency < 0 {
		return usagef("--timeout and --concurrency cannot be negative")
	}
	if a.flags.timeout > 0 {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.flags.timeout,
			fmt.Errorf("not done within --timeout %s", a.flags.timeout))
		a.closers = append(a.closers, func() error { cancel(); return nil })
		cmd.SetContext(ctx)
	}
	shown, err := newProgress(a.flags.progress, a.terminal)
	if err != nil {
		return err
	}
	a.progress = cleaned{shown}
	return nil
}

// formats is the annotation that lists the additional output formats of a command, separated by
// spaces.
const formats = "formats"

// usagef returns an error that reports a mistake on the command line.
func usagef(format string, args ...any) error {
	return &app.UsageError{Err: fmt.Errorf(format, args...)}
}

// flagError describes an invalid flag in terms that users know.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		name := unknown.GetSpecifiedName()
		var longer []string // such as --output for --output-format
		for _, k := range known {
			if name != "" && strings.HasPrefix(k, name+"-") {
				longer = append(longer, "--"+k)
			}
		}
		if len(longer) > 0 {
			return usagef("%w (did you mean %s?)", err, strings.Join(longer, " or "))
		}
		if hint := nearest.Hint(name, slices.Values(known)); hint != "" {
			return usagef("%w%s", err, hint)
		}
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		flag := invalid.GetFlag()
		want := map[string]string{
			"int": "a whole number", "duration": "a time such as 90s, 10m or 2h", "bool": "true or false",
			"func": "HOST=N/s, such as registry.example.com=300/s", // --limit
		}[flag.Value.Type()]
		if want != "" {
			return usagef("--%s %q: want %s", flag.Name, invalid.GetValue(), want)
		}
	}
	return &app.UsageError{Err: err}
}

// group returns a command that has only subcommands.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// schemaCommand returns a command that prints a JSON Schema.
func schemaCommand(short, example string, out io.Writer, schema []byte) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: short, Example: example, Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := out.Write(schema)
			return err
		},
	}
}

// statusError ends the command with an exit status; err may be nil.
type statusError struct {
	code int
	err  error
}

func (e *statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

// noArgs and argsRange report a wrong number of arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return unknownCommand(cmd, args[0])
	}
	return usagef("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
}

func argsRange(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if n := len(args); n < least || n > most {
			_, takes, _ := strings.Cut(cmd.Use, " ")
			given := fmt.Sprint(n)
			if n == 0 {
				given = "nothing"
			}
			return usagef("%s takes %s, and was given %s", cmd.CommandPath(), takes, given)
		}
		return nil
	}
}
