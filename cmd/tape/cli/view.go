// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
)

func (a *program) viewCommand() *cobra.Command {
	var (
		image, only           string
		manifests, statements bool
	)
	cmd := &cobra.Command{
		Use:   "view REF",
		Short: "Show the content of an application, and its origin",
		Example: `  tape view registry.example.com/team/podinfo:v1.2.3
  tape view registry.example.com/team/podinfo:v1.2.3 --manifests \
    | kubectl apply -f -
  tape view registry.example.com/team/podinfo:v1.2.3 -o html > podinfo.html
  tape view archive:podinfo.tar -o json`,
		Annotations: map[string]string{formats: "html"},
		Args:        argsRange(0, 1),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			ref, err := oneReference(image, args)
			if err != nil {
				return err
			}
			if app.IsRepository(ref) && !manifests && !statements && a.flags.output != "html" {
				return printed(a, listText)(app.List(ctx, app.ListOptions{Environment: env, Repository: ref}))
			}
			if only != "" && statements {
				return usagef("--statements cover the whole application: leave out --env")
			}
			if manifests && statements {
				return usagef("--manifests and --statements cannot be combined")
			}
			o := app.ViewOptions{Environment: env, Ref: ref, Env: only, Data: a.flags.output == "html"}
			switch {
			case manifests:
				result, err := app.Manifests(ctx, o)
				if err != nil {
					return err
				}
				return result.WriteStream(a.data())
			case statements:
				list, err := app.Statements(ctx, o)
				if err != nil {
					return err
				}
				return artifact.WriteStatements(a.data(), list)
			}
			view, err := app.View(ctx, o)
			if err != nil {
				return err
			}
			if a.flags.output == "html" {
				return show.WritePage(visible{a.Out}, view)
			}
			return a.print(view, func(p *printer) {
				p.by(func(w io.Writer) error { return show.WriteText(w, view, a.width()) })
			})
		}),
	}
	cmd.Flags().StringVarP(&image, "image", "I", "", "the reference, the same as REF")
	cmd.Flags().StringVar(&only, "env", "", "show only environment `NAME`")
	cmd.Flags().BoolVar(&manifests, "manifests", false, "print the manifests as one YAML stream")
	cmd.Flags().BoolVar(&statements, "statements", false, "print the statements, one JSON object per line")
	return cmd
}

// oneReference is the reference, given as an argument or by the flag.
func oneReference(flag string, args []string) (string, error) {
	switch {
	case flag != "" && len(args) > 0:
		return "", usagef("give REF or --image, not both")
	case flag != "":
		return flag, nil
	case len(args) == 0:
		return "", usagef("no REF given, such as registry.example.com/team/app:v1.2.3, oci:DIR or archive:FILE")
	}
	return args[0], nil
}
