// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) renderCommand() *cobra.Command {
	var (
		source sourceFlags
		o      app.RenderOptions
	)
	cmd := &cobra.Command{
		Use:   "render [SOURCE…]",
		Short: "Print the rendered manifests, before images are pinned",
		Example: `  tape render ./charts/podinfo --set replicas=2 | kubectl diff -f -
  tape render ./kustomize --out ./manifests`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.open(cmd.Context(), &source, &o.Options, args); err != nil {
				return err
			}
			result, err := app.Render(cmd.Context(), o)
			if err != nil {
				return err
			}
			a.settle()
			if o.Out != "" {
				return a.print(result, func(p *printer) {
					for _, f := range result.Files {
						p.f("%s\n", f.Name)
					}
				})
			}
			if a.flags.output == "json" {
				a.printed = true
				if err := result.WriteJSON(escapedJSON{a.Out}); err != nil {
					return err
				}
				_, err := fmt.Fprintln(a.Out)
				return err
			}
			return result.WriteStream(a.data())
		},
	}
	cmd.Flags().StringVar(&o.Out, "out", "", "`DIR` to write the files to (created, or empty)")
	cmd.Flags().BoolVar(&o.Force, "force", false, "replace what is in --out")
	source.register(cmd, &o.Options)
	registerEnvironments(cmd, &o.Options)
	return cmd
}
