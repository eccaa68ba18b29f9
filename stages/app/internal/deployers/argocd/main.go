// SPDX-License-Identifier: Apache-2.0

// Command argocd contains the processes of Argo CD that read and deploy applications, and the
// Redis of its tests. It leaves out the API server, the user interface, notifications and the
// command line, which deploying does not need.
package main

import (
	"os"

	"github.com/alicebob/miniredis/v2"
	"github.com/spf13/cobra"

	application "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	applicationset "github.com/argoproj/argo-cd/v3/cmd/argocd-applicationset-controller/commands"
	repository "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
)

func main() {
	redis := &cobra.Command{Use: "redis ADDRESS", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		server := miniredis.NewMiniRedis()
		if err := server.StartAddr(args[0]); err != nil {
			return err
		}
		<-cmd.Context().Done()
		return nil
	}}
	root := &cobra.Command{Use: "argocd", SilenceUsage: true}
	root.AddCommand(repository.NewCommand(), application.NewCommand(), applicationset.NewCommand(), redis)
	if root.Execute() != nil {
		os.Exit(1)
	}
}
