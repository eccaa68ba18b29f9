// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/taped-dev/tape/stages/app"
)

// passwordVariable is cosign's: the password of an encrypted key.
const passwordVariable = "COSIGN_PASSWORD"

func (a *program) signCommand() *cobra.Command {
	var (
		o           app.SignOptions
		key, prefix string
		list        string
	)
	cmd := &cobra.Command{
		Use:   "sign REF --key FILE",
		Short: "Sign an application",
		Example: `  tape sign --generate-key release          # writes release.key and release.pub
  tape sign registry.example.com/team/podinfo:v1.2.3 --key release.key
  tape verify registry.example.com/team/podinfo:v1.2.3 --key release.pub`,
		Long: `Signs root and content, and attaches the signatures to them in cosign's shape.
The password of an encrypted key is asked for, or taken from COSIGN_PASSWORD.
Signing again with the same key changes nothing.`,
		Args: argsRange(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if prefix != "" {
				if key != "" || len(args) > 0 || o.BundleOut != "" {
					return usagef("--generate-key stands alone: make the keys first, then sign with them")
				}
				return a.generateKey(cmd.Context(), prefix)
			}
			var err error
			switch {
			case list != "" && (len(args) > 0 || o.BundleOut != ""):
				return usagef("--from-file says what to sign, and goes without REF and --bundle-out")
			case list == "-" && key == app.Stdin:
				return usagef("--from-file - and --key - both want stdin")
			case list == "":
				if o.Ref, err = oneReference("", args); err != nil {
					return err
				}
			}
			if o.Signer, err = a.signer(cmd.Context(), key); err != nil {
				return err
			}
			env, err := a.environment(cmd.Context())
			if err != nil {
				return err
			}
			o.Environment = env
			if list != "" {
				lines, err := a.readList(list, 1, 1, "REF")
				if err != nil {
					return err
				}
				return a.each(cmd.Context(), lines, func(ctx context.Context, words []string) (any, error) {
					one := o
					one.Ref = words[0]
					return result(app.Sign(ctx, one))
				}, func(w io.Writer, result any) error { return signText(w, result.(*app.SignResult)) })
			}
			result, err := app.Sign(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.print(result, func(w io.Writer) error { return signText(w, result) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "private key: `FILE` (PEM or cosign.key), env://NAME, - for stdin, or NAME://REF of a KMS")
	f.StringVar(&list, "from-file", "", "sign what `LIST` names, REF a line; - is stdin")
	f.StringVar(&o.BundleOut, "bundle-out", "", "`FILE` for the bundle that signs the root, for verifying without a registry")
	f.StringVar(&prefix, "generate-key", "", "make a key pair: `PREFIX`.key and PREFIX.pub")
	return cmd
}

func signText(w io.Writer, r *app.SignResult) error {
	p := &printer{w: w}
	for _, s := range r.Signatures {
		did := "signed"
		if s.Existing {
			did = "signed by this key already"
		}
		p.f("%-9s %s %s\n", s.Name, s.Subject, did)
	}
	if r.Bundle != "" {
		p.f("%-9s %s\n", "bundle", r.Bundle)
	}
	return p.err
}

func (a *program) generateKey(ctx context.Context, prefix string) error {
	pair, err := app.GenerateKey(ctx, app.KeyOptions{Prefix: prefix, Password: a.password})
	if err != nil {
		return err
	}
	return a.print(pair, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "private key %s (keep it to yourself)\npublic key  %s\n", pair.Private, pair.Public)
		return err
	})
}

// signer opens the key that signs.
func (a *program) signer(ctx context.Context, key string) (*app.Key, error) {
	if key == "" {
		return nil, usagef("signing needs a key: give --key FILE, or make a pair with 'tape sign --generate-key PREFIX'")
	}
	return app.LoadSigner(ctx, key, a.password)
}

// password gives the password of a key: the environment's, or what a person
// types.
func (a *program) password(confirm bool) ([]byte, error) {
	if value, ok := os.LookupEnv(passwordVariable); ok {
		return []byte(value), nil
	}
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		if confirm {
			return nil, errors.New("the key needs a password, and there is no terminal to ask at: set " + passwordVariable + " (empty: the key is not encrypted)")
		}
		return nil, errors.New("it is encrypted, and there is no terminal to ask at: set " + passwordVariable)
	}
	first, err := a.ask(in, "password of the key: ")
	if err != nil || !confirm {
		return first, err
	}
	second, err := a.ask(in, "once more: ")
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("these are two different passwords")
	}
	return first, err
}

func (a *program) ask(in *os.File, prompt string) ([]byte, error) {
	fmt.Fprint(a.Err, prompt)
	answer, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(a.Err)
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	return answer, nil
}
