// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/app"
)

func (a *program) saveCommand() *cobra.Command {
	var o app.SaveOptions
	cmd := &cobra.Command{
		Use:         "save REF FILE",
		Short:       "Write an application to one file, with its signatures",
		Annotations: map[string]string{afterInterrupt: "run the same command with --resume to continue"},
		Example: `  tape save registry.example.com/team/podinfo:v1.2.3 podinfo.tar
  tape save registry.example.com/team/podinfo:v1.2.3 - --platform linux/arm64 \
    --images-only | ssh node ctr -n k8s.io images import -
  tape load podinfo.tar registry.inside.example/team/podinfo`,
		Long: `Writes an OCI layout as a tar, which tape load, containerd, k3s and kind can
import. FILE appears when it is complete; an interrupted command leaves
FILE.partial, which --resume continues. FILE - is stdout. With --platform the
other platforms of images are left out: such a file is for nodes, and cannot be
loaded into a registry.`,
		Args: argsRange(0, 2),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			if len(args) != 2 {
				return usagef("save takes REF and FILE, such as registry.example.com/team/app:v1.2.3 app.tar")
			}
			o.Environment, o.Ref, o.File = env, args[0], args[1]
			if o.File == "-" {
				if o.Resume {
					return usagef("--resume requires a file, and cannot be combined with stdout")
				}
				if a.flags.output != "text" {
					return usagef("FILE - and --output-format %s both write to stdout", a.flags.output)
				}
				o.File, o.Writer = "", a.Out
			}
			return printed(a, func(p *printer, r *app.SaveResult) {
				if o.Writer != nil {
					return // stdout has the archive
				}
				p.f("saved     %s (%s)\nroot      %s\nimages    %d\n", r.File, show.Bytes(r.Size), r.Root.Ref, r.Images)
				if len(r.Platforms) > 0 {
					p.f("platforms %s; the others were left out: for nodes, not for registries\n", strings.Join(r.Platforms, ", "))
				}
				p.f("attached  %s", count.Of(r.Signatures, "signature"))
				if other := r.Attached - r.Signatures; other > 0 {
					p.f(", %s", count.Of(other, "other manifest"))
				}
				p.f("\n")
			})(app.Save(ctx, o))
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.Platform, "platform", "", "save only `OS/ARCH` of images")
	f.BoolVar(&o.ImagesOnly, "images-only", false, "save only the images")
	f.BoolVar(&o.Resume, "resume", false, "continue with FILE.partial")
	return cmd
}
