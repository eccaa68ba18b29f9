// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/taped-dev/tape/cmd/tape/cli"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// drain is how long a worker may take to finish work in progress after a signal; other workers
// take the rest.
const drain = 25 * time.Second

func workerCommand(p *cli.Program) *cobra.Command {
	var (
		flags       cli.EngineFlags
		concurrency int
		options     func(context.Context, []string) (fleet.Options, error)
	)
	cmd := &cobra.Command{
		Use:     "worker [FILE]",
		Short:   "Package the applications that Temporal assigns to this machine",
		Example: "  tape-fleet-temporal worker --temporal-address temporal.example.com:7233 --store /shared/tape",
		Long: `FILE is the fleet file, in a checkout of the commit that plans are made from.
The worker reads plans from the cache of the fleet or, without one, from
--store, which all workers must then share. It accepts only plans that were made
by its own version.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if concurrency < 1 {
				return cli.Usage("--concurrency is %d: want 1 or more", concurrency)
			}
			log, err := p.Log()
			if err != nil {
				return err
			}
			reach, err := clientOptions(flags, nil)
			if err != nil {
				return err
			}
			o, err := options(ctx, args)
			if err != nil {
				return err
			}
			o.Progress = nil
			name := flags.TaskQueue
			if name == "" {
				id, err := fleet.Identify(ctx, o)
				if err != nil {
					return err
				}
				name = queue(id, o.Version)
			}
			c, err := connect(ctx, reach, log, true)
			if err != nil {
				return err
			}
			defer c.Close()
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			w := newWork(o, c, name)
			w.name = fmt.Sprintf("%d@%s", os.Getpid(), host)
			fmt.Fprintf(p.Note(), "working on %s, %s at once\n", name, count.Of(concurrency, "application"))
			return w.serve(ctx, c, name, concurrency, drain)
		},
	}
	options = p.FleetFlags(cmd)
	f := cmd.Flags()
	f.IntVar(&concurrency, "concurrency", 24, "`N` applications at once")
	flags.Add(f)
	return cmd
}

// newWork is the work of plans of a fleet.
func newWork(o fleet.Options, c client.Client, queue string) *work {
	w := &work{limit: o.Registry.Limit, batch: batch, silence: silence}
	o.Heard = w.hear
	w.open = func(ctx context.Context, t task) (runner, error) {
		return fleet.NewRunner(ctx, fleet.PackageOptions{Options: o, Plan: t.Plan, Again: t.Again, Force: t.Force})
	}
	w.count = func(ctx context.Context, plan digest.Digest) (int, error) {
		names, err := sharers(ctx, c, queue, plan)
		return len(names), err
	}
	return w
}
