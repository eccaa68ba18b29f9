// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/engine"
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
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			env.Events = nil // the file has a comment about sources that do not render
			o.Environment, o.Dir = env, "."
			if len(args) > 0 {
				o.Dir = args[0]
			}
			return printed(a, func(p *printer, made *app.InitResult) {
				p.f("wrote %s:\n\n%s\nlook at its images with: tape images -p %s\n", made.File, made.Pipeline, made.File)
			})(app.Init(ctx, o))
		}),
	}
	cmd.Flags().StringVarP(&o.Repository, "output-image", "O", "", "`REPOSITORY` to push to")
	cmd.Flags().BoolVar(&o.Force, "force", false, "replace an existing tape.yaml")
	return cmd
}

// expandedCommand completes a command that writes an expanded pipeline.
func (a *program) expandedCommand(cmd *cobra.Command, write func(*app.ExpandResult) error) *cobra.Command {
	var (
		source sourceFlags
		o      app.Options
	)
	cmd.RunE = a.in(func(ctx context.Context, env app.Environment, args []string) error {
		o.Environment = env
		if err := source.to(&o, args); err != nil {
			return err
		}
		expanded, err := app.Expand(ctx, o)
		if err != nil {
			return err
		}
		return write(expanded)
	})
	source.registerPipeline(cmd, &o)
	return cmd
}

func (a *program) pipelineValidateCommand() *cobra.Command {
	var (
		source sourceFlags
		o      app.Options
	)
	cmd := &cobra.Command{
		Use:     "validate",
		Short:   "Check a pipeline for mistakes",
		Example: "  tape pipeline validate\n  tape pipeline validate -p deploy/tape.yaml --arg registry=ghcr.io/acme",
		Args:    noArgs,
		RunE: a.in(func(ctx context.Context, env app.Environment, _ []string) error {
			o.Environment, o.Pipeline = env, cmp.Or(o.Pipeline, app.PipelineFile)
			if err := source.to(&o, nil); err != nil {
				return err
			}
			return printed(a, func(p *printer, valid *app.ValidateResult) { p.f("%s is valid\n", valid.File) })(app.Validate(ctx, o))
		}),
	}
	source.registerPipeline(cmd, &o)
	return cmd
}

func (a *program) pipelineShowCommand() *cobra.Command {
	return a.expandedCommand(&cobra.Command{
		Use:     "show [SOURCE…]",
		Short:   "Print the full form of a pipeline",
		Example: "  tape pipeline show\n  tape pipeline show ./kustomize",
	}, func(expanded *app.ExpandResult) error {
		_, err := a.data().Write(expanded.YAML)
		return err
	})
}

func (a *program) pipelineGraphCommand() *cobra.Command {
	var format string
	cmd := a.expandedCommand(&cobra.Command{
		Use:   "graph [SOURCE…]",
		Short: "Draw the graph of a pipeline",
		Example: `  tape pipeline graph        # Mermaid, which README files show as a picture
  tape pipeline graph --format svg > graph.svg`,
	}, func(expanded *app.ExpandResult) error {
		draw := map[string]func(*engine.Graph) string{"mermaid": show.Mermaid, "dot": show.DOT, "svg": show.SVG}[format]
		if draw == nil {
			return usagef("unknown --format %q: want mermaid, dot or svg", format)
		}
		_, err := io.WriteString(a.data(), draw(expanded.Graph))
		return err
	})
	cmd.Flags().StringVar(&format, "format", "mermaid", "mermaid, dot or svg")
	return cmd
}

func (a *program) pipelineSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of tape.yaml, for editors",
		Example: "  tape pipeline schema > tape.schema.json",
		Args:    noArgs,
		RunE: a.in(func(ctx context.Context, env app.Environment, _ []string) error {
			schema, err := app.Schema(ctx, app.Options{Environment: env})
			if err == nil {
				_, err = a.data().Write(schema)
			}
			return err
		}),
	}
}
