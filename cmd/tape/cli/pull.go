// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) pullCommand() *cobra.Command {
	var (
		image, dir string
		o          app.PullOptions
	)
	cmd := &cobra.Command{
		Use:   "pull REF DIR",
		Short: "Write the manifests of an application to a folder",
		Example: `  tape pull registry.example.com/team/podinfo:v1.2.3 ./podinfo
  tape pull registry.example.com/team/podinfo:v1.2.3 ./podinfo --key release.pub
  tape pull registry.example.com/team/shop:v1.4.0 ./shop --env prod
  kubectl apply -R -f ./shop`,
		Long: `Writes the manifests byte for byte, all of them or none. DIR is created, or must
be empty; --force replaces its content. With --key the application is first
verified like tape verify, and exactly the verified manifests are written. If
the verification fails, nothing is written and the exit status is 3.`,
		Args: argsRange(0, 2),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) (err error) {
			if image == "" && len(args) > 0 {
				image, args = args[0], args[1:]
			}
			if dir == "" && len(args) > 0 {
				dir, args = args[0], args[1:]
			}
			if len(args) > 0 {
				return usagef("unexpected argument %q", args[0])
			}
			if o.Ref, err = oneReference(image, nil); err != nil {
				return err
			}
			if dir == "" {
				return usagef("no DIR given: name a folder to write the manifests into")
			}
			if o.Bundle != "" || o.Key != "" || o.Trust != "" || !o.Identity.IsZero() {
				if err := checkWho(o.Key, o.Identity, o.Trust); err != nil {
					return err
				}
			}
			o.Environment, o.Dir = env, dir
			if o.Attestations == "-" {
				if a.flags.output != "text" {
					return usagef("--attestations - and --output-format %s both write to stdout", a.flags.output)
				}
				o.Writer = a.Out
			}
			result, err := app.Pull(ctx, o)
			if err != nil {
				return err
			}
			for _, warning := range result.Warnings {
				a.note("%s", warning)
			}
			if result.PointsTo != "" {
				a.note("the manifests point to %s; --rewrite points them to where they were pulled from", result.PointsTo)
			}
			if o.Writer != nil {
				return nil
			}
			return a.print(result, func(p *printer) {
				p.f("pulled %s\n", result.Root.Ref)
				if result.Verified {
					p.f("verified by %s\n", cmp.Or(o.Key, o.Identity.Pattern, o.Trust))
				}
				for _, f := range result.Files {
					p.f("  %s\n", f)
				}
				if o.Rewrite {
					p.f("pointed to the repository they came from: %d of them\n", result.Rewritten)
				}
				if len(result.Environments) > 1 {
					p.f("environments: %s; pull one with --env NAME to deploy it\n", strings.Join(result.Environments, ", "))
					return
				}
				p.f("deploy it with: kubectl apply -R -f %s\n", dir)
			})
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&image, "image", "I", "", "the reference, the same as REF")
	f.StringVarP(&dir, "manifest-dir", "D", "", "the folder, the same as DIR")
	f.StringVarP(&o.Attestations, "attestations", "a", "", "`FILE` for the statements, one JSON object per line; - is stdout")
	f.StringVar(&o.Key, "key", "", "public key `FILE` that must have signed the application; verified before anything is written")
	f.StringVar(&o.Trust, "trust", "", trustHelp)
	identityFlags(f, &o.Identity, "", "who must have signed the application")
	f.StringVar(&o.Bundle, "bundle", "", "`FILE` with the signature of the root, instead of those attached to it")
	f.BoolVar(&o.AllowOutside, "allow-outside", false, "with --key: allow pods to run images that are not in the artifact")
	f.StringVar(&o.Env, "env", "", "write only environment `NAME`, without its folder (default: all, in a folder each)")
	f.BoolVar(&o.Force, "force", false, "replace what is in DIR")
	f.BoolVar(&o.Rewrite, "rewrite", false, "rewrite the manifests to the repository that they are pulled from")
	return cmd
}
