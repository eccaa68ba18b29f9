// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/stages/app"
)

// Exit statuses of diff, which are those of diff(1).
const (
	exitDiffers = 1
	exitTrouble = 2
)

func (a *program) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two applications: images, objects and sources",
		Example: `  tape diff registry.example.com/team/podinfo:v1.2.3 \
    registry.example.com/team/podinfo:v1.3.0
  tape diff archive:old.tar archive:new.tar -o json`,
		Long: `Compares images by name and digest, manifests object by object and field by
field, and where they came from: commits, options and files that were rendered.
Where the applications lie does not count, and what a Secret holds is not shown.
Exit status: 0 same, 1 they differ, 2 they could not be compared.`,
		Args: argsRange(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := a.environment(cmd.Context())
			if err != nil {
				return &statusError{exitTrouble, err}
			}
			diff, err := app.Diff(cmd.Context(), app.DiffOptions{Environment: env, A: args[0], B: args[1]})
			if err != nil {
				return &statusError{exitTrouble, err}
			}
			if err := a.print(diff, func(w io.Writer) error { return diffText(w, diff, a.width()) }); err != nil {
				return &statusError{exitTrouble, err}
			}
			if !diff.Empty() {
				return &statusError{code: exitDiffers}
			}
			return nil
		},
	}
}

// diffText writes a diff with lines of at most width characters; 0 is any width.
func diffText(w io.Writer, d *app.DiffResult, width int) error {
	p := &printer{w: w}
	line := func(format string, args ...any) { p.f("%s\n", show.Fit(fmt.Sprintf(format, args...), width)) }
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
