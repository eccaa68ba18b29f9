// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/app"
)

func (a *program) loginCommand() *cobra.Command {
	var (
		user  string
		stdin bool
	)
	cmd := &cobra.Command{
		Use:   "login REGISTRY",
		Short: "Log in to a registry",
		Example: `  tape login registry.example.com
  echo "$TOKEN" | tape login ghcr.io --username me --password-stdin`,
		Long: `Checks the user and the password with the registry, and stores them where docker
does: with the credential helper in its configuration, or in the
configuration itself. Other tools that read docker's configuration are logged in
as well.`,
		Args: argsRange(1, 1),
		RunE: a.in(func(ctx context.Context, env app.Environment, args []string) error {
			secret, err := a.loginSecret(&user, stdin)
			if err != nil {
				return err
			}
			account, err := env.Registry.Login(ctx, args[0], user, secret)
			if err != nil {
				return err
			}
			result := struct {
				Registry string `json:"registry"`
				User     string `json:"user"`
				Place    string `json:"place"`
				Checked  bool   `json:"checked"`
			}{account.Registry, user, account.Place, account.Checked}
			return a.print(result, func(p *printer) {
				p.f("logged in to %s as %s, stored in %s\n", account.Registry, user, account.Place)
				if !account.Checked {
					p.f("%s did not ask for credentials, so they were not checked\n", account.Registry)
				}
			})
		}),
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "`NAME` of the user (default: ask)")
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from stdin")
	return cmd
}

func (a *program) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "logout REGISTRY",
		Short:   "Log out of a registry",
		Example: "  tape logout registry.example.com",
		Long: `Removes the credentials of the registry from docker's configuration, or from the
credential helper that it names. Files of podman are not changed.`,
		Args: argsRange(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			account, err := registry.Logout(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			result := struct {
				Registry string `json:"registry"`
				Place    string `json:"place"`
				Removed  bool   `json:"removed"`
			}{account.Registry, account.Place, account.Checked}
			return a.print(result, func(p *printer) {
				text := "logged out of %s, removed from %s\n"
				if !account.Checked {
					text = "not logged in to %s: no credentials in %s\n"
				}
				p.f(text, account.Registry, account.Place)
			})
		},
	}
}

// maxPassword limits the password on stdin, in bytes.
const maxPassword = 1 << 20

// loginSecret reads the password, and the user if no flag names one.
func (a *program) loginSecret(user *string, stdin bool) (string, error) {
	if stdin {
		if *user == "" {
			return "", usagef("--password-stdin needs --username")
		}
		data, err := io.ReadAll(io.LimitReader(a.In, maxPassword+1))
		if err == nil && len(data) > maxPassword {
			err = fmt.Errorf("it has more than %d bytes", maxPassword)
		}
		if err != nil {
			return "", fmt.Errorf("read the password from stdin: %w", err)
		}
		return strings.TrimRight(string(data), "\r\n"), nil
	}
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", usagef("there is no terminal to ask for the password at: give --username NAME --password-stdin")
	}
	if *user == "" {
		fmt.Fprint(a.Err, "user: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("read the user: %w", err)
		}
		*user = strings.TrimSpace(line)
	}
	secret, err := a.ask(in, "password: ")
	return string(secret), err
}
