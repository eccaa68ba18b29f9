// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/stages/app"
)

func (a *program) pipelineCommand() *cobra.Command {
	return group("pipeline", "Write, check and draw pipelines (tape.yaml)",
		"  tape pipeline init\n  tape pipeline validate\n  tape pipeline graph | less",
		a.pipelineInitCommand(), a.pipelineValidateCommand(), a.pipelineShowCommand(),
		a.pipelineGraphCommand(), a.pipelineSchemaCommand())
}

func (a *program) pipelineInitCommand() *cobra.Command {
	var o app.InitOptions
	cmd := &cobra.Command{
		Use:     "init [DIR]",
		Short:   "Write a tape.yaml for a folder",
		Example: "  tape pipeline init -O registry.example.com/team/app",
		Args:    argsRange(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = "."
			if len(args) > 0 {
				o.Dir = args[0]
			}
			env, err := a.environment(cmd.Context())
			if err != nil {
				return err
			}
			env.Events = nil // the file has a comment about sources that do not render
			o.Environment = env
			made, err := app.Init(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.print(made, func(p *printer) {
				p.f("wrote %s:\n\n%s\nlook at its images with: tape images -p %s\n", made.File, made.Pipeline, made.File)
			})
		},
	}
	cmd.Flags().StringVarP(&o.Repository, "output-image", "O", "", "`REPOSITORY` to push to")
	cmd.Flags().BoolVar(&o.Force, "force", false, "replace an existing tape.yaml")
	return cmd
}

// expanded returns a pipeline in its full form.
func (a *program) expanded(ctx context.Context, source *sourceFlags, args []string) (*app.ExpandResult, error) {
	o, err := a.pipelineOptions(ctx, source, args)
	if err != nil {
		return nil, err
	}
	return app.Expand(ctx, o)
}

// pipelineOptions returns the options of a pipeline that is inspected but not run.
func (a *program) pipelineOptions(ctx context.Context, source *sourceFlags, args []string) (app.Options, error) {
	var o app.Options
	err := source.to(&o, args)
	if err == nil {
		o.Environment, err = a.environment(ctx)
	}
	return o, err
}

func (a *program) pipelineValidateCommand() *cobra.Command {
	var source sourceFlags
	cmd := &cobra.Command{
		Use:     "validate",
		Short:   "Check a pipeline for mistakes",
		Example: "  tape pipeline validate\n  tape pipeline validate -p deploy/tape.yaml --arg registry=ghcr.io/acme",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if source.pipeline == "" {
				source.pipeline = app.PipelineFile
			}
			o, err := a.pipelineOptions(cmd.Context(), &source, nil)
			if err != nil {
				return err
			}
			return call(cmd.Context(), a, app.Validate, &o, &o.Environment, func(p *printer, valid *app.ValidateResult) {
				p.f("%s is valid\n", valid.File)
			})
		},
	}
	source.registerPipeline(cmd)
	return cmd
}

func (a *program) pipelineShowCommand() *cobra.Command {
	var source sourceFlags
	cmd := &cobra.Command{
		Use:     "show [SOURCE…]",
		Short:   "Print the full form of a pipeline",
		Example: "  tape pipeline show\n  tape pipeline show ./kustomize",
		RunE: func(cmd *cobra.Command, args []string) error {
			expanded, err := a.expanded(cmd.Context(), &source, args)
			if err != nil {
				return err
			}
			_, err = a.data().Write(expanded.YAML)
			return err
		},
	}
	source.registerPipeline(cmd)
	return cmd
}

func (a *program) pipelineGraphCommand() *cobra.Command {
	var (
		source sourceFlags
		format string
	)
	cmd := &cobra.Command{
		Use:   "graph [SOURCE…]",
		Short: "Draw the graph of a pipeline",
		Example: `  tape pipeline graph        # Mermaid, which README files show as a picture
  tape pipeline graph --format svg > graph.svg`,
		RunE: func(cmd *cobra.Command, args []string) error {
			expanded, err := a.expanded(cmd.Context(), &source, args)
			if err != nil {
				return err
			}
			switch format {
			case "mermaid":
				_, err = io.WriteString(a.data(), show.Mermaid(expanded.Graph))
			case "dot":
				_, err = io.WriteString(a.data(), show.DOT(expanded.Graph))
			case "svg":
				_, err = a.data().Write(show.SVG(expanded.Graph))
			default:
				err = usagef("unknown --format %q: want mermaid, dot or svg", format)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "mermaid", "mermaid, dot or svg")
	source.registerPipeline(cmd)
	return cmd
}

func (a *program) pipelineSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of tape.yaml, for editors",
		Example: "  tape pipeline schema > tape.schema.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := a.environment(cmd.Context())
			if err != nil {
				return err
			}
			schema, err := app.Schema(cmd.Context(), app.Options{Environment: env})
			if err != nil {
				return err
			}
			_, err = a.data().Write(schema)
			return err
		},
	}
}
