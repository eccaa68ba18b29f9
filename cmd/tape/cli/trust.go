// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

const trustHelp = "trust policy `FILE` (trust.yaml), checked before anything is written"

func (a *program) trustCommand() *cobra.Command {
	return group("trust", "Check, test and export trust policies",
		`  tape trust check trust.yaml
  tape trust check trust.yaml registry.example.com/team/podinfo:v1.2.3
  tape trust export trust.yaml --flux
  tape trust schema`,
		a.trustCheckCommand(), a.trustExportCommand(), schemaCommand("Print the JSON Schema of trust policies", "  tape trust schema > trust.schema.json", a.Out, app.TrustSchema()))
}

func (a *program) trustCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE [REF]",
		Short: "Explain rule by rule how a trust policy judges an application",
		Example: `  tape trust check trust.yaml
  tape trust check trust.yaml registry.example.com/team/podinfo:v1.2.3`,
		Long: `Reads the policy with the keys and trusted roots that it names. With REF it
lists for each rule what it applies to, and whether it is satisfied. The exit
status is 3 if a rule is not satisfied, or if the verification of the
application fails.`,
		Args: argsRange(1, 2),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			o := app.TrustOptions{Environment: env, File: args[0]}
			if len(args) > 1 {
				o.Ref = args[1]
			}
			return printed(a, trustText, func(r *app.TrustResult) error {
				if i := slices.IndexFunc(r.Links, func(l app.VerifiedLink) bool { return !l.OK }); i >= 0 {
					return &statusError{exitPolicy, fmt.Errorf("%s is not trusted: %s: %s", o.Ref, r.Links[i].Name, r.Links[i].Reason)}
				}
				return nil
			})(app.CheckTrust(ctx, o))
		}),
	}
}

func trustText(p *printer, r *app.TrustResult) {
	p.lay(`{{range .Rules}}{{.Section}}{{with .Names}} {{join ", " .}}{{end}} ({{.At}})
{{with .Require}}       signed by {{.}}
{{end}}{{range .Attestations}}       with {{.}}
{{end}}{{end}}without a rule: {{.Default}}
{{range .Links}}{{if .OK}}ok    {{else}}FAILS {{end}} {{.Name}} {{.Subject}}
       {{or .Reason .Rule}}
{{with proof .}}       {{.}}
{{end}}{{end}}{{range .Warnings}}note   {{.}}
{{end}}`, r)
}

func (a *program) trustExportCommand() *cobra.Command {
	var flux, kyverno, policyController bool
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Export a trust policy for admission controllers",
		Example: `  tape trust export trust.yaml --flux
  tape trust export trust.yaml --kyverno | kubectl apply -f -
  tape trust export trust.yaml --policy-controller | kubectl apply -f -`,
		Long: `Prints Kubernetes objects: for Flux the rules for applications, as
OCIRepositories to which you add what to fetch (spec.ref); for Kyverno and
policy-controller the rules for images. If the target cannot enforce a rule
exactly, this is an error, and nothing is printed.`,
		Args: argsRange(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var targets []string
			for name, chosen := range map[string]bool{"flux": flux, "kyverno": kyverno, "policy-controller": policyController} {
				if chosen {
					targets = append(targets, name)
				}
			}
			if len(targets) != 1 {
				return usagef("give one of --flux, --kyverno and --policy-controller")
			}
			objects, err := app.ExportTrust(cmd.Context(), app.TrustExportOptions{File: args[0], Target: targets[0]})
			if err != nil {
				return err
			}
			_, err = a.Out.Write(objects)
			return err
		},
	}
	cmd.Flags().BoolVar(&flux, "flux", false, "export OCIRepositories of Flux, from the rules for applications")
	cmd.Flags().BoolVar(&kyverno, "kyverno", false, "export ImageValidatingPolicies of Kyverno, from the rules for images")
	cmd.Flags().BoolVar(&policyController, "policy-controller", false, "export ClusterImagePolicies of Sigstore's policy-controller, from the rules for images")
	return cmd
}
