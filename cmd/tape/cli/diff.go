// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/report"
	"github.com/taped-dev/tape/stages/app"
)

// Exit statuses of diff, which are those of diff(1).
const (
	exitDiffers = 1
	exitTrouble = 2
)

func (a *program) diffCommand() *cobra.Command {
	var (
		source       sourceFlags
		given        app.Options
		environments string
	)
	cmd := &cobra.Command{
		Use:   "diff A [B]",
		Short: "Compare two applications, or an application and its source",
		Example: `  tape diff registry.example.com/team/podinfo:v1.2.3 ./podinfo -o markdown
  tape diff registry.example.com/team/podinfo:v1.2.3 \
    registry.example.com/team/podinfo:v1.3.0
  tape diff registry.example.com/team/podinfo:v1.2.3 --env dev..prod
  tape diff archive:old.tar archive:new.tar -o html > diff.html`,
		Long: `Compares images by name and digest, manifests object by object and field by
field, and their origin. The most important changes come first: new registries
and images, other versions, images that lost a signature, access to nodes,
additional permissions, webhooks, and removed objects.

A and B are applications or sources: a folder, a chart or a pipeline file is
rendered and resolved, but not pushed. Without B, A is compared with the
pipeline of this folder. --deterministic renders sources twice, and ignores what
differs then, such as generated certificates.

The location of an application is not compared, and values of Secrets are not
shown. Exit status: 0 if they are the same, 1 if they differ, 2 if they could
not be compared.`,
		Args:        argsRange(1, 2),
		Annotations: map[string]string{formats: "markdown html"},
		RunE: func(cmd *cobra.Command, args []string) error {
			diff, of, err := a.diff(cmd.Context(), &source, given, environments, args)
			if err != nil {
				return &statusError{exitTrouble, err}
			}
			switch a.flags.output {
			case "markdown":
				err = report.DiffMarkdown(a.data(), diff, of)
			case "html":
				err = report.DiffPage(visible{a.Out}, diff, of)
			default:
				err = a.print(diff, func(p *printer) {
					p.by(func(w io.Writer) error { return report.DiffText(w, diff, a.width()) })
				})
			}
			if err != nil {
				return &statusError{exitTrouble, err}
			}
			if !diff.Empty() {
				return &statusError{code: exitDiffers}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&environments, "env", "", "`A..B`: two environments of one application; NAME: the same one of both")
	source.register(cmd, &given)
	source.registerImages(cmd, &given)
	return cmd
}

// diff compares what the arguments name.
func (a *program) diff(ctx context.Context, source *sourceFlags, given app.Options, environments string, args []string) (_ *app.DiffResult, of report.Sides, err error) {
	if given.Environment, err = a.environment(ctx); err != nil {
		return nil, of, err
	}
	o := app.DiffOptions{Environment: given.Environment}
	from, to, two := strings.Cut(environments, "..")
	if o.EnvironmentA, o.EnvironmentB = from, from; two {
		if o.EnvironmentB = to; from == "" || to == "" {
			return nil, of, usagef("--env %q is not A..B, such as dev..prod", environments)
		}
	}
	pipeline := given.Pipeline
	given.Pipeline = ""
	switch {
	case len(args) == 2 && pipeline != "":
		return nil, of, usagef("give A and B, or A and --pipeline")
	case len(args) == 1 && pipeline != "":
		args = append(args, pipeline)
	case len(args) == 1 && two:
		args = append(args, args[0])
	case len(args) == 1 && !app.IsPipeline(app.PipelineFile):
		return nil, of, usagef("give A and B, or A --env DEV..PROD: to compare with its pipeline, this folder has no %s", app.PipelineFile)
	case len(args) == 1:
		args = append(args, app.PipelineFile)
	}
	for i, side := range []struct {
		ref    *string
		source **app.Options
	}{{&o.A, &o.SourceA}, {&o.B, &o.SourceB}} {
		*side.ref = args[i]
		if !app.IsSource(args[i]) {
			continue
		}
		s, sources := given, args[i:i+1]
		if app.IsPipeline(args[i]) {
			s.Pipeline, sources = args[i], nil
		}
		if err = source.to(&s, sources); err == nil {
			s.Cache, err = a.cache(ctx, &source.cache, o.Environment)
		}
		if err != nil {
			return nil, of, err
		}
		*side.source = &s
	}
	diff, err := app.Diff(ctx, o)
	of = report.Sides{A: o.A, B: o.B}
	if two {
		of = report.Sides{A: from, B: to}
	}
	a.settle()
	return diff, of, err
}
