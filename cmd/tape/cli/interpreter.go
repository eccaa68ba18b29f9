// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/conformance"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/app"
)

func (a *program) interpreterCommand() *cobra.Command {
	return group("interpreter", "List, describe, check and install interpreters",
		"  tape interpreter list\n  tape interpreter describe helm\n  tape interpreter check ./tape-interpreter-mine",
		a.interpreterListCommand(), a.interpreterDescribeCommand(), a.interpreterCheckCommand(), a.interpreterInstallCommand())
}

// listedInterpreter is an element of `tape interpreter list -o json`.
type listedInterpreter struct {
	Name     string        `json:"name"`
	Version  string        `json:"version,omitempty"`
	Help     string        `json:"help,omitempty"`
	Path     string        `json:"path,omitempty"` // "" if it is built in
	Checksum digest.Digest `json:"checksum,omitempty"`
	Error    string        `json:"error,omitempty"`
}

func (a *program) interpreterListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the interpreters that tape finds",
		Example: "  tape interpreter list -o json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, broken := a.allInterpreters(cmd.Context())
			err := a.print(list, func(p *printer) {
				for _, l := range list {
					p.f("%-12s %-10s %s\n             %s\n", l.Name, l.Version, l.Help+l.Error, cmp.Or(l.Path, "built in"))
				}
			})
			return errors.Join(err, broken)
		},
	}
}

// allInterpreters returns the built-in interpreter and those that are found. The error names
// programs that must not be started; the others are still returned.
func (a *program) allInterpreters(ctx context.Context) ([]listedInterpreter, error) {
	built, err := plain.New().Describe(ctx)
	if err != nil {
		return nil, err
	}
	list := []listedInterpreter{{Name: built.Name, Version: built.Version, Help: built.Help}}
	env, err := a.environment(ctx)
	if err != nil {
		return list, err
	}
	found, broken := env.Host.List(ctx)
	// The built-in interpreter takes precedence over a program of the same name.
	found = slices.DeleteFunc(found, func(i *host.Interpreter) bool { return i.Name() == app.BuiltIn })
	more, changed := listInterpreters(ctx, found)
	return append(list, more...), errors.Join(broken, changed)
}

// listInterpreters reads the descriptions of all interpreters concurrently, because that takes
// most of the time. The error names interpreters that changed after they were installed.
func listInterpreters(ctx context.Context, found []*host.Interpreter) ([]listedInterpreter, error) {
	list, errs := make([]listedInterpreter, len(found)), make([]error, len(found))
	_ = atonce.Each(ctx, runtime.GOMAXPROCS(0), found, func(ctx context.Context, n int, i *host.Interpreter) error {
		var sum digest.Digest
		if sum, errs[n] = i.Checksum(ctx); errs[n] != nil {
			return nil
		}
		l := listedInterpreter{Name: i.Name(), Path: i.Path(), Checksum: sum}
		// A broken interpreter is listed too, with its error.
		if d, err := i.Describe(ctx); err != nil {
			l.Error = hinted(err)
		} else {
			l.Version, l.Help = d.Version, d.Help
		}
		list[n] = l
		return nil
	})
	return slices.DeleteFunc(list, func(l listedInterpreter) bool { return l.Name == "" }), errors.Join(errs...)
}

// find returns the interpreter with a name or, if name is a path, the one in that file.
func (a *program) find(ctx context.Context, name string) (*host.Interpreter, error) {
	env, err := a.environment(ctx)
	if err != nil {
		return nil, err
	}
	h := env.Host
	if strings.ContainsRune(name, filepath.Separator) {
		return h.Open(ctx, name)
	}
	i, err := h.Find(ctx, name)
	if _, missing := errors.AsType[*host.NotFoundError](err); missing {
		names := []string{app.BuiltIn}
		others, _ := h.List(ctx) // the earlier error is the one to report
		for _, i := range others {
			names = append(names, i.Name())
		}
		slices.Sort(names)
		names = slices.Compact(names)
		return nil, fmt.Errorf("%w%s; there are: %s", err, nearest.Hint(name, slices.Values(names)), strings.Join(names, ", "))
	}
	return i, err
}

func (a *program) interpreterDescribeCommand() *cobra.Command {
	var write bool
	cmd := &cobra.Command{
		Use:   "describe NAME|FILE",
		Short: "Show the markers and options of an interpreter",
		Example: `  tape interpreter describe helm
  tape interpreter describe ./bin/tape-interpreter-mine --write`,
		Args: argsRange(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var asked interpreter.Interpreter = plain.New()
			if args[0] == app.BuiltIn && write {
				return usagef("--write: %s is built in: it has no executable to write the description next to", app.BuiltIn)
			}
			if args[0] != app.BuiltIn {
				found, err := a.find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if write {
					if err := found.WriteDescription(cmd.Context()); err != nil {
						return err
					}
				}
				asked = found
			}
			return printed(a, describeText)(asked.Describe(cmd.Context()))
		},
	}
	cmd.Flags().BoolVar(&write, "write", false, "also write it beside the executable, so that tape can read it without starting the program")
	return cmd
}

func describeText(p *printer, d interpreter.Description) {
	var schema struct {
		Properties map[string]struct {
			Type        any             `json:"type"`
			Description string          `json:"description"`
			Default     json.RawMessage `json:"default"`
		} `json:"properties"`
	}
	if len(d.Options) > 0 {
		if err := json.Unmarshal(d.Options, &schema); err != nil {
			p.err = fmt.Errorf("read the options of %s: %w", d.Name, err)
			return
		}
	}
	p.lay(`{{.Name}} {{.Version}}
{{.Help}}
{{with .Markers}}
claims sources with
{{range .}}  {{.Name}}{{if .Above}}, here or in a folder above{{end}}{{with .With}}, and {{.}} here{{end}}{{if .File}}, given as a file{{end}}
{{end}}{{end}}{{with .References}}
renders references that begin with
  {{join "://, " .}}://
{{end}}{{with .Properties}}
options (--set-option NAME=VALUE, or options: in tape.yaml)
{{range $name, $o := .}}  {{printf "%-14s %v" $name $o.Type}}{{with $o.Default}}, default {{printf "%s" .}}{{end}}
                 {{$o.Description}}
{{end}}{{end}}{{with .Environment}}
is passed these environment variables
  {{join " " .}}
{{end}}{{if .Network}}
may fetch from the network
{{end}}`, struct {
		interpreter.Description
		Properties any
	}{d, schema.Properties})
}

func (a *program) interpreterCheckCommand() *cobra.Command {
	var cases string
	cmd := &cobra.Command{
		Use:   "check FILE|NAME",
		Short: "Check that an interpreter conforms to the protocol",
		Example: `  tape interpreter check ./tape-interpreter-mine --cases ./testdata
  tape interpreter check mine`,
		Args: argsRange(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := a.interpreterFile(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			log, err := a.log()
			if err != nil {
				return err
			}
			var o conformance.Options
			if cases != "" {
				if o.Cases, err = caseFolder(cases); err != nil {
					return err
				}
			}
			return printed(a, conformanceText, func(report conformance.Report) error {
				if report.Err() != nil {
					return &statusError{code: exitPolicy}
				}
				return nil
			})(conformance.CheckBinary(cmd.Context(), path, o, log))
		},
	}
	cmd.Flags().StringVar(&cases, "cases", "", "`DIR` of cases: sources and their expected manifests (*.txtar)")
	return cmd
}

func conformanceText(p *printer, report conformance.Report) {
	for _, r := range report.Results {
		mark := "ok    "
		if !r.OK {
			mark = "FAILED"
		}
		p.f("%s  %s%s\n", mark, r.Check, because(r.Reason))
	}
}

// caseFolder opens a folder of cases.
func caseFolder(dir string) (fs.FS, error) {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return nil, usagef("there is no folder %s: --cases names one with *.txtar files in it", dir)
	}
	fsys, found := os.DirFS(dir), false
	err = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		found = found || err == nil && !entry.IsDir() && filepath.Ext(name) == ".txtar"
		return err
	})
	if err == nil && !found {
		err = usagef("%s contains no case: a case is a *.txtar file", dir)
	}
	return fsys, err
}

// interpreterFile returns the absolute path of an executable: the file of that name or, if there
// is none, the interpreter's.
func (a *program) interpreterFile(ctx context.Context, name string) (string, error) {
	if _, err := os.Stat(name); err == nil {
		return filepath.Abs(name)
	}
	i, err := a.find(ctx, name)
	if err != nil && name == app.BuiltIn {
		return "", usagef("%s is built in: it has no executable to check", app.BuiltIn)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(i.Path())
}

func (a *program) interpreterInstallCommand() *cobra.Command {
	var name, want string
	cmd := &cobra.Command{
		Use:   "install FILE|REF",
		Short: "Install an interpreter for the current user",
		Example: `  tape interpreter install ./tape-interpreter-jsonnet
  tape interpreter install registry.example.com/tools/jsonnet@sha256:…`,
		Long: `Copies an interpreter into your folder of interpreters, and records its
checksum, so that tape refuses a modified program, and its description, so that
tape can read it without starting the program. In a registry, an interpreter is
an artifact with one layer, and its digest must be given.`,
		Args: argsRange(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := host.UserDir(os.Getenv)
			if dir == "" {
				return errors.New("no folder to install into: set HOME or XDG_DATA_HOME")
			}
			var dgst digest.Digest
			if want != "" {
				var err error
				if dgst, err = digest.Parse(want); err != nil {
					return usagef("--digest %q: %w", want, err)
				}
			}
			if name == "" {
				name = strings.TrimPrefix(filepath.Base(strings.SplitN(args[0], "@", 2)[0]), "tape-interpreter-")
			}
			binary, err := a.openInterpreter(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer binary.Close()
			sum, err := host.Install(cmd.Context(), binary, name, dir, dgst)
			if errors.Is(err, host.ErrName) {
				return fmt.Errorf("%w (--name sets one)", err)
			}
			if err != nil {
				return err
			}
			installed := listedInterpreter{Name: name, Path: filepath.Join(dir, "tape-interpreter-"+name), Checksum: sum}
			// An interpreter that does not answer is installed anyway; check reports more.
			i, err := a.find(cmd.Context(), installed.Path)
			if err == nil {
				err = i.WriteDescription(cmd.Context())
			}
			if err != nil {
				installed.Error = hinted(err)
			}
			return a.print(installed, func(p *printer) {
				p.f("installed %s (%s)\n", installed.Path, sum)
				if installed.Error != "" {
					p.f("it has no description: %s\n", installed.Error)
				}
				p.f("check it with: tape interpreter check %s\n", installed.Path)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`NAME` by which sources use it (default: from the file's name)")
	cmd.Flags().StringVar(&want, "digest", "", "sha256 `DIGEST` that the binary must have")
	return cmd
}

// openInterpreter opens a file, or the only layer of an artifact in a registry.
func (a *program) openInterpreter(ctx context.Context, from string) (io.ReadCloser, error) {
	if f, err := os.Open(from); err == nil {
		return f, nil
	} else if !strings.Contains(from, "@") {
		if strings.Contains(from, "/") && !strings.HasPrefix(from, ".") && !filepath.IsAbs(from) {
			return nil, usagef("install %s: no such file, and a reference must name its digest (@sha256:…)", from)
		}
		return nil, fmt.Errorf("install: %w", err)
	}
	name, dgst, _ := strings.Cut(from, "@")
	env, err := a.environment(ctx)
	if err != nil {
		return nil, err
	}
	repo, err := env.Registry.Repository(name)
	if err != nil {
		return nil, err
	}
	_, data, err := repo.Manifest(ctx, dgst)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read %s: %w", from, err)
	}
	if len(m.Layers) != 1 {
		return nil, fmt.Errorf("install %s: an interpreter is an artifact with one layer, but this has %d", from, len(m.Layers))
	}
	return repo.Blob(ctx, m.Layers[0])
}
