// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taped-dev/tape/stages/app"
)

func (a *program) verifyCommand() *cobra.Command {
	var (
		o      app.VerifyOptions
		attest attestFlags
		list   string
		cmd    *cobra.Command
	)
	cmd = &cobra.Command{
		Use:   "verify REF",
		Short: "Verify the signatures and the integrity of an application",
		Example: `  tape verify registry.example.com/team/podinfo:v1.2.3 --key release.pub
  tape verify archive:podinfo.tar --key release.pub --offline
  tape verify registry.example.com/team/podinfo:v1.2.3 \
    --trusted-root root.json --identity 'https://github.com/acme/*' \
    --issuer https://token.actions.githubusercontent.com
  tape verify registry.example.com/team/podinfo:v1.2.3 --key release.pub \
    --source https://github.com/acme/podinfo --commit 8c4f…
  tape verify registry.example.com/team/podinfo:v1.2.3 --trust trust.yaml \
    --attest --key auditor.key          # leave a summary of the verification,
  tape verify registry.example.com/team/podinfo:v1.2.3 --trust trust.yaml \
    --summary auditor.pub               # which others take instead`,
		Long: `Verifies the whole chain with only the artifact and the key: the signature is
for the root, the root names every image and signature, and the statements
account for each byte of the manifests. Every link is printed; the exit status
is 3 if one fails. An image that a pod runs and that is not in the artifact is a
failure, unless --allow-outside is given.

With --attest, --key FILE (or --keyless) signs a summary of the verification,
passed or failed, and attaches it to the root. The signer must not be that of
the application. With --summary the latest summary of that key is accepted
instead of verifying the chain; it must have passed, with the policy of --trust.`,
		Args: argsRange(0, 1),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) (err error) {
			switch {
			case list != "" && (len(args) > 0 || o.Bundle != ""):
				return usagef("--from-file lists what to verify: leave out REF and --bundle")
			case list == "-" && attest.sign.token == app.Stdin:
				return usagef("--from-file - cannot be combined with a token from stdin")
			case list != "" && o.Key == app.Stdin && !attest.attest:
				return usagef("--key - can be read only once, and --from-file needs it for each REF: give FILE or env://NAME")
			case cmd.Flags().Changed("summary-age") && o.SummaryAge <= 0:
				return usagef("--summary-age %s: give a time such as 24h, or leave it out to accept any age", o.SummaryAge)
			case list == "":
				if o.Ref, err = oneReference("", args); err != nil {
					return err
				}
			}
			if err := attest.take(&o); err != nil {
				return err
			}
			if o.Summary == "" && o.SummaryIdentity.IsZero() || o.Key != "" || !o.Identity.IsZero() {
				if err := checkWho(o.Key, o.Identity, o.Trust); err != nil {
					return err
				}
			}
			if err := cmp.Or(checkIdentity(o.SummaryIdentity, "summary-"), checkIdentity(o.ImageIdentity, "image-")); err != nil {
				return err
			}
			o.Environment = env
			verify := func(ctx context.Context, o app.VerifyOptions) (*app.AttestResult, error) {
				result, err := app.Verify(ctx, o)
				if err != nil {
					return nil, err
				}
				return &app.AttestResult{VerifyResult: *result}, nil
			}
			if attest.attest {
				if attest.o.Signer, err = a.signWith(ctx, env, attest.sign); err != nil {
					return err
				}
				verify = func(ctx context.Context, o app.VerifyOptions) (*app.AttestResult, error) {
					one := attest.o
					one.VerifyOptions, one.Version = o, readVersion().Version
					return app.Attest(ctx, one)
				}
			}
			if list != "" {
				o.Keys = &app.Verifiers{}
				return each(ctx, a, list, 1, 1, "REF", func(ctx context.Context, words []string) (*app.AttestResult, error) {
					one := o
					one.Ref = words[0]
					result, err := verify(ctx, one)
					if err != nil {
						return nil, err
					}
					return result, verified(one.Ref, result)
				}, verifyText)
			}
			return printed(a, verifyText, func(r *app.AttestResult) error { return verified(o.Ref, r) })(verify(ctx, o))
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.Key, "key", "", "public key that signed the application (with --attest: private key to sign the summary): `FILE`, env://NAME, - for stdin, or NAME://REF of a KMS")
	f.StringVar(&o.OriginKey, "origin-key", "", "public key that signed the application that it was relocated from: `FILE`, env://NAME or NAME://REF")
	f.StringVar(&o.Trust, "trust", "", "trust policy `FILE` (trust.yaml) for root and images")
	identityFlags(f, &o.Identity, "", "who must have signed the application")
	f.StringVar(&list, "from-file", "", "verify what `LIST` names, one REF per line; - is stdin")
	f.StringVar(&o.Bundle, "bundle", "", "`FILE` with the signature of the root, instead of those attached to it")
	f.BoolVar(&o.Offline, "offline", false, "do not ask registries; REF is oci:DIR or archive:FILE")
	f.BoolVar(&o.Deep, "deep", false, "read every blob of a repository instead of only checking that it exists")
	f.StringVar(&o.Source, "source", "", "`URI` of the repository that the sources must come from")
	f.StringVar(&o.Commit, "commit", "", "`COMMIT` that the sources must be at, without modifications")
	f.BoolVar(&o.AllowOutside, "allow-outside", false, "allow pods to run images that are not in the artifact (each is listed)")
	f.StringArrayVar(&o.ImageKeys, "image-key", nil, "public key of an image's publisher; one of them must have signed each image: `FILE` or env://NAME (repeats)")
	identityFlags(f, &o.ImageIdentity, "image-", "who must have signed each image, if no --image-key did")
	f.StringVar(&o.Summary, "summary", "", "accept the latest summary signed by this public key instead of verifying the chain: `FILE`, env://NAME, or NAME://REF of a KMS")
	identityFlags(f, &o.SummaryIdentity, "summary-", "who must have made the summary, if no --summary did")
	f.StringVar(&o.SummaryFrom, "summary-from", "", "`REPOSITORY` that has the summary (default: the application's)")
	f.DurationVar(&o.SummaryAge, "summary-age", 0, "largest age of the summary, such as 24h (default: any)")
	attest.register(f)
	return cmd
}

// attestFlags are those of --attest.
type attestFlags struct {
	attest bool
	sign   signFlags
	o      app.AttestOptions
}

func (a *attestFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&a.attest, "attest", false, "sign a summary of the verification, and attach it")
	f.BoolVar(&a.o.Images, "attest-images", false, "with --attest: also sign a summary for each image")
	f.StringVar(&a.o.To, "attest-to", "", "with --attest: `REPOSITORY` for the summaries (default: the application's)")
	f.BoolVar(&a.o.Force, "force", false, "with --attest-images: attach even where this hides signatures of cosign before version 3")
	a.sign.registerSigstore(f)
}

// take checks the flags, and takes those that select the signer of the summary out of o.
func (a *attestFlags) take(o *app.VerifyOptions) error {
	if !a.attest {
		if a.o.Images || a.o.To != "" || a.o.Force || a.sign != (signFlags{}) {
			return usagef("flags for attesting require --attest")
		}
		return nil
	}
	switch {
	case o.Trust == "":
		return usagef("--attest records the policy of the verification: give --trust FILE")
	case o.Summary != "" || !o.SummaryIdentity.IsZero():
		return usagef("--attest makes a summary, and --summary accepts one: give one of them")
	case o.AllowOutside:
		return usagef("--attest and --allow-outside cannot be combined: let the trust file decide")
	case o.Identity.Issuer != "" || o.Identity.Pattern != "":
		return usagef("with --attest, --trust determines who must have signed: leave out --issuer and --identity")
	}
	a.sign.key, a.sign.trustedRoot = o.Key, o.Identity.TrustedRoot
	o.Key, o.Identity = "", app.Identity{}
	return a.sign.check()
}

// identityFlags adds the flags that name who signs without a key.
func identityFlags(f *pflag.FlagSet, id *app.Identity, prefix, what string) {
	f.StringVar(&id.TrustedRoot, prefix+"trusted-root", "", "`FILE` with the authorities of a Sigstore (trusted_root.json), to verify without a key")
	f.StringVar(&id.Issuer, prefix+"issuer", "", "exact `URL` of the identity's issuer")
	f.StringVar(&id.Pattern, prefix+"identity", "", what+": exact, or a `PATTERN` in which * matches a path segment, and at the end the rest")
}

// checkWho checks that flags name who signed: a key or an identity.
func checkWho(key string, id app.Identity, trust string) error {
	switch {
	case key == "" && id.IsZero() && trust == "":
		return usagef("verifying requires a signer: give --key FILE, --trust FILE, or --trusted-root FILE --issuer URL --identity PATTERN")
	case key != "" && !id.IsZero():
		return usagef("--key and --identity both name the signer: give one")
	}
	return checkIdentity(id, "")
}

func checkIdentity(id app.Identity, prefix string) error {
	if !id.IsZero() && (id.TrustedRoot == "" || id.Issuer == "" || id.Pattern == "") {
		return usagef("--%[1]strusted-root, --%[1]sissuer and --%[1]sidentity require each other: give all three", prefix)
	}
	return nil
}

// verified is an error where a link does not hold.
func verified(ref string, r *app.AttestResult) error {
	if i := slices.IndexFunc(r.Links, func(l app.VerifiedLink) bool { return !l.OK }); i >= 0 {
		link, hint := r.Links[i], ""
		if link.Outside {
			hint = " (--allow-outside lets pods run such images)"
		}
		return &statusError{exitPolicy, fmt.Errorf("%s is not verified: %s: %s%s", ref, link.Name, link.Reason, hint)}
	}
	return nil
}

// proofText describes the signature of a link: authority, identity, issuer, log and time.
func proofText(link app.VerifiedLink) string {
	var parts []string
	for _, part := range []struct{ what, is string }{{"authority", link.Authority}, {"signed by", link.Identity}, {"issuer", link.Issuer}, {"log", link.Log}} {
		if part.is != "" {
			parts = append(parts, part.what+" "+part.is)
		}
	}
	if link.SignedAt != nil {
		parts = append(parts, "at "+link.SignedAt.Format(time.RFC3339))
	}
	return strings.Join(parts, ", ")
}

// verifyText prints a line a link.
func verifyText(p *printer, r *app.AttestResult) {
	p.lay(`{{range .Links}}{{if .OK}}ok    {{else}}FAILS {{end}} {{.Name}} {{.Subject}}
{{with .Reason}}       {{.}}
{{end}}{{with proof .}}       {{.}}
{{end}}{{end}}{{range .Warnings}}note   {{.}}
{{end}}{{range .Summaries}}summary {{.Result}} of {{.Name}} {{.Subject}}
       {{.Digest}}
{{end}}{{if .OK}}verified {{.Root}}{{with .Summary}} by the summary of {{.TimeVerified.Format "2006-01-02T15:04:05Z07:00"}}{{end}}
{{end}}`, r)
}
