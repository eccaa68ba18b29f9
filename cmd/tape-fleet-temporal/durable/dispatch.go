// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/opencontainers/go-digest"
	common "go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/taped-dev/tape/cmd/tape/cli"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// dispatcher is the engine: it gives the applications of a plan to workers.
type dispatcher struct {
	options client.Options
	log     *slog.Logger
	note    io.Writer // for people
	queue   string    // "" means the queue of the fleet and the version
}

func newDispatcher(p *cli.Program, flags *cli.EngineFlags) (fleet.Engine, error) {
	log, err := p.Log()
	if err != nil {
		return nil, err
	}
	options, err := clientOptions(*flags, nil)
	if err != nil {
		return nil, err
	}
	return &dispatcher{options: options, log: log, note: p.Note(), queue: flags.TaskQueue}, nil
}

func (d *dispatcher) queueOf(job fleet.Job) string {
	return cmp.Or(d.queue, queue(job.Fleet, job.Version))
}

// maxNames limits the size of the names in a job, in bytes: Temporal accepts 2 MB in one payload, which
// also contains the rest of the job.
const maxNames = 1 << 20

// Package implements [fleet.Engine].
func (d *dispatcher) Package(ctx context.Context, job fleet.Job, ended func(fleet.Outcome)) error {
	if data, err := json.Marshal(job.Names); err != nil || len(data) > maxNames {
		return fmt.Errorf("the names of %d applications are %d bytes, but Temporal takes %d in one run: split the fleet", len(job.Names), len(data), maxNames)
	}
	c, err := connect(ctx, d.options, d.log, false)
	if err != nil {
		return err
	}
	defer c.Close()
	queue := d.queueOf(job)
	workers, err := pollers(ctx, c, queue)
	switch {
	case err != nil:
		return err
	case len(workers) == 0 && len(job.Names) == 0:
		return nil // and no worker signs
	case len(workers) == 0:
		fmt.Fprintf(d.note, "no worker waits for work on %s yet: start one with 'tape-fleet-temporal worker', of version %s, in a checkout of the repository\n", queue, job.Version)
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
	return follow(ctx, c, d.options, job.Plan.String(), described.RawResponse.GetWorkflowExecutionInfo().GetFirstRunId(), ended)
}

// Status implements [fleet.Engine].
func (d *dispatcher) Status(ctx context.Context, job fleet.Job) (*fleet.Run, error) {
	c, err := connect(ctx, d.options, d.log, false)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := &fleet.Run{State: "none", Running: []fleet.Running{}}
	if r.Workers, err = pollers(ctx, c, d.queueOf(job)); err != nil {
		return nil, err
	}
	described, err := describe(ctx, c, job.Plan)
	if err != nil || described == nil {
		return r, err
	}
	r.State = states[described.GetWorkflowExecutionInfo().GetStatus()]
	for _, p := range described.GetPendingActivities() {
		if p.GetActivityType().GetName() != packageName || p.GetState() == enums.PENDING_ACTIVITY_STATE_SCHEDULED {
			continue
		}
		one := fleet.Running{Worker: p.GetLastWorkerIdentity(), Attempt: int(p.GetAttempt())}
		if beat := p.GetHeartbeatDetails(); beat != nil {
			var last doing
			if err := d.options.DataConverter.FromPayloads(&common.Payloads{Payloads: beat.GetPayloads()}, &last); err != nil {
				return nil, fmt.Errorf("read the run: %w", err)
			}
			one.Name, one.Doing = last.Name, last.Last
		}
		r.Running = append(r.Running, one)
	}
	return r, nil
}

// states describes the states of a run.
var states = map[enums.WorkflowExecutionStatus]string{
	enums.WORKFLOW_EXECUTION_STATUS_RUNNING:          "running",
	enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:        "completed",
	enums.WORKFLOW_EXECUTION_STATUS_CANCELED:         "canceled",
	enums.WORKFLOW_EXECUTION_STATUS_FAILED:           "failed",
	enums.WORKFLOW_EXECUTION_STATUS_TERMINATED:       "terminated",
	enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:        "timed out",
	enums.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW: "running",
}

// Cancel implements [fleet.Engine].
func (d *dispatcher) Cancel(ctx context.Context, plan digest.Digest) error {
	c, err := connect(ctx, d.options, d.log, false)
	if err != nil {
		return err
	}
	defer c.Close()
	// The server also accepts a cancellation of a run that has ended.
	described, err := describe(ctx, c, plan)
	if err != nil {
		return err
	}
	if described.GetWorkflowExecutionInfo().GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return fmt.Errorf("no run of plan %s is active", plan)
	}
	if err := c.CancelWorkflow(ctx, plan.String(), ""); err != nil {
		return fmt.Errorf("end the run: %w", err)
	}
	return nil
}

// describe returns what Temporal knows about the latest run of a plan, or nil if there is none.
func describe(ctx context.Context, c client.Client, plan digest.Digest) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	described, err := c.DescribeWorkflow(ctx, plan.String(), "")
	if _, missing := errors.AsType[*serviceerror.NotFound](err); missing {
		return nil, nil //nolint:nilnil // this is not an error
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the run of plan %s: %w", plan, err)
	}
	return described.RawResponse, nil
}
