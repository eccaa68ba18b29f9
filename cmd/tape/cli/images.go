// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
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

// imagesText prints the same text as the original tape, in the same order.
func imagesText(p *printer, r *app.ImagesResult) {
	p.lay(`{{range .Images}}{{.Ref}}
  Sources:
{{range .Locations}}    {{.Value}} {{.Source.Place .File .Line .Column .FileDigest}}
{{end}}{{with .From}}  From: {{.}}
{{end}}{{with .Environments}}  Environments: {{join ", " .}}
{{end}}  Digest provided: {{.DigestProvided}}
{{if .Manifests}}  OCI manifests:
{{range .Manifests}}    {{.Digest}} {{.MediaType}} {{.Platform}} {{.Size}}
{{end}}{{evidence .Related}}{{end}}{{end}}{{range .Placeholders}}placeholder {{printf "%q" .Value}} {{.Place .File .Line .Column ""}}{{because .Reason}}
{{end}}{{range .Mentions}}not run {{.Value}} {{.Place .File .Line .Column ""}}{{because .Reason}}
{{end}}{{range .Unpinned}}unpinned {{.Source}} {{.Reason}}
{{end}}{{range .Skipped}}skipped {{.Place .File .Line 0 ""}}: {{trim .Reason}}
{{end}}`, r)
}

// evidence counts what is published with an image, inside its index and outside.
func evidence(related []images.Related) string {
	var text strings.Builder
	for _, kind := range []struct{ name, kind string }{
		{"attestations", images.Attestation}, {"SBOMs", images.SBOM}, {"signatures", images.Signature},
	} {
		var inline, external int
		for _, r := range related {
			switch {
			case r.Kind != kind.kind:
			case r.Via == images.Inline:
				inline++
			default:
				external++
			}
		}
		fmt.Fprintf(&text, "  Inline %s: %d\n  External %s: %d\n", kind.name, inline, kind.name, external)
	}
	return text.String()
}

// because returns a colon and the reason, or "" if there is none.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
