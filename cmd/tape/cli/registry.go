// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/internal/serve"
)

func (a *program) registryCommand() *cobra.Command {
	return group("registry", "Run a registry for experiments and tests",
		"  tape registry serve --addr 127.0.0.1:5000",
		a.registryServeCommand())
}

func (a *program) registryServeCommand() *cobra.Command {
	var addr, data string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a registry until interrupted",
		Example: `  tape registry serve
  tape registry serve --addr 127.0.0.1:5000 --data ./registry`,
		Long: `Serves a registry (CNCF distribution, without TLS or passwords) until
interrupted. Without --data, its contents are in a temporary folder that is
removed at the end.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve.Serve(cmd.Context(), serve.Options{Addr: addr, Data: data, Ready: func(at string) {
				fmt.Fprintf(a.Out, "serving a registry at %s\n", at)
			}})
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:5000", "`ADDRESS` to listen on; port 0 selects a free one")
	cmd.Flags().StringVar(&data, "data", "", "`DIR` of the contents (default: a temporary one)")
	return cmd
}
