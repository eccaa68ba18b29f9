// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) packageCommand() *cobra.Command {
	var (
		source sourceFlags
		o      packageFlags
		signed bool
		sign   signFlags
		as     string
		list   string
	)
	cmd := &cobra.Command{
		Use:         "package [SOURCE…]",
		Short:       "Pack an application with all its images, and push it",
		Annotations: resumable,
		Example: `  tape package ./kustomize -O registry.example.com/team/podinfo
  tape package ./charts/podinfo -f prod.yaml --tag v1.2.3 \
    -O registry.example.com/team/podinfo
  tape package ./kustomize -O registry.example.com/team/podinfo \
    --save podinfo.tar    # pushes nothing
  tape package            # as tape.yaml says`,
		Long: `Renders each SOURCE, finds all images, copies them and what is published beside
them into the repository, pins the manifests to the copies by digest, and pushes
one artifact with everything. The default tags are those of git at a clean HEAD.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			switch as {
			case "tape":
			case "cnab":
				return a.packageBundle(cmd, args, o.Repository, o.Tags, source.from)
			default:
				return usagef("unknown --as %q: want tape or cnab", as)
			}
			if err := o.splitTag(); err != nil {
				return err
			}
			if list != "" {
				if len(args) > 0 || source.manifestDir != "" || o.Pipeline != "" || o.Repository != "" || o.Save != "" {
					return usagef("--from-file lists what to package, and where to: leave out SOURCE, -O, -p and --save")
				}
			} else if err := a.sources(&source, &o.Options, args); err != nil {
				return withUpdateHint(err, o.Update, args)
			}
			switch {
			case sign.stdin() && source.cache.key == app.Stdin:
				return usagef("--cache-key - cannot be combined with a key or token from stdin")
			case o.Locked && o.Update != "":
				return usagef("--locked and --update cannot be combined")
			case signed:
				if err := sign.check(); err != nil {
					return err
				}
			case sign.key != "":
				return usagef("--key requires --sign")
			case sign != signFlags{}:
				return usagef("--keyless, --timestamp and their files require --sign")
			}
			if o.Push && o.Save == "" {
				return usagef("--push requires --save: without it everything is pushed")
			}
			if o.Environment, err = a.environment(cmd.Context()); err != nil {
				return err
			}
			if signed {
				if o.Signer, err = a.signWith(cmd.Context(), o.Environment, sign); err != nil {
					return err
				}
			}
			if o.Cache, err = a.cache(cmd.Context(), &source.cache, o.Environment); err != nil {
				return err
			}
			if list != "" {
				return a.packageList(cmd.Context(), list, o, &source)
			}
			result, err := app.Package(cmd.Context(), o.PackageOptions)
			if err != nil {
				err = withUpdateHint(err, o.Update, args)
			}
			return printed(a, packageText)(result, err)
		},
	}
	cmd.Flags().StringVarP(&o.Repository, "output-image", "O", "", "`REPOSITORY[:TAG]` to push to, such as registry.example.com/team/app")
	cmd.Flags().StringArrayVar(&o.Tags, "tag", nil, "`TAG` of the artifact (repeats; default: git's version tags, or config.<digest>)")
	cmd.Flags().StringVar(&as, "as", "tape", "`KIND` of artifact: tape, or cnab for the index of a CNAB bundle, from a bundle.json")
	cmd.Flags().StringVar(&list, "from-file", "", "package what `LIST` names, one SOURCE REPOSITORY[:TAG] per line; - is stdin")
	source.register(cmd, &o.Options)
	registerEnvironments(cmd, &o.Options)
	source.registerImages(cmd, &o.Options)
	cmd.Flags().StringVar(&o.Update, "update", "", "update the lock beside the pipeline: images, interpreters, materials, the `NAME` of an entry, or all")
	cmd.Flags().Lookup("update").NoOptDefVal = "all"
	cmd.Flags().BoolVar(&signed, "sign", false, "sign root and content, with --key or --keyless")
	sign.register(cmd.Flags())
	cmd.Flags().StringVar(&o.Save, "save", "", "write an archive `FILE` instead of pushing; -O still determines the names of images")
	cmd.Flags().BoolVar(&o.Push, "push", false, "with --save: also push")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "write nothing, and show what would be pushed")
	cmd.Flags().StringVar(&o.Trust, "trust", "", trustHelp)
	cmd.Flags().BoolVar(&o.Immutable, "immutable", false, immutableHelp)
	cmd.Flags().BoolVar(&o.SBOM, "sbom", false, "add an SPDX document about the application to the statements")
	cmd.Flags().BoolVar(&o.Check, "check", false, checkHelp)
	return cmd
}

// packageFlags are options whose repository may include a tag.
type packageFlags struct{ app.PackageOptions }

// splitTag moves the tag of -O REPOSITORY:TAG to the tags.
func (o *packageFlags) splitTag() error {
	var err error
	o.Repository, o.Tags, err = outputTag(o.Repository, o.Tags)
	return err
}

// packageList packages the sources in a list, one at a time.
func (a *program) packageList(ctx context.Context, file string, o packageFlags, source *sourceFlags) error {
	return each(ctx, a, file, 2, 2, "SOURCE and REPOSITORY[:TAG]", func(ctx context.Context, words []string) (*app.PackageResult, error) {
		one := o
		one.Sources, one.Repository = nil, words[1]
		if err := one.splitTag(); err != nil {
			return nil, err
		}
		if err := source.to(&one.Options, words[:1]); err != nil {
			return nil, err
		}
		return app.Package(ctx, one.PackageOptions)
	}, packageText)
}

// withUpdateHint adds a hint to err that --update takes its value after an equals sign, if its
// value was parsed as a SOURCE.
func withUpdateHint(err error, update string, args []string) error {
	for _, arg := range args {
		if _, statErr := os.Stat(arg); update == "all" && statErr != nil && !strings.ContainsAny(arg, "/:") {
			return usagef("%w (for --update %s write --update=%s)", err, arg, arg)
		}
	}
	return err
}

// packageText prints what was packaged and how to use it.
func packageText(p *printer, r *app.PackageResult) {
	p.lay(`{{$most := 10}}{{range .Images}}image     {{.Ref}}
          from {{.Source}}
{{end}}{{range .Unpinned}}unpinned  {{.Source}}: {{.Reason}}
{{end}}{{range .Placeholders}}unpinned  {{printf "%q" .Value}} at {{.Place .File .Line .Column ""}}: {{or .Reason "it is filled in later"}}
{{end}}{{range $i, $s := .Skipped}}{{if lt $i $most}}skipped   {{.Place .File .Line 0 ""}}: {{trim .Reason}}
{{end}}{{end}}{{if gt (len .Skipped) $most}}skipped   {{minus (len .Skipped) $most}} more; -o json names them
{{end}}{{if eq .Related 1}}related   1 signature, attestation or SBOM
{{else if .Related}}related   {{.Related}} signatures, attestations and SBOMs
{{end}}{{with .File}}saved     {{.}}
{{end}}{{if .DryRun}}would move{{else}}moved    {{end}}{{moved .Moved}}
{{if .Signed}}signed    root and content
{{end}}{{with .Environments}}environments {{join ", " .}}: a deployer takes the path of one, such as ./{{index . (minus (len .) 1)}}
{{end}}{{if gt (len .Tags) 1}}tags      {{join " " .Tags}}
{{end}}content   {{.Content.Ref}}
root      {{.Root.Ref}}
`, r)
}
