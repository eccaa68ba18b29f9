// SPDX-License-Identifier: Apache-2.0

// Package durable packages the applications of a fleet with workers that get their work from
// Temporal: if a worker is killed, frozen or cut off, another one takes over.
//
// A run is one workflow, whose id is the digest of the plan, so that submitting a plan twice
// follows the existing run. An application is one activity. A broken application is a result,
// because another worker would fail in the same way; an error, which Temporal retries, means
// that a machine or a registry could not be reached. Temporal only gets the plan's digest,
// names of applications, limits and outcomes. The worker has everything else: the repository,
// the credentials of registries, and the key. So only a worker can find the applications that
// were packaged before and have no signature: the run asks one when all others are packaged.
package durable

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/taped-dev/tape/stages/app/fleet"
)

const (
	// workflowName, packageName and unsignedName identify the workflow and the activities in
	// Temporal.
	workflowName = "tape-fleet"
	packageName  = "package"
	unsignedName = "unsigned"

	// window is the maximum number of applications that are assigned to workers at once.
	window = 200
	// batch is the number of applications in a run of the workflow. Its history has 3 events for
	// each, and Temporal allows 51,200.
	batch = 1000
	// recount is the interval in which a worker counts the workers that share the limits.
	recount = 2 * time.Second

	// attempts is how often an application is assigned to a worker.
	attempts = 3
	// silence is the time without heartbeats after which a worker counts as lost.
	silence = 5 * time.Second
	// beat is the interval of heartbeats.
	beat = time.Second
	// longest limits the time for an application.
	longest = time.Hour
)

// run is the input of the workflow.
type run struct {
	Job fleet.Job `json:"job"`
	// Failed counts the failed applications of earlier batches.
	Failed int `json:"failed,omitempty"`
}

// task is the input of an activity.
type task struct {
	Plan digest.Digest `json:"plan"`
	Name string        `json:"name,omitempty"`
	// Limits are those of the job, which all workers share.
	Limits map[string]float64 `json:"limits,omitempty"`
	Again  bool               `json:"again,omitempty"`
	Force  bool               `json:"force,omitempty"`
}

// packageFleet is the workflow. It returns the number of failed applications; followers read
// the outcomes from its history.
func (w *work) packageFleet(ctx workflow.Context, r run) (int, error) {
	task := task{Plan: r.Job.Plan, Limits: r.Job.Limits, Again: r.Job.Again, Force: r.Job.Force}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: longest, HeartbeatTimeout: w.silence, WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 5, MaximumAttempts: attempts},
	})
	if len(r.Job.Names) == 0 && r.Job.Unchanged > 0 {
		r.Job.Unchanged = 0
		if err := workflow.ExecuteActivity(ctx, unsignedName, task).Get(ctx, &r.Job.Names); temporal.IsCanceledError(err) {
			return r.Failed, err
		} else if err != nil {
			return r.Failed, temporal.NewApplicationError("find the applications that are not signed: "+textOf(err), unavailable)
		}
	}
	names := r.Job.Names[:min(w.batch, len(r.Job.Names))]
	var (
		places  = workflow.NewSemaphore(ctx, window)
		running = workflow.NewWaitGroup(ctx)
		stop    bool
	)
	for _, name := range names {
		if places.Acquire(ctx, 1) != nil || stop {
			break
		}
		one := task
		one.Name = name
		running.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer running.Done()
			defer places.Release(1)
			var o fleet.Outcome
			err := workflow.ExecuteActivity(ctx, packageName, one).Get(ctx, &o)
			if err != nil && !temporal.IsCanceledError(err) || o.State == fleet.Failed {
				r.Failed++
				stop = stop || r.Job.FailFast
			}
		})
	}
	running.Wait(ctx)
	if err := ctx.Err(); err != nil {
		return r.Failed, err
	}
	if rest := r.Job.Names[len(names):]; len(rest)+r.Job.Unchanged > 0 && !stop {
		r.Job.Names = slices.Clone(rest)
		return 0, workflow.NewContinueAsNewError(ctx, workflowName, r)
	}
	return r.Failed, nil
}

// outcomeOf returns the outcome of an application whose activity ended with an error, or the zero
// outcome if it was canceled.
func outcomeOf(name string, err error) fleet.Outcome {
	if temporal.IsCanceledError(err) {
		return fleet.Outcome{}
	}
	var o fleet.Outcome
	if failed, ok := errors.AsType[*temporal.ApplicationError](err); ok && failed.HasDetails() && failed.Details(&o) == nil && o.State == fleet.Failed {
		return o
	}
	return fleet.Outcome{Name: name, State: fleet.Failed, Tags: []string{}, Warnings: []string{}, Error: &fleet.Failure{Message: textOf(err)}}
}

// textOf returns the text of an error from Temporal, without what it adds.
func textOf(err error) string {
	if late, ok := errors.AsType[*temporal.TimeoutError](err); ok {
		return fmt.Sprintf("%d workers started it, and none reported a result (%s timeout)", attempts, strings.ToLower(late.TimeoutType().String()))
	}
	if failed, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return failed.Message()
	}
	return err.Error()
}
