// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/stages"
)

func (a *app) verifyCommand() *cobra.Command {
	var o stages.VerifyOptions
	cmd := &cobra.Command{
		Use:   "verify REF --key FILE",
		Short: "Verify who signed an application, and that it is whole",
		Example: `  tape verify registry.example.com/team/podinfo:v1.2.3 --key release.pub
  tape verify archive:podinfo.tar --key release.pub --offline
  tape verify registry.example.com/team/podinfo:v1.2.3 --key release.pub \
    --source https://github.com/acme/podinfo --commit 8c4f…`,
		Long: `Walks the whole chain, with nothing but the artifact and the key: the signature
names the root, the root every image and signature in it, the statements how
each byte of the manifests came about. Prints every link; exits with 3 if one
does not hold. An image that a pod runs and that is not in the artifact is a
link that does not hold, unless --allow-outside is given.`,
		Args: argsRange(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Ref, err = oneReference("", args); err != nil {
				return err
			}
			if o.Key == "" {
				return usagef("verifying needs the public key of who signed: give --key FILE")
			}
			client, err := a.registry()
			if err != nil {
				return err
			}
			o.Environment = stages.Environment{Registry: client}
			result, err := stages.Verify(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := a.print(result, func(w io.Writer) error { return verifyText(w, result) }); err != nil {
				return err
			}
			if i := slices.IndexFunc(result.Links, func(l stages.VerifiedLink) bool { return !l.OK }); i >= 0 {
				link := result.Links[i]
				hint := ""
				if link.Outside {
					hint = " (--allow-outside lets pods run such images)"
				}
				return &statusError{exitPolicy, fmt.Errorf("%s is not verified: %s: %s%s", o.Ref, link.Name, link.Reason, hint)}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Key, "key", "", "public key `FILE` of who signed the application")
	f.StringVar(&o.Bundle, "bundle", "", "`FILE` that signs the root, instead of what is attached to it")
	f.BoolVar(&o.Offline, "offline", false, "ask no registry: REF is oci:DIR or archive:FILE")
	f.BoolVar(&o.Deep, "deep", false, "read every blob of a repository instead of asking whether it is there")
	f.StringVar(&o.Source, "source", "", "`URI` of the repository that the sources must be of")
	f.StringVar(&o.Commit, "commit", "", "`COMMIT` that the sources must be at, without modifications")
	f.BoolVar(&o.AllowOutside, "allow-outside", false, "let pods run images that are not in the artifact (each is listed)")
	f.StringVar(&o.ImageKey, "image-key", "", "public key `FILE` that must have signed every image where it was published")
	return cmd
}

// verifyText prints a line a link.
func verifyText(w io.Writer, r *stages.VerifyResult) error {
	p := &printer{w: w}
	for _, link := range r.Links {
		state := "ok    "
		if !link.OK {
			state = "FAILS "
		}
		p.f("%s %s %s\n", state, link.Name, link.Subject)
		if link.Reason != "" {
			p.f("       %s\n", link.Reason)
		}
	}
	for _, warning := range r.Warnings {
		p.f("note   %s\n", warning)
	}
	if r.OK {
		p.f("verified %s\n", r.Root)
	}
	return p.err
}
