// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list REPO",
		Aliases: []string{"ls"},
		Short:   "List the applications of a repository",
		Example: `  tape list registry.example.com/team/podinfo
  tape list registry.example.com/team/podinfo -o json`,
		Long: `Lists every tag that leads to an application, latest first: when it was created,
how many images it has, and whether it has a signature. Use 'tape verify' to
verify signatures.`,
		Args: argsRange(1, 1),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			return printed(a, listText)(app.List(ctx, app.ListOptions{Environment: env, Repository: args[0]}))
		}),
	}
}

func listText(p *printer, r *app.ListResult) {
	if len(r.Applications) == 0 {
		p.f("%s has no application\n", r.Repository)
		return
	}
	width := len("TAG")
	for _, app := range r.Applications {
		width = max(width, len(app.Tag))
	}
	p.f("%-*s  %-20s  %-10s  %6s  %s\n", width, "TAG", "DIGEST", "CREATED", "IMAGES", "SIGNED")
	for _, app := range r.Applications {
		created, signed := "", "no"
		if !app.Created.IsZero() {
			created = app.Created.UTC().Format(time.DateOnly)
		}
		if app.Signed {
			signed = "yes"
		}
		p.f("%-*s  %-20.20s  %-10s  %6d  %s\n", width, app.Tag, app.Digest, created, app.Images, signed)
	}
}
