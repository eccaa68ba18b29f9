// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/images"
)

func (a *program) imagesCommand() *cobra.Command {
	var (
		source    sourceFlags
		o         app.ImagesOptions
		noResolve bool
		classes   []string
	)
	cmd := &cobra.Command{
		Use:   "images [SOURCE…]",
		Short: "List all images that the manifests reference, and where",
		Example: `  tape images ./kustomize
  tape images ./charts/podinfo --no-resolve -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, c := range classes {
				class := images.Class(c)
				if !slices.Contains([]images.Class{images.Pod, images.CRD, images.Indirect}, class) {
					return usagef("unknown --class %q: want pod, crd or indirect", c)
				}
				o.Classes = append(o.Classes, class)
			}
			o.Resolve = !noResolve
			if err := a.open(cmd.Context(), &source, &o.Options, args); err != nil {
				return err
			}
			return printed(a, imagesText)(app.Images(cmd.Context(), o))
		},
	}
	cmd.Flags().BoolVar(&noResolve, "no-resolve", false, "do not ask registries")
	cmd.Flags().StringSliceVar(&classes, "class", nil, "only these classes: pod, crd, indirect (default all)")
	source.register(cmd, &o.Options)
	registerEnvironments(cmd, &o.Options)
	source.registerImages(cmd, &o.Options)
	return cmd
}

// imagesText prints what the original tape printed, in its order.
func imagesText(p *printer, r *app.ImagesResult) {
	for _, i := range r.Images {
		p.f("%s\n  Sources:\n", i.Ref)
		for _, l := range i.Locations {
			p.f("    %s %s\n", l.Value, l.Source.Place(l.File, l.Line, l.Column, l.FileDigest))
		}
		if i.From != "" {
			p.f("  From: %s\n", i.From)
		}
		if len(i.Environments) > 0 {
			p.f("  Environments: %s\n", strings.Join(i.Environments, ", "))
		}
		p.f("  Digest provided: %t\n", i.DigestProvided)
		if len(i.Manifests) == 0 {
			continue
		}
		p.f("  OCI manifests:\n")
		for _, m := range i.Manifests {
			p.f("    %s %s %s %d\n", m.Digest, m.MediaType, m.Platform, m.Size)
		}
		for _, kind := range []struct{ name, kind string }{
			{"attestations", images.Attestation}, {"SBOMs", images.SBOM}, {"signatures", images.Signature},
		} {
			var inline, external int
			for _, r := range i.Related {
				switch {
				case r.Kind != kind.kind:
				case r.Via == images.Inline:
					inline++
				default:
					external++
				}
			}
			p.f("  Inline %s: %d\n  External %s: %d\n", kind.name, inline, kind.name, external)
		}
	}
	for _, ph := range r.Placeholders {
		p.f("placeholder %q %s%s\n", ph.Value, ph.Place(ph.File, ph.Line, ph.Column, ""), because(ph.Reason))
	}
	for _, m := range r.Mentions {
		p.f("not run %s %s%s\n", m.Value, m.Place(m.File, m.Line, m.Column, ""), because(m.Reason))
	}
	for _, u := range r.Unpinned {
		p.f("unpinned %s %s\n", u.Source, u.Reason)
	}
	for _, s := range r.Skipped {
		p.f("skipped %s: %s\n", s.Place(s.File, s.Line, 0, ""), strings.TrimSpace(s.Reason))
	}
}

// because returns a reason after a colon; "" if there is none.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
