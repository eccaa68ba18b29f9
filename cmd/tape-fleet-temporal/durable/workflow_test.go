// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// machine is the runner of a worker, with a given outcome for each attempt.
type machine struct {
	do       func(ctx context.Context, name string, attempt int) (fleet.Outcome, error)
	unsigned []string

	mu     sync.Mutex
	tried  map[string]int
	now    int
	most   int // concurrently
	limits []registry.Limits
}

func (m *machine) Do(ctx context.Context, name string) (fleet.Outcome, error) {
	m.mu.Lock()
	m.tried[name]++
	attempt := m.tried[name]
	m.now++
	m.most = max(m.most, m.now)
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.now--
		m.mu.Unlock()
	}()
	return m.do(ctx, name, attempt)
}

func (m *machine) Unsigned(context.Context) ([]string, error) { return m.unsigned, nil }

func done(_ context.Context, name string, _ int) (fleet.Outcome, error) {
	return fleet.Outcome{Name: name, State: fleet.Done, Root: "ex.io/" + name}, nil
}

func failed(name, message string, final bool) fleet.Outcome {
	return fleet.Outcome{Name: name, State: fleet.Failed, Error: &fleet.Failure{Message: message, Final: final}}
}

// environment is Temporal in memory, with one worker that has a key.
func environment(t *testing.T, m *machine) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	m.tried = map[string]int{}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	codec, err := newSealing(strings.Repeat("ab", keySize))
	if err != nil {
		t.Fatal(err)
	}
	data := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codec)
	env.SetDataConverter(data)
	env.SetFailureConverter(failures(data, true))
	w := &work{
		name:    "one",
		batch:   some,
		silence: time.Hour, // this Temporal counts it from the first attempt
		open:    func(context.Context, task) (runner, error) { return m, nil },
		limit: func(l registry.Limits) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.limits = append(m.limits, l)
		},
		count: func(context.Context, digest.Digest) (int, error) { return 4, nil },
	}
	w.register(env)
	return env
}

// some is more applications than are worked on concurrently.
const some = window + 50

func job(n int) fleet.Job {
	j := fleet.Job{Fleet: digest.FromString("fleet"), Plan: digest.FromString("plan"), Version: "test"}
	for i := range n {
		j.Names = append(j.Names, fmt.Sprintf("app%04d", i))
	}
	return j
}

// TestWorkflow executes a job with an application that is broken, one that a registry rejects
// once, and one that it always rejects.
func TestWorkflow(t *testing.T) {
	m := &machine{do: func(ctx context.Context, name string, attempt int) (fleet.Outcome, error) {
		switch {
		case name == "app0003":
			return failed(name, "pod.yaml:5: mapping values", true), nil
		case name == "app0005" && attempt == 1, name == "app0007":
			return failed(name, "registry: 503", false), nil
		}
		return done(ctx, name, attempt)
	}}
	env := environment(t, m)
	env.ExecuteWorkflow(workflowName, run{Job: job(some)})
	var failures int
	if err := errors.Join(env.GetWorkflowError(), env.GetWorkflowResult(&failures)); err != nil {
		t.Fatal(err)
	}
	if failures != 2 {
		t.Errorf("%d failed, want app0003 and app0007", failures)
	}
	for name, n := range m.tried {
		want := map[string]int{"app0005": 2, "app0007": attempts}[name]
		if want = max(want, 1); n != want {
			t.Errorf("%s was tried %d times, want %d", name, n, want)
		}
	}
	if len(m.tried) != some || m.most > window {
		t.Errorf("%d were tried, %d at once", len(m.tried), m.most)
	}
	if m.limits != nil {
		t.Errorf("limits %v of a job without", m.limits)
	}
}

// TestWaiting checks that a killed worker is no longer counted before Temporal forgets it,
// whatever the local clock shows.
func TestWaiting(t *testing.T) {
	now := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	asked := func(name string, ago time.Duration) client.TaskQueuePollerInfo {
		return client.TaskQueuePollerInfo{Identity: name, LastAccessTime: now.Add(-ago)}
	}
	// Temporal lists a worker once for each partition that it polled.
	all := []client.TaskQueuePollerInfo{asked("two", 4*time.Minute), asked("killed", 80*time.Second), asked("two", 0), asked("one", time.Minute)}
	if got := waiting(all); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("%q wait, want one and two", got)
	}
	if got := waiting(nil); got == nil || len(got) != 0 {
		t.Errorf("of none: %q", got)
	}
}

// TestShares checks that every worker keeps to its share of the limits.
func TestShares(t *testing.T) {
	m := &machine{do: done}
	env := environment(t, m)
	j := job(3)
	j.Limits = map[string]float64{"ex.io": 300}
	env.ExecuteWorkflow(workflowName, run{Job: j})
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	if len(m.limits) != 3 || slices.ContainsFunc(m.limits, func(l registry.Limits) bool { return l["ex.io"] != 75 }) {
		t.Errorf("shares are %v, want a quarter for each application", m.limits)
	}
}

// TestFailFast starts nothing after an application failed.
func TestFailFast(t *testing.T) {
	m := &machine{do: func(ctx context.Context, name string, attempt int) (fleet.Outcome, error) {
		return failed(name, "broken", true), nil
	}}
	env := environment(t, m)
	j := job(some)
	j.FailFast = true
	env.ExecuteWorkflow(workflowName, run{Job: j})
	var failures int
	if err := errors.Join(env.GetWorkflowError(), env.GetWorkflowResult(&failures)); err != nil {
		t.Fatal(err)
	}
	if failures == 0 || len(m.tried) > window+1 {
		t.Errorf("%d failed, and %d of %d were begun", failures, len(m.tried), len(j.Names))
	}
}

// TestContinue continues as a new run, with the remaining applications and the number of
// failures.
func TestContinue(t *testing.T) {
	m := &machine{do: func(ctx context.Context, name string, attempt int) (fleet.Outcome, error) {
		if name == "app0000" {
			return failed(name, "broken", true), nil
		}
		return done(ctx, name, attempt)
	}}
	env := environment(t, m)
	env.ExecuteWorkflow(workflowName, run{Job: job(some + 2)})
	next, ok := errors.AsType[*workflow.ContinueAsNewError](env.GetWorkflowError())
	if !ok {
		t.Fatalf("%v, want the run to be continued", env.GetWorkflowError())
	}
	var rest run
	codec, err := newSealing(strings.Repeat("ab", keySize))
	if err != nil {
		t.Fatal(err)
	}
	data := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), codec)
	if err := data.FromPayloads(next.Input, &rest); err != nil {
		t.Fatal(err)
	}
	if want := []string{"app0250", "app0251"}; !slices.Equal(rest.Job.Names, want) || rest.Failed != 1 || len(m.tried) != some {
		t.Errorf("%d were done, left are %v and %d failed; want %v and 1", len(m.tried), rest.Job.Names, rest.Failed, want)
	}
}

// TestUnsigned packages what a worker finds unsigned, after all others.
func TestUnsigned(t *testing.T) {
	m := &machine{do: done, unsigned: []string{"old1", "old2"}}
	env := environment(t, m)
	j := job(1)
	j.Unchanged = 3
	env.ExecuteWorkflow(workflowName, run{Job: j})
	next, ok := errors.AsType[*workflow.ContinueAsNewError](env.GetWorkflowError())
	if !ok || len(m.tried) != 1 {
		t.Fatalf("%v after %d applications, want the run to be continued after one", env.GetWorkflowError(), len(m.tried))
	}
	var rest run
	_, data := sealed(t, "ab")
	if err := data.FromPayloads(next.Input, &rest); err != nil {
		t.Fatal(err)
	}
	env = environment(t, m)
	env.ExecuteWorkflow(workflowName, rest)
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"old1": 1, "old2": 1}; !maps.Equal(m.tried, want) {
		t.Errorf("tried %v, want %v", m.tried, want)
	}

	m.unsigned = nil
	env = environment(t, m)
	env.ExecuteWorkflow(workflowName, rest)
	if err := env.GetWorkflowError(); err != nil || len(m.tried) != 0 {
		t.Errorf("all are signed: %v, and %v was tried", err, m.tried)
	}
}

// TestCancel cancels a run: activities in progress are canceled, and no others start.
func TestCancel(t *testing.T) {
	m := &machine{}
	env := environment(t, m)
	m.do = func(ctx context.Context, name string, _ int) (fleet.Outcome, error) {
		env.CancelWorkflow()
		<-ctx.Done()
		return fleet.Outcome{}, context.Cause(ctx)
	}
	env.ExecuteWorkflow(workflowName, run{Job: job(some)})
	if err := env.GetWorkflowError(); !temporal.IsCanceledError(err) {
		t.Errorf("%v, want it canceled", err)
	}
	if len(m.tried) > window {
		t.Errorf("%d were begun", len(m.tried))
	}
}

// TestShorten shortens outcomes that exceed Temporal's limits.
func TestShorten(t *testing.T) {
	long := strings.Repeat("ü", maxText)
	o := fleet.Outcome{Error: &fleet.Failure{Message: long}, Warnings: []string{"one", long, "three"}}
	kept := o.Error
	shorten(&o)
	if n := len(o.Error.Message); n > maxText+len(" …") || !strings.HasPrefix(long, strings.TrimSuffix(o.Error.Message, " …")) {
		t.Errorf("%d bytes of a message are left", n)
	}
	if want := []string{"one", "and 2 more, see the report"}; !slices.Equal(o.Warnings, want) {
		t.Errorf("warnings %.100q, want %q", o.Warnings, want)
	}
	if kept.Message != long {
		t.Error("the failure that is kept was shortened, too")
	}
	short := fleet.Outcome{Error: &fleet.Failure{Message: "no"}, Warnings: []string{"one"}}
	if shorten(&short); short.Error.Message != "no" || len(short.Warnings) != 1 {
		t.Errorf("%+v", short)
	}
}

// TestRunnersAreKept reads a plan once, and again after others were executed.
func TestRunnersAreKept(t *testing.T) {
	var read []string
	w := &work{open: func(_ context.Context, t task) (runner, error) {
		read = append(read, string(t.Plan))
		return &machine{}, nil
	}}
	for _, plan := range []digest.Digest{"a", "b", "a", "c", "a", "b"} {
		if _, err := w.runner(t.Context(), task{Plan: plan}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a", "b", "c", "b"}; !slices.Equal(read, want) {
		t.Errorf("read %v, want %v", read, want)
	}
	if _, err := w.runner(t.Context(), task{Plan: "b", Force: true}); err != nil || len(read) != 5 {
		t.Errorf("a run with force took the runner of one without (%v)", err)
	}
}
