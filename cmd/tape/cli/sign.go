// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/taped-dev/tape/stages/app"
)

// passwordVariable is the variable that cosign uses for the password of an encrypted key.
const passwordVariable = "COSIGN_PASSWORD"

func (a *program) signCommand() *cobra.Command {
	var (
		o            app.SignOptions
		flags        signFlags
		prefix, list string
	)
	cmd := &cobra.Command{
		Use:   "sign REF --key FILE | --keyless",
		Short: "Sign an application",
		Example: `  tape sign --generate-key release          # writes release.key and release.pub
  tape sign registry.example.com/team/podinfo:v1.2.3 --key release.key
  tape verify registry.example.com/team/podinfo:v1.2.3 --key release.pub
  tape sign registry.example.com/team/podinfo:v1.2.3 --keyless \
    --signing-config signing_config.json --trusted-root trusted_root.json`,
		Long: `Signs root and content, and attaches the signatures to them in cosign's format.
The password of an encrypted key is read from COSIGN_PASSWORD or the terminal.
Signing again with the same key changes nothing. With --keyless the signer's
identity is in a certificate of Sigstore, and becomes public if the transparency
log is public.`,
		Args: argsRange(0, 1),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) (err error) {
			if prefix != "" {
				if flags != (signFlags{}) || len(args) > 0 || o.BundleOut != "" {
					return usagef("--generate-key cannot be combined with anything else: generate the keys first, then sign with them")
				}
				return printed(a, func(p *printer, pair *app.KeyResult) {
					p.f("private key %s (keep it to yourself)\npublic key  %s\n", pair.Private, pair.Public)
				})(app.GenerateKey(ctx, app.KeyOptions{Prefix: prefix, Password: a.password}))
			}
			switch {
			case list != "" && (len(args) > 0 || o.BundleOut != ""):
				return usagef("--from-file lists what to sign: leave out REF and --bundle-out")
			case list == "-" && flags.stdin():
				return usagef("--from-file - cannot be combined with a key or token from stdin")
			case list == "":
				if o.Ref, err = oneReference("", args); err != nil {
					return err
				}
			}
			if err := flags.check(); err != nil {
				return err
			}
			o.Environment = env
			if o.Signer, err = a.signWith(ctx, env, flags); err != nil {
				return err
			}
			if list != "" {
				return each(ctx, a, list, 1, 1, "REF", func(ctx context.Context, words []string) (*app.SignResult, error) {
					one := o
					one.Ref = words[0]
					return app.Sign(ctx, one)
				}, signText)
			}
			return printed(a, signText)(app.Sign(ctx, o))
		}),
	}
	f := cmd.Flags()
	flags.register(f)
	f.StringVar(&list, "from-file", "", "sign what `LIST` names, one REF per line; - is stdin")
	f.StringVar(&o.BundleOut, "bundle-out", "", "`FILE` for the bundle with the signature of the root, to verify without a registry")
	f.StringVar(&prefix, "generate-key", "", "generate a key pair: `PREFIX`.key and PREFIX.pub")
	return cmd
}

// signFlags select the signer.
type signFlags struct {
	key                               string
	keyless, timestamp                bool
	device, browser                   bool
	signingConfig, trustedRoot, token string
}

func (s *signFlags) register(f *pflag.FlagSet) {
	f.StringVar(&s.key, "key", "", "private key to sign with: `FILE`, env://NAME, - for stdin, or NAME://REF of a KMS")
	f.StringVar(&s.trustedRoot, "trusted-root", "", "`FILE` with the certificates of these services, to verify their answers (trusted_root.json)")
	s.registerSigstore(f)
}

// registerSigstore adds the flags that only commands that sign have.
func (s *signFlags) registerSigstore(f *pflag.FlagSet) {
	f.BoolVar(&s.keyless, "keyless", false, "sign with the identity in a token, certified by Sigstore")
	f.BoolVar(&s.timestamp, "timestamp", false, "with --key: add the time from a timestamp authority")
	f.StringVar(&s.signingConfig, "signing-config", "", "`FILE` with the URLs of Sigstore's services (signing_config.json)")
	f.StringVar(&s.token, "identity-token", "", "`FILE` of the identity token, or - for stdin; default: SIGSTORE_ID_TOKEN, GitHub Actions or Kubernetes")
	f.BoolVar(&s.device, "device", false, "with --keyless: log in with a code, in a browser on any machine")
	f.BoolVar(&s.browser, "browser", false, "with --keyless: log in in a browser on this machine")
}

// stdin reports whether a flag reads standard input.
func (s *signFlags) stdin() bool { return s.key == app.Stdin || s.token == app.Stdin }

// check returns an error for flags that cannot be combined.
func (s *signFlags) check() error {
	services := s.signingConfig != "" || s.trustedRoot != ""
	switch {
	case s.key != "" && s.keyless:
		return usagef("--key and --keyless cannot be combined: sign with a key or with an identity")
	case s.key == "" && s.timestamp:
		return usagef("--timestamp requires --key: a keyless signature always has the time")
	case s.key == "" && !s.keyless:
		return usagef("signing needs a key: give --key FILE, make a pair with 'tape sign --generate-key PREFIX', or sign with --keyless")
	case s.token != "" && !s.keyless:
		return usagef("--identity-token requires --keyless")
	case (s.device || s.browser) && !s.keyless:
		return usagef("--device and --browser require --keyless")
	case s.device && s.browser || s.token != "" && (s.device || s.browser):
		return usagef("--device, --browser and --identity-token each provide the identity token: give one")
	case services && !s.keyless && !s.timestamp:
		return usagef("--signing-config and --trusted-root require --keyless or --timestamp")
	case (s.keyless || s.timestamp) && (s.signingConfig == "" || s.trustedRoot == ""):
		return usagef("--keyless and --timestamp need --signing-config FILE, to name the services, and --trusted-root FILE")
	}
	return nil
}

// signWith opens the signer, and prints a note about what becomes public.
func (a *program) signWith(ctx context.Context, env app.Environment, f signFlags) (app.Signer, error) {
	var key *app.Key
	if !f.keyless {
		var err error
		if key, err = a.signer(ctx, f.key); err != nil {
			return nil, err
		}
		if !f.timestamp {
			return key, nil
		}
	}
	sigstore, err := app.OpenSigstore(ctx, app.SigstoreOptions{Environment: env, SigningConfig: f.signingConfig, TrustedRoot: f.trustedRoot})
	if err != nil {
		return nil, err
	}
	if key != nil {
		return sigstore.Timestamped(key), nil
	}
	var signer app.Signer
	if f.device || f.browser {
		signer, err = sigstore.KeylessPerson(app.Person{Device: f.device, Ask: func(ctx context.Context, p app.Prompt) error {
			return askPerson(ctx, a.Err, p, openBrowser)
		}})
	} else {
		signer, err = sigstore.Keyless(f.token)
	}
	if err != nil {
		return nil, err
	}
	a.note("each signature is recorded permanently in %s: its readers see who signed (the identity and issuer of the token), when, and the digest of what", strings.Join(sigstore.Logs(), ", "))
	return signer, nil
}

func signText(p *printer, r *app.SignResult) {
	p.lay(`{{range .Signatures}}{{printf "%-9s" .Name}} {{.Subject}} {{if .Existing}}already signed by this key{{else}}signed{{end}}
{{end}}{{with .Bundle}}bundle    {{.}}
{{end}}`, r)
}

// signer opens the key to sign with.
func (a *program) signer(ctx context.Context, key string) (*app.Key, error) {
	if key == "" {
		return nil, usagef("signing needs a key: give --key FILE, or make a pair with 'tape sign --generate-key PREFIX'")
	}
	return app.LoadSigner(ctx, app.SignerOptions{Name: key, Password: a.password})
}

// password returns the password of a key, from the environment or the terminal.
func (a *program) password(confirm bool) ([]byte, error) {
	if value, ok := os.LookupEnv(passwordVariable); ok {
		return []byte(value), nil
	}
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		if confirm {
			return nil, errors.New("the key needs a password, and there is no terminal to ask for it: set " + passwordVariable + " (empty: the key is not encrypted)")
		}
		return nil, errors.New("it is encrypted, and there is no terminal to ask for it: set " + passwordVariable)
	}
	first, err := a.ask(in, "password of the key: ")
	if err != nil || !confirm {
		return first, err
	}
	second, err := a.ask(in, "password of the key, again: ")
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("the passwords differ")
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
