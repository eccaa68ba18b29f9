// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	common "go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	history "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/taped-dev/tape/stages/app/fleet"
)

const (
	// pace is the interval for reading a history. It is long enough for each read to return many
	// events.
	pace = 300 * time.Millisecond
	// absence is how long Temporal may be unreachable.
	absence = 5 * time.Minute
)

// errCanceled reports that the run was canceled.
var errCanceled = errors.New("the run was canceled")

// reader reads outcomes from the history of runs.
type reader struct {
	options client.Options
	ended   func(fleet.Outcome)

	names  map[int64]string // names of applications, by the event that scheduled them
	next   string           // the run that continues this one
	closed bool
	err    error // the error that the run ended with
}

// follow reads the history of a run, and of the runs that continue it, until the last one has
// ended.
func follow(ctx context.Context, c client.Client, o client.Options, workflow, first string, ended func(fleet.Outcome)) error {
	for at := first; ; {
		r := &reader{options: o, ended: ended, names: map[int64]string{}}
		if err := r.follow(ctx, c, workflow, at); err != nil {
			return err
		}
		if r.next == "" {
			return r.err
		}
		at = r.next
	}
}

func (r *reader) follow(ctx context.Context, c client.Client, workflow, id string) error {
	request := &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace: cmp.Or(r.options.Namespace, client.DefaultNamespace), Execution: &common.WorkflowExecution{WorkflowId: workflow, RunId: id}, WaitNewEvent: true,
	}
	for answered := time.Now(); ; {
		page, err := c.WorkflowService().GetWorkflowExecutionHistory(ctx, request)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		switch {
		case err == nil:
			answered = time.Now()
			for _, e := range page.GetHistory().GetEvents() {
				if err := r.read(e); err != nil {
					return err
				}
			}
			request.NextPageToken = page.GetNextPageToken()
			if r.closed || len(request.NextPageToken) == 0 {
				return nil
			}
		case !away(err) || time.Since(answered) > absence:
			return fmt.Errorf("follow the run: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pace):
		}
	}
}

// away reports whether an error is temporary.
func away(err error) bool {
	switch serviceerror.ToStatus(err).Code().String() {
	case "Unavailable", "DeadlineExceeded", "Aborted", "Internal", "ResourceExhausted", "Unknown", "Canceled":
		return true
	}
	return false
}

// read reads one event.
func (r *reader) read(e *history.HistoryEvent) error {
	convert := r.options.FailureConverter.FailureToError
	switch e.GetEventType() {
	case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		a := e.GetActivityTaskScheduledEventAttributes()
		if a.GetActivityType().GetName() != packageName {
			return nil
		}
		var t task
		if err := r.options.DataConverter.FromPayloads(a.GetInput(), &t); err != nil {
			return fmt.Errorf("read the run: %w", err)
		}
		r.names[e.GetEventId()] = t.Name
	case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		a := e.GetActivityTaskCompletedEventAttributes()
		name, ok := r.names[a.GetScheduledEventId()]
		if !ok {
			return nil
		}
		var o fleet.Outcome
		if err := r.options.DataConverter.FromPayloads(a.GetResult(), &o); err != nil {
			return fmt.Errorf("read the run: %w", err)
		}
		o.Name = name
		r.ended(o)
	case enums.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		a := e.GetActivityTaskFailedEventAttributes()
		r.failed(a.GetScheduledEventId(), convert(a.GetFailure()))
	case enums.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		a := e.GetActivityTaskTimedOutEventAttributes()
		r.failed(a.GetScheduledEventId(), convert(a.GetFailure()))
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		r.closed = true
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		r.closed, r.next = true, e.GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId()
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		r.closed, r.err = true, errCanceled
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
		r.closed, r.err = true, errors.New("the run was terminated")
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		r.closed, r.err = true, errors.New("the run took longer than the namespace allows")
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		r.closed, r.err = true, fmt.Errorf("the run failed: %s", textOf(convert(e.GetWorkflowExecutionFailedEventAttributes().GetFailure())))
	}
	return nil
}

func (r *reader) failed(scheduled int64, err error) {
	if name, ok := r.names[scheduled]; ok {
		if o := outcomeOf(name, err); o.State != "" {
			r.ended(o)
		}
	}
}
