// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// rootsCommand is a command that processes every application of a report that has a root.
type rootsCommand struct {
	use, short, example string
	// flags registers flags; ready checks them and returns the function to call with each root.
	flags func(*cobra.Command)
	ready func(ctx context.Context, env app.Environment) (doRoot, error)
}

// doRoot processes the root of an application, and returns the result and a text for people.
type doRoot func(ctx context.Context, env app.Environment, o fleet.Outcome) (result any, text string, err error)

func (a *program) fleetRootsCommand(c rootsCommand) *cobra.Command {
	var (
		plan  string
		flags fleetFlags
	)
	cmd := &cobra.Command{
		Use: c.use, Short: c.short, Example: c.example, Annotations: resumable, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := flags.options(cmd.Context(), a, args, 1)
			if err != nil {
				return err
			}
			do, err := c.ready(cmd.Context(), o.Environment)
			if err != nil {
				return err
			}
			report, err := fleet.MakeReport(cmd.Context(), fleet.ReportOptions{Options: o, Plan: digest.Digest(plan)})
			if err != nil {
				return err
			}
			return a.eachRoot(cmd.Context(), o.Environment, report, do)
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&plan, "plan", "", "`DIGEST` of the plan (default: the latest)")
	flags.register(cmd)
	return cmd
}

// eachRoot calls do for every application of a report that has a root. An application that fails
// does not stop the others; one without a root counts as failed.
func (a *program) eachRoot(ctx context.Context, env app.Environment, report *fleet.Report, do doRoot) error {
	type done struct {
		result any
		text   string
		err    error
	}
	all := make([]done, len(report.Applications))
	err := atonce.Each(ctx, atonce.Applications, report.Applications, func(ctx context.Context, i int, o fleet.Outcome) error {
		if o.Root == "" {
			all[i].err = fmt.Errorf("it has not been packaged: it is %s", o.State)
			return nil
		}
		all[i].result, all[i].text, all[i].err = do(ctx, named(env, o.Name), o)
		return context.Cause(ctx)
	})
	if err != nil {
		return err
	}
	b := newBatch("application")
	a.settle()
	widest := 0
	for _, o := range report.Applications {
		widest = max(widest, len(o.Name))
	}
	for i, o := range report.Applications {
		d := all[i]
		if a.flags.output == "text" && d.text != "" {
			if _, err := fmt.Fprintf(visible{a.Out}, "%-*s  %s\n", widest, o.Name, d.text); err != nil {
				return err
			}
		}
		if d.err != nil {
			b.fail(a, line{i + 1, []string{o.Name}}, d.result, d.err)
			continue
		}
		b.Results = append(b.Results, d.result)
	}
	return a.total(b)
}

// named returns an environment whose events name an application.
func named(env app.Environment, application string) app.Environment {
	events := env.Events
	env.Events = func(e engine.Event) {
		if e.Node != "" {
			e.Node += " " + application
		}
		if e.Level != "" {
			e.Message = application + ": " + e.Message
		}
		events(e)
	}
	return env
}

func (a *program) fleetVerifyCommand() *cobra.Command {
	var o app.VerifyOptions
	return a.fleetRootsCommand(rootsCommand{
		use: "verify [FILE]", short: "Verify every application of a report",
		example: "  tape fleet verify --key release.pub",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&o.Key, "key", "", "public key that signed the applications: `FILE`, env://NAME or NAME://REF")
			cmd.Flags().StringVar(&o.OriginKey, "origin-key", "", "public key that signed what they were relocated from: `FILE`, env://NAME or NAME://REF")
			cmd.Flags().StringVar(&o.Trust, "trust", "", "trust policy `FILE` (trust.yaml) for roots and images")
			identityFlags(cmd.Flags(), &o.Identity, "", "who must have signed the applications")
			cmd.Flags().BoolVar(&o.Deep, "deep", false, "read every blob instead of only checking that it exists")
		},
		ready: func(context.Context, app.Environment) (doRoot, error) {
			if err := checkWho(o.Key, o.Identity, o.Trust); err != nil {
				return nil, err
			}
			o.Keys = &app.Verifiers{}
			return func(ctx context.Context, env app.Environment, of fleet.Outcome) (any, string, error) {
				one := o
				one.Environment, one.Ref = env, of.Root
				result, err := app.Verify(ctx, one)
				if err != nil {
					return nil, "", err
				}
				if !result.OK {
					var broken []string
					for _, link := range result.Links {
						if !link.OK {
							broken = append(broken, link.Name+": "+link.Reason)
						}
					}
					return result, "does not hold", &statusError{code: exitPolicy, err: fmt.Errorf("verification failed: %s", strings.Join(broken, "; "))}
				}
				return result, "ok", nil
			}, nil
		},
	})
}

func (a *program) fleetSignCommand() *cobra.Command {
	var key string
	return a.fleetRootsCommand(rootsCommand{
		use: "sign [FILE]", short: "Sign every application of a report",
		example: "  tape fleet sign --key release.key",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&key, "key", "", "private key: `FILE`, env://NAME, - for stdin, or NAME://REF of a KMS")
		},
		ready: func(ctx context.Context, _ app.Environment) (doRoot, error) {
			signer, err := a.signer(ctx, key)
			return func(ctx context.Context, env app.Environment, of fleet.Outcome) (any, string, error) {
				result, err := app.Sign(ctx, app.SignOptions{Environment: env, Ref: of.Root, Signer: signer})
				if err != nil {
					return nil, "", err
				}
				return result, "signed " + of.Root, nil
			}, err
		},
	})
}

// target returns the target for an application of a fleet: a repository, with ${name} and ${path}
// replaced.
func target(text string, o fleet.Outcome) (string, error) {
	return fleet.Expand(text, o.Name, strings.TrimSuffix(o.Path, "/"+app.PipelineFile))
}

func checkTarget(text string) error {
	if text == "" {
		return usagef("give a target: --to 'registry.example.com/apps/${name}'")
	}
	if !strings.Contains(text, "${") {
		return usagef("--to %s: all would go to one repository; add /${name}, in single quotes", text)
	}
	_, err := target(text, fleet.Outcome{Name: "x", Path: "x"})
	if err != nil {
		return usagef("--to: %w", err)
	}
	return nil
}

// moveRoot copies the root of an application to a repository, and returns the new reference.
type moveRoot func(ctx context.Context, env app.Environment, trust, root, repository string) (result any, ref string, err error)

// fleetMoveCommand returns a command that moves every application of a report to --to.
func (a *program) fleetMoveCommand(verb, short, example string, move moveRoot) *cobra.Command {
	var to, trust string
	return a.fleetRootsCommand(rootsCommand{
		use: verb + " [FILE]", short: short, example: example,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&to, "to", "", "`REPOSITORY` for each; ${name} and ${path} are replaced by those of the application")
			cmd.Flags().StringVar(&trust, "trust", "", trustHelp)
		},
		ready: func(context.Context, app.Environment) (doRoot, error) {
			if err := checkTarget(to); err != nil {
				return nil, err
			}
			return func(ctx context.Context, env app.Environment, of fleet.Outcome) (any, string, error) {
				at, err := target(to, of)
				if err != nil {
					return nil, "", err
				}
				return move(ctx, env, trust, of.Root, at)
			}, nil
		},
	})
}

func (a *program) fleetCopyCommand() *cobra.Command {
	return a.fleetMoveCommand("copy", "Copy every application of a report, as it is", "  tape fleet copy --to 'mirror.example.com/apps/${name}'",
		func(ctx context.Context, env app.Environment, trust, root, repository string) (any, string, error) {
			results, err := app.Copy(ctx, app.CopyOptions{Environment: env, Trust: trust, Pairs: []app.CopyPair{{Source: root, Target: repository}}})
			if err != nil {
				return nil, "", err
			}
			return results[0], results[0].Ref, nil
		})
}

func (a *program) fleetRelocateCommand() *cobra.Command {
	return a.fleetMoveCommand("relocate", "Relocate every application of a report to other repositories", "  tape fleet relocate --to 'site.example.com/apps/${name}'",
		func(ctx context.Context, env app.Environment, trust, root, repository string) (any, string, error) {
			result, err := app.Relocate(ctx, app.RelocateOptions{
				Options: app.Options{Environment: env, Version: readVersion().Version, Trust: trust}, Source: root, Repository: repository,
			})
			if err != nil {
				return nil, "", err
			}
			return result, result.Root.Ref, nil
		})
}

func (a *program) fleetPromoteCommand() *cobra.Command {
	var (
		o    app.PromoteOptions
		sign signFlags
		to   string
	)
	return a.fleetRootsCommand(rootsCommand{
		use: "promote [FILE]", short: "Promote every application of a report",
		example: "  tape fleet promote --to 'prod.example.com/apps/${name}:live' \\\n    --signed-by release.pub --key promoter.key",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&to, "to", "", "`REPOSITORY[:TAG]` for each; ${name} and ${path} are replaced by those of the application")
			promoteFlags(cmd, &o, &sign, "each", "the records")
		},
		ready: func(ctx context.Context, env app.Environment) (doRoot, error) {
			if o.Key == "" && o.Trust == "" {
				return nil, usagef("applications are verified first: give the public key of their signer, --signed-by FILE, or --trust FILE")
			}
			if err := errors.Join(checkTarget(to), sign.check()); err != nil {
				return nil, err
			}
			var err error
			o.Keys = &app.Verifiers{}
			o.Signer, err = a.signWith(ctx, env, sign)
			return func(ctx context.Context, env app.Environment, of fleet.Outcome) (any, string, error) {
				one := o
				one.Environment, one.Source = env, of.Root
				var err error
				if one.Target, err = target(to, of); err != nil {
					return nil, "", err
				}
				result, err := app.Promote(ctx, one)
				if err != nil {
					return nil, "", err
				}
				return result, result.Ref, nil
			}, err
		},
	})
}
