// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	common "go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/taped-dev/tape/stages/app/fleet"
)

func (s submitter) status(ctx context.Context, c client.Client, o client.Options, job fleet.Job, queue string) error {
	r := fleet.Run{State: "none", Running: []fleet.Running{}}
	var err error
	if r.Workers, err = pollers(ctx, c, queue); err != nil {
		return err
	}
	described, err := c.DescribeWorkflow(ctx, job.Plan.String(), "")
	if _, missing := errors.AsType[*serviceerror.NotFound](err); !missing {
		if err != nil {
			return fmt.Errorf("ask for the run: %w", err)
		}
		r.State = states[described.RawResponse.GetWorkflowExecutionInfo().GetStatus()]
		for _, p := range described.RawResponse.GetPendingActivities() {
			if p.GetActivityType().GetName() != packageName || p.GetState() == enums.PENDING_ACTIVITY_STATE_SCHEDULED {
				continue
			}
			one := fleet.Running{Worker: p.GetLastWorkerIdentity(), Attempt: int(p.GetAttempt())}
			if beat := p.GetHeartbeatDetails(); beat != nil {
				var last doing
				if err := o.DataConverter.FromPayloads(&common.Payloads{Payloads: beat.GetPayloads()}, &last); err != nil {
					return fmt.Errorf("read the run: %w", err)
				}
				one.Name, one.Doing = last.Name, last.Last
			}
			r.Running = append(r.Running, one)
		}
	}
	return json.NewEncoder(s.Out).Encode(r)
}

// states are texts for the states of a run.
var states = map[enums.WorkflowExecutionStatus]string{
	enums.WORKFLOW_EXECUTION_STATUS_RUNNING:          "running",
	enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:        "completed",
	enums.WORKFLOW_EXECUTION_STATUS_CANCELED:         "canceled",
	enums.WORKFLOW_EXECUTION_STATUS_FAILED:           "failed",
	enums.WORKFLOW_EXECUTION_STATUS_TERMINATED:       "terminated",
	enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:        "timed out",
	enums.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW: "running",
}

func (s submitter) cancel(ctx context.Context, c client.Client, _ client.Options, job fleet.Job, _ string) error {
	// The server accepts a cancellation of a run that has ended, too.
	described, err := c.DescribeWorkflow(ctx, job.Plan.String(), "")
	if _, missing := errors.AsType[*serviceerror.NotFound](err); missing || err == nil && described.RawResponse.GetWorkflowExecutionInfo().GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return fmt.Errorf("no run of plan %s is active", job.Plan)
	}
	if err == nil {
		err = c.CancelWorkflow(ctx, job.Plan.String(), "")
	}
	if err != nil {
		return fmt.Errorf("end the run: %w", err)
	}
	_, err = io.WriteString(s.Out, "{}\n")
	return err
}
