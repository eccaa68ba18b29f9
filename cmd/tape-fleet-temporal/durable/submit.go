// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/taped-dev/tape/cmd/tape/cli"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// submitter has the commands that tape starts.
type submitter struct{ *cli.Program }

// command returns a command that reads a job from stdin.
func (s submitter) command(name, short string, do func(context.Context, client.Client, client.Options, fleet.Job, string) error) *cobra.Command {
	var (
		flags     cli.EngineFlags
		queueName string
	)
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		Example: "  tape fleet package --engine temporal    # starts it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var job fleet.Job
			if err := json.NewDecoder(cmd.InOrStdin()).Decode(&job); err != nil {
				return cli.Usage("%s takes a job as JSON on stdin, which tape writes: %w", name, err)
			}
			if err := errors.Join(job.Plan.Validate(), job.Fleet.Validate()); err != nil {
				return cli.Usage("the job on stdin: %w", err)
			}
			if queueName == "" {
				queueName = queue(job.Fleet, job.Version)
			}
			log, err := s.Log()
			if err != nil {
				return err
			}
			reach, err := clientOptions(flags, nil)
			if err != nil {
				return err
			}
			c, err := connect(cmd.Context(), reach, log, false)
			if err != nil {
				return err
			}
			defer c.Close()
			return do(cmd.Context(), c, reach, job, queueName)
		},
	}
	cmd.Flags().StringVar(&queueName, "task-queue", "", "`NAME` of Temporal's queue (default: one of this fleet and this version)")
	flags.Add(cmd.Flags())
	return cmd
}

// mostNames bounds the bytes of names in a job: Temporal accepts 2 MB in one payload, which
// also contains the rest of the job.
const mostNames = 1 << 20

func (s submitter) submit(ctx context.Context, c client.Client, o client.Options, job fleet.Job, queue string) error {
	if data, err := json.Marshal(job.Names); err != nil || len(data) > mostNames {
		return fmt.Errorf("the names of %d applications are %d bytes, and Temporal takes %d in one run: split the fleet", len(job.Names), len(data), mostNames)
	}
	workers, err := pollers(ctx, c, queue)
	if err != nil {
		return err
	}
	if len(workers) == 0 {
		fmt.Fprintf(s.Note(), "no worker waits for work on %s yet: start one with 'tape-fleet-temporal worker', of version %s, in a checkout of the repository\n", queue, job.Version)
	}
	started, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: job.Plan.String(), TaskQueue: queue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, workflowName, run{Job: job})
	if err != nil {
		return fmt.Errorf("submit the plan: %w", err)
	}
	described, err := c.DescribeWorkflow(ctx, job.Plan.String(), started.GetRunID())
	if err != nil {
		return fmt.Errorf("submit the plan: %w", err)
	}
	lines := json.NewEncoder(s.Out)
	var broken error
	err = follow(ctx, c, o, job.Plan.String(), described.RawResponse.GetWorkflowExecutionInfo().GetFirstRunId(), func(o fleet.Outcome) {
		if err := lines.Encode(o); err != nil {
			broken = err
		}
	})
	return errors.Join(err, broken)
}
