// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"

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
		Long: `Verifies REF as tape verify does, copies it with all that is attached, attaches
a signed record (from where, to which tag, what the tag led to before, when,
why) to the copy, and sets the tag, in this order. The exit status is 3 where
REF is not verified, is older than what the tag leads to, or an earlier record
was changed. Who promotes has another key than who signed REF. A second run
changes nothing.`,
		Args: argsRange(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Source, o.Target = args[0], args[1]
			if o.Key == "" && o.Trust == "" {
				return usagef("REF is verified first: give the public key of who signed it, --signed-by FILE, or --trust FILE")
			}
			if err := sign.check(); err != nil {
				return err
			}
			env, err := a.environment(cmd.Context())
			if err != nil {
				return err
			}
			o.Environment = env
			if o.Signer, err = a.signWith(cmd.Context(), env, sign); err != nil {
				return err
			}
			result, err := app.Promote(cmd.Context(), o)
			a.settle()
			if err != nil {
				return err
			}
			for _, warning := range result.Warnings {
				fmt.Fprintf(a.Err, "warning: %s\n", warning)
			}
			if result.PointsTo != "" {
				fmt.Fprintf(a.Err, "note: the manifests still point to %s\n", result.PointsTo)
			}
			return a.print(result, func(w io.Writer) error { return promoteText(w, result) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Key, "signed-by", "", "public key `FILE` of who must have signed REF")
	f.StringVar(&o.Trust, "trust", "", trustHelp)
	sign.register(f)
	f.StringVar(&o.Env, "env", "", "environment `NAME` that it is promoted for, for the record")
	f.StringVar(&o.Reason, "reason", "", "`TEXT` for the record")
	f.BoolVar(&o.Force, "force", false, "promote what is older than what the tag leads to")
	f.BoolVar(&o.Immutable, "immutable", false, immutableHelp)
	return cmd
}

func promoteText(w io.Writer, r *app.PromoteResult) error {
	if err := copyText(w, "promoted", r.CopyResult); err != nil {
		return err
	}
	p := &printer{w: w}
	if r.Previous != "" {
		p.f("before %s\n", r.Previous)
	}
	p.f("record %s", r.Record)
	if r.Existing {
		p.f(", of before")
	}
	p.f("\n")
	return p.err
}
