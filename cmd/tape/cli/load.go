// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) loadCommand() *cobra.Command {
	var o app.LoadOptions
	cmd := &cobra.Command{
		Use:         "load FILE [REPO]",
		Short:       "Push a saved application to a registry, with its signatures",
		Annotations: resumable,
		Example: `  tape load podinfo.tar      # to the repository it was packed for
  tape load podinfo.tar registry.inside.example/team/podinfo
  tape load oci:./podinfo registry.inside.example/team/podinfo`,
		Long: `FILE is an archive that tape save wrote, or the folder of an OCI layout.
Archives of images, as written by docker save, podman save and skopeo, are
accepted as well. FILE may be compressed with gzip or zstd.

All content is verified, and nothing is tagged until everything is there.
Existing content is not sent again, so an interrupted load can be continued. The
manifests still name the repository that they were packed for; tape relocate
rewrites them.`,
		Args: argsRange(1, 2),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			o.Environment, o.File = env, args[0]
			if len(args) > 1 {
				o.Repository = args[1]
			}
			result, err := app.Load(ctx, o)
			if err != nil {
				return err
			}
			a.settle()
			a.copyNotes(*result)
			return a.print(result, func(p *printer) { copyText(p, "loaded", *result) })
		}),
	}
	cmd.Flags().BoolVar(&o.Check, "check", false, checkHelp)
	cmd.Flags().StringVar(&o.Trust, "trust", "", trustHelp)
	cmd.Flags().BoolVar(&o.Immutable, "immutable", false, immutableHelp)
	return cmd
}
