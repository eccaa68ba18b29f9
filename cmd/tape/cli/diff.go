// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages"
)

// Exit statuses of diff, which are those of diff(1).
const (
	exitDiffers = 1
	exitTrouble = 2
)

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two applications: images, objects and sources",
		Example: `  tape diff registry.example.com/team/podinfo:v1.2.3 \
    registry.example.com/team/podinfo:v1.3.0
  tape diff archive:old.tar archive:new.tar -o json`,
		Long: `Compares images by name and digest, manifests object by object and field by
field, and where they came from. Where the applications lie is no difference.
Exit status: 0 same, 1 they differ, 2 they could not be compared.`,
		Args: argsRange(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.registry()
			if err != nil {
				return &statusError{exitTrouble, err}
			}
			diff, err := stages.Compare(cmd.Context(), stages.Environment{Registry: client}, args[0], args[1])
			if err != nil {
				return &statusError{exitTrouble, err}
			}
			if err := a.print(diff, func(w io.Writer) error { return diffText(w, diff) }); err != nil {
				return &statusError{exitTrouble, err}
			}
			if !diff.Empty() {
				return &statusError{code: exitDiffers}
			}
			return nil
		},
	}
}

func diffText(w io.Writer, d *stages.Diff) error {
	p := &printer{w: w}
	for _, s := range d.Source.Changed {
		p.f("~ source %s: %s → %s\n", strings.TrimSpace(s.Source+" "+s.Fact), s.From, s.To)
	}
	for _, i := range d.Images.Removed {
		p.f("- image %s@%s\n", i.Name, i.Digest)
	}
	for _, i := range d.Images.Added {
		p.f("+ image %s@%s\n", i.Name, i.Digest)
	}
	for _, i := range d.Images.Changed {
		p.f("~ image %s: %s → %s\n", i.Name, i.From, i.To)
		if i.Platforms != nil {
			for _, name := range i.Platforms.Removed {
				p.f("    - %s\n", name)
			}
			for _, name := range i.Platforms.Added {
				p.f("    + %s\n", name)
			}
		}
	}
	for _, k := range d.Objects.Removed {
		p.f("- %s\n", k)
	}
	for _, k := range d.Objects.Added {
		p.f("+ %s\n", k)
	}
	for _, o := range d.Objects.Changed {
		p.f("~ %s\n", o.ObjectKey)
		for _, f := range o.Fields {
			switch {
			case f.From == nil:
				p.f("    + %s: %s\n", f.Pointer, f.To)
			case f.To == nil:
				p.f("    - %s: %s\n", f.Pointer, f.From)
			default:
				p.f("    ~ %s: %s → %s\n", f.Pointer, f.From, f.To)
			}
		}
	}
	if d.Empty() {
		p.f("the applications are the same\n")
	}
	return p.err
}
