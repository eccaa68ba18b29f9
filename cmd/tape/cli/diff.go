// SPDX-License-Identifier: Apache-2.0

package cli

import (
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
			diff, of, err := a.diff(cmd, &source, environments, args)
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
	source.register(cmd)
	source.registerImages(cmd)
	return cmd
}

// diff compares what the arguments name.
func (a *program) diff(cmd *cobra.Command, source *sourceFlags, environments string, args []string) (*app.DiffResult, report.Sides, error) {
	var o app.DiffOptions
	env, err := a.environment(cmd.Context())
	if err != nil {
		return nil, report.Sides{}, err
	}
	o.Environment = env
	from, to, two := strings.Cut(environments, "..")
	if o.EnvironmentA, o.EnvironmentB = from, from; two {
		if o.EnvironmentB = to; from == "" || to == "" {
			return nil, report.Sides{}, usagef("--env %q is not A..B, such as dev..prod", environments)
		}
	}
	pipeline := source.pipeline
	source.pipeline = ""
	switch {
	case len(args) == 2 && pipeline != "":
		return nil, report.Sides{}, usagef("give A and B, or A and --pipeline")
	case len(args) == 1 && pipeline != "":
		args = append(args, pipeline)
	case len(args) == 1 && two:
		args = append(args, args[0])
	case len(args) == 1 && !app.IsPipeline(app.PipelineFile):
		return nil, report.Sides{}, usagef("give A and B, or A --env DEV..PROD: to compare with its pipeline, this folder has no %s", app.PipelineFile)
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
		s := &app.Options{Environment: env}
		flags := *source
		if app.IsPipeline(args[i]) {
			flags.pipeline = args[i]
			err = flags.to(s, nil)
		} else {
			err = flags.to(s, args[i:i+1])
		}
		if err == nil {
			s.Cache, err = a.cache(cmd.Context(), &flags.cache, env)
		}
		if err != nil {
			return nil, report.Sides{}, err
		}
		*side.source = s
	}
	diff, err := app.Diff(cmd.Context(), o)
	of := report.Sides{A: o.A, B: o.B}
	if two {
		of = report.Sides{A: from, B: to}
	}
	a.settle()
	return diff, of, err
}
