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

// runner packages the applications of a plan. It is implemented by [fleet.Runner].
type runner interface {
	Do(ctx context.Context, name string) (fleet.Outcome, error)
	Unsigned(ctx context.Context) ([]string, error)
}

// work is what a worker does.
type work struct {
	// name is the name of this worker.
	name string
	// open returns the runner of a plan.
	open func(ctx context.Context, t task) (runner, error)
	// limit sets the worker's share of the limits.
	limit func(registry.Limits)
	// count returns the number of workers that share the limits of a plan's run.
	count func(ctx context.Context, plan digest.Digest) (int, error)
	// batch is the number of applications in one run of the workflow.
	batch int
	// silence is the time without heartbeats after which a worker counts as lost.
	silence time.Duration
	// latest holds the text of the latest event of each application.
	latest sync.Map

	mu      sync.Mutex
	runners []opened // the most recently used is the last

	counting sync.Mutex
	workers  int // time of the latest count; 0 before the first
	counted  time.Time
}

// opened is a cached runner: it has read the plan, and its interpreters are running.
type opened struct {
	plan         digest.Digest
	again, force bool
	runner       runner
}

// keptRunners is the number of plans that a worker keeps open.
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

// unavailable is the type of an error that another attempt may not encounter.
const unavailable = "unavailable"

// unsigned is the activity that returns the names of the unchanged applications that this
// worker should sign.
func (w *work) unsigned(ctx context.Context, t task) ([]string, error) {
	w.share(ctx, t)
	defer w.heartbeat(ctx, t)()
	r, err := w.runner(ctx, t)
	if err != nil {
		return nil, err
	}
	return r.Unsigned(ctx)
}

// packageOne is the activity of an application.
func (w *work) packageOne(ctx context.Context, t task) (fleet.Outcome, error) {
	defer w.latest.Delete(t.Name)
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

// maxText limits the texts of an outcome, in bytes, because Temporal limits histories and
// payloads.
const maxText = 16 << 10

// shorten shortens texts that are too long; the record of the application has the full texts.
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

// share sets the share of the limits of a job that this worker may use. The number of workers
// changes while applications are packaged, so each worker counts them from time to time. If
// counting fails, the last number is kept.
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

// doing is the content of a heartbeat: the latest event of an application.
type doing struct {
	Name string `json:"name"`
	Last string `json:"last,omitempty"` // event
}

// heartbeat sends heartbeats, with the worker's progress, until stop is called.
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
				last, _ := w.latest.Load(t.Name)
				text, _ := last.(string)
				activity.RecordHeartbeat(ctx, doing{t.Name, text})
				w.share(ctx, t)
			}
		}
	})
	return func() { close(done); ended.Wait() }
}

func (w *work) hear(application string, e engine.Event) {
	text := e.Node
	if e.Item != "" {
		text += " " + e.Item
	}
	if e.Total > 0 {
		text += fmt.Sprintf(" %d/%d", e.Current, e.Total)
	}
	w.latest.Store(application, text)
}

// queue returns the task queue of a fleet, which only workers of the same version as the plan
// poll.
func queue(fleet digest.Digest, version string) string {
	return "tape-fleet-" + fleet.Encoded()[:12] + "-" + version
}

// register registers the workflow and the activities.
func (w *work) register(r worker.Registry) {
	r.RegisterWorkflowWithOptions(w.packageFleet, workflow.RegisterOptions{Name: workflowName})
	r.RegisterActivityWithOptions(w.packageOne, activity.RegisterOptions{Name: packageName})
	r.RegisterActivityWithOptions(w.unsigned, activity.RegisterOptions{Name: unsignedName})
}

// pollers returns the workers that poll a queue. Temporal divides a queue into partitions, and a
// worker may poll any of them, so all partitions are asked.
func pollers(ctx context.Context, c client.Client, queue string) ([]string, error) {
	described, err := c.DescribeTaskQueueEnhanced(ctx, client.DescribeTaskQueueEnhancedOptions{
		TaskQueue: queue, TaskQueueTypes: []client.TaskQueueType{client.TaskQueueTypeActivity}, ReportPollers: true,
	})
	if err != nil {
		return nil, fmt.Errorf("ask who works on %s: %w", queue, err)
	}
	var all []client.TaskQueuePollerInfo
	for _, version := range described.VersionsInfo { //nolint:staticcheck,nolintlint // deprecated, but it includes workers without a version; a cached lint misses that
		all = append(all, version.TypesInfo[client.TaskQueueTypeActivity].Pollers...)
	}
	return waiting(all), nil
}

// wait is longer than the minute after which an idle worker polls again.
const wait = 75 * time.Second

// waiting returns the names of the workers that polled during the last wait, sorted. Temporal
// lists a worker for five minutes after its last poll, even if it was killed. The times are those
// of the server, so they are compared with the latest of them instead of the local clock.
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

// sharers returns the workers that share the limits of a run of a plan: those that poll, and
// those that are too busy to poll. Temporal notices the loss of a busy worker within seconds.
func sharers(ctx context.Context, c client.Client, queue string, plan digest.Digest) ([]string, error) {
	names, err := pollers(ctx, c, queue)
	if err != nil {
		return nil, err
	}
	described, err := describe(ctx, c, plan)
	if err != nil {
		return nil, err
	}
	for _, p := range described.GetPendingActivities() {
		if p.GetState() == enums.PENDING_ACTIVITY_STATE_STARTED {
			names = append(names, p.GetLastWorkerIdentity())
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// serve works until ctx ends, and then finishes work in progress within the drain time.
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
