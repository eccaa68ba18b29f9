// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) promoteCommand() *cobra.Command {
	var (
		o    app.PromoteOptions
		sign signFlags
	)
	cmd := &cobra.Command{
		Use:   "promote REF DEST[:TAG] --signed-by PUB --key FILE",
		Short: "Verify and copy an application, and sign a record of it",
		Example: `  tape promote registry.example.com/dev/shop:v1.4.0 \
    registry.example.com/prod/shop:live --env prod --reason "change 1234" \
    --signed-by release.pub --key promoter.key
  tape view registry.example.com/prod/shop:live     # shows the history`,
		Long: `Verifies REF like tape verify, copies it with everything attached to it,
attaches a signed record (source, tag, previous root of the tag, time, reason)
to the copy, and sets the tag, in this order. The exit status is 3 if the
verification fails, if REF is older than the root that the tag leads to, or if
an earlier record was changed. The key of the promoter must not be the one that
signed REF. A second run changes nothing.`,
		Args: argsRange(2, 2),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) (err error) {
			o.Environment, o.Source, o.Target = env, args[0], args[1]
			if o.Key == "" && o.Trust == "" {
				return usagef("REF is verified first: give the public key of its signer, --signed-by FILE, or --trust FILE")
			}
			if err := sign.check(); err != nil {
				return err
			}
			if o.Signer, err = a.signWith(ctx, env, sign); err != nil {
				return err
			}
			result, err := app.Promote(ctx, o)
			a.settle()
			if err != nil {
				return err
			}
			for _, warning := range result.Warnings {
				a.warn("%s", warning)
			}
			if result.PointsTo != "" {
				a.note("the manifests still point to %s", result.PointsTo)
			}
			return a.print(result, func(p *printer) { promoteText(p, result) })
		}),
	}
	promoteFlags(cmd, &o, &sign, "REF", "the record")
	return cmd
}

// promoteFlags adds the flags for the promotion and its record.
func promoteFlags(cmd *cobra.Command, o *app.PromoteOptions, sign *signFlags, what, record string) {
	f := cmd.Flags()
	f.StringVar(&o.Key, "signed-by", "", "public key `FILE` that must have signed "+what)
	f.StringVar(&o.Trust, "trust", "", trustHelp)
	sign.register(f)
	f.StringVar(&o.Env, "env", "", "environment `NAME` for "+record)
	f.StringVar(&o.Reason, "reason", "", "`TEXT` for "+record)
	f.BoolVar(&o.Force, "force", false, "promote even if the tag leads to something newer")
	f.BoolVar(&o.Immutable, "immutable", false, immutableHelp)
}

func promoteText(p *printer, r *app.PromoteResult) {
	copyText(p, "promoted", r.CopyResult)
	p.lay(`{{with .Previous}}before {{.}}
{{end}}record {{.Record}}{{if .Existing}}, of before{{end}}
`, r)
}
