// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/taped-dev/tape/cmd/tape/cli"
	"github.com/taped-dev/tape/engine/pipeline"
)

// Main runs the command tape-fleet-temporal and exits. The kinds are stages in addition to tape's
// own.
func Main(kinds ...pipeline.Kind) { companion(kinds...).Main() }

func companion(kinds ...pipeline.Kind) cli.Companion {
	return cli.Companion{
		Name: "tape-fleet-temporal", Short: "Package a fleet with Temporal",
		Example: "  tape-fleet-temporal worker --temporal-address temporal.example.com:7233\n  tape fleet package --engine temporal --temporal-address temporal.example.com:7233",
		Long: `Start a worker on each machine; 'tape fleet package --engine temporal' gives
them work. tape starts the commands in fleet.`,
		Grace:  drain + 2*time.Second,
		Kinds:  kinds,
		Engine: newDispatcher,
		Commands: func(p *cli.Program) []*cobra.Command {
			return []*cobra.Command{workerCommand(p)}
		},
	}
}
