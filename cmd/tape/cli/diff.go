// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/report"
	"github.com/taped-dev/tape/cmd/tape/internal/show"
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
field, and where they came from. First comes what a reviewer looks at first:
new registries and images, other versions, images without the signature that
they had, access to nodes, rights that grew, webhooks, and what is removed.

A and B are applications, or sources: a folder, a chart or a pipeline file,
rendered and resolved, but not pushed. Without B it is compared with the
pipeline of this folder. --deterministic renders sources twice: what differs
then is generated, such as certificates, and does not count.

Where the applications lie does not count, and what a Secret holds is not shown.
Exit status: 0 same, 1 they differ, 2 they could not be compared.`,
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
				err = a.print(diff, func(w io.Writer) error { return diffText(w, diff, a.width()) })
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
	cmd.Flags().StringVar(&environments, "env", "", "`A..B`: two environments of one application; NAME: that one of both")
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

// diffText writes a diff with lines of at most width characters; 0 is any width.
func diffText(w io.Writer, d *app.DiffResult, width int) error {
	p := &printer{w: w}
	line := func(format string, args ...any) { p.f("%s\n", show.Fit(fmt.Sprintf(format, args...), width)) }
	for _, m := range d.Matters {
		line("! %s: %s %s", strings.ToLower(report.Concern(m.What)), m.Subject(), m.Text)
	}
	if len(d.Matters) > 0 {
		line("")
	}
	for _, s := range d.Source.Changed {
		name := strings.TrimSpace("source " + s.Source)
		switch {
		case s.From == "":
			line("+ %s %s: %s", name, s.Fact, s.To)
		case s.To == "":
			line("- %s %s: %s", name, s.Fact, s.From)
		default:
			line("~ %s %s: %s → %s", name, s.Fact, brief(s.From), brief(s.To))
		}
	}
	for _, i := range d.Images.Removed {
		line("- image %s@%s", i.Name, i.Digest)
	}
	for _, i := range d.Images.Added {
		line("+ image %s@%s", i.Name, i.Digest)
	}
	for _, i := range d.Images.Changed {
		if i.Was != "" {
			line("~ image %s → %s", i.Was, i.Name)
		} else {
			line("~ image %s", i.Name)
		}
		line("    %s → %s", brief(i.From.String()), brief(i.To.String()))
		if i.Platforms != nil {
			for _, name := range i.Platforms.Removed {
				line("    - %s", name)
			}
			for _, name := range i.Platforms.Added {
				line("    + %s", name)
			}
		}
	}
	for _, k := range d.Objects.Removed {
		line("- %s", k)
	}
	for _, k := range d.Objects.Added {
		line("+ %s", k)
	}
	for _, o := range d.Objects.Changed {
		line("~ %s", o.ObjectKey)
		for _, f := range o.Fields {
			switch from, to := brief(string(f.From)), brief(string(f.To)); {
			case f.From == nil:
				line("    + %s: %s", f.Path, to)
			case f.To == nil:
				line("    - %s: %s", f.Path, from)
			case len(f.Path)+len(from)+len(to) < lineLength:
				line("    ~ %s: %s → %s", f.Path, from, to)
			default:
				line("    ~ %s", f.Path)
				line("        - %s", from)
				line("        + %s", to)
			}
		}
	}
	for _, o := range d.Generated {
		line("= %s: each rendering generates %d of its fields anew", o.ObjectKey, len(o.Fields))
	}
	if d.Empty() {
		line("the applications are the same")
	}
	return p.err
}

// lineLength is how long a field's values may be to stand on its line.
const lineLength = 60

var digests = regexp.MustCompile(`\b(sha256:[a-f0-9]{12})[a-f0-9]{52}\b`)

// brief shortens digests, which JSON has whole: two of them side by side are
// wider than any terminal.
func brief(text string) string { return digests.ReplaceAllString(text, "$1…") }
