// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) reproduceCommand() *cobra.Command {
	var (
		o      app.ReproduceOptions
		given  []string
		attest bool
		sign   signFlags
	)
	cmd := &cobra.Command{
		Use:   "reproduce REF [SOURCE]",
		Short: "Build an application again, and compare the digests",
		Example: `  tape reproduce registry.example.com/team/podinfo:v1.2.3 --clone
  git worktree add ../again v1.2.3
  tape reproduce registry.example.com/team/podinfo:v1.2.3 ../again
  tape reproduce registry.example.com/team/podinfo:v1.2.3 ../again/tape.yaml`,
		Long: `Builds the application again from the commit and the options in its provenance,
with the images that it has, without pushing anything, and compares the digests
of the roots. SOURCE is a clone of its repository with this commit checked out
(default: this folder), or the pipeline file that it was packed with. tape.yaml
of that folder is used if the application has environments. With --clone the
commit is cloned from the URL in the provenance, with your credentials for git,
and SOURCE is a path in the clone. No hooks or filters are run, and submodules
are not cloned. The exit status is 0 if the roots are the same, and 1 if they
differ; the first difference is shown. --attest attaches a signed statement of
either result to the root; its key must not be the one that signed the root.`,
		Args: argsRange(1, 2),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) (err error) {
			switch err := sign.check(); {
			case attest && err != nil:
				return err
			case !attest && sign != signFlags{}:
				return usagef("flags for signing require --attest")
			}
			if attest {
				if o.Signer, err = a.signWith(ctx, env, sign); err != nil {
					return err
				}
			}
			o.Environment, o.Ref, o.Version = env, args[0], readVersion().Version
			if len(args) > 1 {
				o.Source = args[1]
			}
			if o.Args, err = arguments(given); err != nil {
				return err
			}
			return printed(a, reproduceText, func(r *app.ReproduceResult) error {
				if !r.Same {
					return &statusError{code: exitDiffers}
				}
				return nil
			})(app.Reproduce(ctx, o))
		}),
	}
	cmd.Flags().BoolVar(&o.Clone, "clone", false, "clone the commit from the URL in the provenance")
	cmd.Flags().BoolVar(&attest, "attest", false, "sign a statement of the result, and attach it to the root")
	sign.register(cmd.Flags())
	cmd.Flags().StringArrayVar(&given, "arg", nil, "`K=V` for an argument of the pipeline file (repeats)")
	return cmd
}

func reproduceText(p *printer, r *app.ReproduceResult) {
	p.lay(`{{if .Same}}same      {{.Root}}
{{end}}{{range .Differs}}differs   {{.What}} {{.Name}}
            was {{or .Was "not there"}}
            is  {{or .Is "not there"}}
{{end}}{{if not .Same}}root      {{.Root}}
made      {{.Made}}
{{end}}{{with .Statement}}statement {{.}}{{if $.Existing}}, of before{{end}}
{{end}}`, r)
}
