// SPDX-License-Identifier: Apache-2.0

// Package durable has the applications of a fleet packaged by workers that Temporal gives
// the work to: a worker that is killed, frozen or cut off loses nothing, as another one
// takes what it had.
//
// A run is one workflow, whose id is the digest of the plan, so that who submits a plan
// twice follows the run that there is. An application is one activity. What is wrong with
// an application is its result, which no other worker would better; an error, which
// Temporal tries again, is a machine or a registry that could not be reached. Temporal is
// given the plan's digest, names of applications, limits and outcomes. Everything else the
// worker has: the repository, and what opens registries.
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
	// workflowName and packageName are what Temporal knows of this program.
	workflowName = "tape-fleet"
	packageName  = "package"

	// window is how many applications workers are given at once, at most.
	window = 200
	// batch is how many a run of the workflow does. Its history has 3 events for each, of
	// which Temporal allows 51,200.
	batch = 1000
	// recount is how often a worker counts those that it shares the limits with.
	recount = 2 * time.Second

	// attempts is how often an application is given to a worker.
	attempts = 3
	// silence is how long a worker that counts as alive says nothing.
	silence = 5 * time.Second
	// beat is how often a worker says what it does.
	beat = time.Second
	// longest is how long an application may take.
	longest = time.Hour
)

// run is what the workflow is given.
type run struct {
	Job fleet.Job `json:"job"`
	// Failed counts applications of the batches before.
	Failed int `json:"failed,omitempty"`
}

// task is what a worker is given.
type task struct {
	Plan digest.Digest `json:"plan"`
	Name string        `json:"name"`
	// Limits are those of the job, which all workers share.
	Limits map[string]float64 `json:"limits,omitempty"`
	Again  bool               `json:"again,omitempty"`
	Force  bool               `json:"force,omitempty"`
}

// packageFleet is the workflow. It returns how many applications failed; a follower reads
// the outcomes in its history.
func (w *work) packageFleet(ctx workflow.Context, r run) (int, error) {
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
		t := task{Plan: r.Job.Plan, Name: name, Limits: r.Job.Limits, Again: r.Job.Again, Force: r.Job.Force}
		running.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer running.Done()
			defer places.Release(1)
			var o fleet.Outcome
			err := workflow.ExecuteActivity(w.packageOptions(ctx), packageName, t).Get(ctx, &o)
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
	if rest := r.Job.Names[len(names):]; len(rest) > 0 && !stop {
		r.Job.Names = slices.Clone(rest)
		return 0, workflow.NewContinueAsNewError(ctx, workflowName, r)
	}
	return r.Failed, nil
}

func (w *work) packageOptions(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: longest, HeartbeatTimeout: w.silence, WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 5, MaximumAttempts: attempts},
	})
}

// outcomeOf is the outcome of an application whose activity ended with an error; the zero
// outcome is of one that was canceled.
func outcomeOf(name string, err error) fleet.Outcome {
	if temporal.IsCanceledError(err) {
		return fleet.Outcome{}
	}
	var o fleet.Outcome
	if failed, ok := errors.AsType[*temporal.ApplicationError](err); ok && failed.HasDetails() && failed.Details(&o) == nil && o.State == fleet.Failed {
		return o
	}
	text := err.Error()
	if late, ok := errors.AsType[*temporal.TimeoutError](err); ok {
		text = fmt.Sprintf("%d workers started it, and none reported a result (%s timeout)", attempts, strings.ToLower(late.TimeoutType().String()))
	} else if failed, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		text = failed.Message()
	}
	return fleet.Outcome{Name: name, State: fleet.Failed, Tags: []string{}, Warnings: []string{}, Error: &fleet.Failure{Message: text}}
}
