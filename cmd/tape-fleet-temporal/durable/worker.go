// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// runner packages the applications of a plan. [fleet.Runner] does.
type runner interface {
	Do(ctx context.Context, name string) (fleet.Outcome, error)
}

// work is what a worker does for Temporal.
type work struct {
	// name of this worker.
	name string
	// open makes the runner of a plan.
	open func(ctx context.Context, t task) (runner, error)
	// limit sets the worker's share of the limits.
	limit func(registry.Limits)
	// count counts the workers that share the limits of a plan's run.
	count func(ctx context.Context, plan digest.Digest) (int, error)
	// batch is how many applications a run of the workflow does.
	batch int
	// silence is after how much of it a worker counts as gone.
	silence time.Duration
	// saying is what was heard last of each application.
	saying doings

	mu      sync.Mutex
	runners []opened // the one that was used last is the last

	counting sync.Mutex
	workers  int // when they were counted last; 0 before
	counted  time.Time
}

// opened is a runner that is kept: it knows the plan and has interpreters that are warm.
type opened struct {
	plan         digest.Digest
	again, force bool
	runner       runner
}

// keptRunners is how many plans a worker goes between without reading them anew.
const keptRunners = 2

func (w *work) runner(ctx context.Context, t task) (runner, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, o := range w.runners {
		if o.plan == t.Plan && o.again == t.Again && o.force == t.Force {
			w.runners = append(append(w.runners[:i:i], w.runners[i+1:]...), o)
			return o.runner, nil
		}
	}
	r, err := w.open(ctx, t)
	if err != nil {
		return nil, err
	}
	w.runners = append(w.runners, opened{t.Plan, t.Again, t.Force, r})
	w.runners = w.runners[max(0, len(w.runners)-keptRunners):]
	return r, nil
}

// unavailable is the type of an error that another try may not have.
const unavailable = "unavailable"

// packageOne is the activity.
func (w *work) packageOne(ctx context.Context, t task) (fleet.Outcome, error) {
	defer w.saying.forget(t.Name)
	w.share(ctx, t)
	defer w.heartbeat(ctx, t)()
	r, err := w.runner(ctx, t)
	if err != nil {
		return fleet.Outcome{}, err
	}
	o, err := r.Do(ctx, t.Name)
	shorten(&o)
	switch {
	case err != nil:
		return fleet.Outcome{}, err
	case o.State == fleet.Failed && !o.Error.Final:
		return fleet.Outcome{}, temporal.NewApplicationError(o.Error.Message, unavailable, o)
	}
	o.Path, o.Reason = "", "" // the plan has them
	return o, nil
}

// maxText is how many bytes of text an outcome has for Temporal, whose histories and
// payloads are bounded.
const maxText = 16 << 10

// shorten leaves out text that is too much; the record of the application has it.
func shorten(o *fleet.Outcome) {
	if o.Error != nil && len(o.Error.Message) > maxText {
		short := *o.Error
		short.Message = strings.ToValidUTF8(short.Message[:maxText], "") + " …"
		o.Error = &short
	}
	left := maxText
	for i, warning := range o.Warnings {
		if left -= len(warning); left < 0 {
			o.Warnings = append(o.Warnings[:i:i], fmt.Sprintf("and %d more, see the report", len(o.Warnings)-i))
			return
		}
	}
}

// share keeps this worker to its part of the limits of a job. Workers come and go while
// applications are worked on, so that each counts them now and then. Where they cannot be
// counted there are as many as before.
func (w *work) share(ctx context.Context, t task) {
	if len(t.Limits) == 0 {
		return
	}
	w.counting.Lock()
	defer w.counting.Unlock()
	if w.workers == 0 || time.Since(w.counted) >= recount {
		if n, err := w.count(ctx, t.Plan); err == nil {
			w.workers = n
		}
		w.workers, w.counted = max(w.workers, 1), time.Now()
	}
	all := registry.Limits{}
	for host, limit := range t.Limits {
		all[host] = registry.Rate(limit)
	}
	w.limit(all.Share(w.workers))
}

// doing is what Temporal is told of an application that a worker works on.
type doing struct {
	Name string `json:"name"`
	Last string `json:"last,omitempty"` // event
}

// heartbeat tells Temporal that this worker lives, and what it does, until the function
// that it returns is called.
func (w *work) heartbeat(ctx context.Context, t task) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		ticks := time.NewTicker(beat)
		defer ticks.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-ticks.C:
				activity.RecordHeartbeat(ctx, doing{t.Name, w.saying.last(t.Name)})
				w.share(ctx, t)
			}
		}
	})
	return func() { close(done); ended.Wait() }
}

// doings are the last events of applications, as text.
type doings struct{ of sync.Map }

func (d *doings) hear(application string, e engine.Event) {
	said := e.Node
	if e.Item != "" {
		said += " " + e.Item
	}
	if e.Total > 0 {
		said += fmt.Sprintf(" %d/%d", e.Current, e.Total)
	}
	d.of.Store(application, said)
}

func (d *doings) last(application string) string {
	said, _ := d.of.Load(application)
	text, _ := said.(string)
	return text
}

func (d *doings) forget(application string) { d.of.Delete(application) }

// queue is the task queue of a fleet: only workers of the version that made a plan see it.
func queue(fleet digest.Digest, version string) string {
	return "tape-fleet-" + fleet.Encoded()[:12] + "-" + version
}

// register registers the workflow and the activities.
func (w *work) register(r worker.Registry) {
	r.RegisterWorkflowWithOptions(w.packageFleet, workflow.RegisterOptions{Name: workflowName})
	r.RegisterActivityWithOptions(w.packageOne, activity.RegisterOptions{Name: packageName})
}

// pollers are the workers that wait for work of a queue. Temporal cuts a queue into
// partitions, of which a worker may wait at any: all are asked.
func pollers(ctx context.Context, c client.Client, queue string) ([]string, error) {
	described, err := c.DescribeTaskQueueEnhanced(ctx, client.DescribeTaskQueueEnhancedOptions{
		TaskQueue: queue, TaskQueueTypes: []client.TaskQueueType{client.TaskQueueTypeActivity}, ReportPollers: true,
	})
	if err != nil {
		return nil, fmt.Errorf("ask who works on %s: %w", queue, err)
	}
	var all []client.TaskQueuePollerInfo
	for _, version := range described.VersionsInfo { //nolint:staticcheck // those without a version are there, too
		all = append(all, version.TypesInfo[client.TaskQueueTypeActivity].Pollers...)
	}
	return waiting(all), nil
}

// wait is longer than the minute after which an idle worker asks for work again.
const wait = 75 * time.Second

// waiting returns the names of the workers that asked for work within a wait, sorted. Temporal
// lists a worker for five minutes after it asked, even if it was killed. The times are the
// server's, so they are compared with the newest of them, not with this machine's clock.
func waiting(pollers []client.TaskQueuePollerInfo) []string {
	var newest time.Time
	for _, p := range pollers {
		if p.LastAccessTime.After(newest) {
			newest = p.LastAccessTime
		}
	}
	names := []string{}
	for _, p := range pollers {
		if newest.Sub(p.LastAccessTime) < wait {
			names = append(names, p.Identity)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// sharers are the workers that share the limits of a plan's run: those that wait for work, and
// those that are too busy for that. Temporal knows within seconds of silence that one of the
// latter is gone.
func sharers(ctx context.Context, c client.Client, queue string, plan digest.Digest) ([]string, error) {
	names, err := pollers(ctx, c, queue)
	if err != nil {
		return nil, err
	}
	described, err := c.DescribeWorkflow(ctx, plan.String(), "")
	if err != nil {
		return nil, fmt.Errorf("ask who works on plan %s: %w", plan, err)
	}
	for _, p := range described.RawResponse.GetPendingActivities() {
		if p.GetState() == enums.PENDING_ACTIVITY_STATE_STARTED {
			names = append(names, p.GetLastWorkerIdentity())
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// serve works until ctx ends, and then finishes what it has begun within a while.
func (w *work) serve(ctx context.Context, c client.Client, queue string, concurrency int, drain time.Duration) error {
	broken := make(chan error, 1)
	one := worker.New(c, queue, worker.Options{
		Identity:                           w.name,
		MaxConcurrentActivityExecutionSize: concurrency,
		MaxHeartbeatThrottleInterval:       beat,
		WorkerStopTimeout:                  drain,
		OnFatalError: func(err error) {
			select {
			case broken <- err:
			default:
			}
		},
	})
	w.register(one)
	if err := one.Start(); err != nil {
		return fmt.Errorf("work on %s: %w", queue, err)
	}
	defer one.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-broken:
		return fmt.Errorf("work on %s: %w", queue, err)
	}
}
