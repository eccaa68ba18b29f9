// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	common "go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	failure "go.temporal.io/api/failure/v1"
	history "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/taped-dev/tape/stages/app/fleet"
)

// TestRead reads outcomes from a history: of applications that were packaged, that failed, that
// no worker could package, and that were canceled.
func TestRead(t *testing.T) {
	_, data := sealed(t, "ab")
	convert := failures(data, true)
	payloads := func(v any) *common.Payloads {
		p, err := data.ToPayloads(v)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var events []*history.HistoryEvent
	scheduled := func(activity string, input any) int64 {
		id := int64(len(events) + 1)
		events = append(events, &history.HistoryEvent{EventId: id, EventType: enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, Attributes: &history.HistoryEvent_ActivityTaskScheduledEventAttributes{
			ActivityTaskScheduledEventAttributes: &history.ActivityTaskScheduledEventAttributes{ActivityType: &common.ActivityType{Name: activity}, Input: payloads(input)},
		}})
		return id
	}
	completed := func(of int64, result any) {
		events = append(events, &history.HistoryEvent{EventType: enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, Attributes: &history.HistoryEvent_ActivityTaskCompletedEventAttributes{
			ActivityTaskCompletedEventAttributes: &history.ActivityTaskCompletedEventAttributes{ScheduledEventId: of, Result: payloads(result)},
		}})
	}
	completed(scheduled("another", nil), 4)
	completed(scheduled(packageName, task{Name: "good"}), fleet.Outcome{State: fleet.Done, Root: "ex.io/good"})
	events = append(events,
		&history.HistoryEvent{EventType: enums.EVENT_TYPE_ACTIVITY_TASK_FAILED, Attributes: &history.HistoryEvent_ActivityTaskFailedEventAttributes{
			ActivityTaskFailedEventAttributes: &history.ActivityTaskFailedEventAttributes{
				ScheduledEventId: scheduled(packageName, task{Name: "refused"}),
				Failure:          convert.ErrorToFailure(temporal.NewApplicationError("503", unavailable, failed("refused", "registry: 503", false))),
			},
		}},
		&history.HistoryEvent{EventType: enums.EVENT_TYPE_ACTIVITY_TASK_FAILED, Attributes: &history.HistoryEvent_ActivityTaskFailedEventAttributes{
			ActivityTaskFailedEventAttributes: &history.ActivityTaskFailedEventAttributes{
				ScheduledEventId: scheduled(packageName, task{Name: "elsewhere"}), Failure: convert.ErrorToFailure(errors.New("the plan is of commit x")),
			},
		}},
		&history.HistoryEvent{EventType: enums.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT, Attributes: &history.HistoryEvent_ActivityTaskTimedOutEventAttributes{
			ActivityTaskTimedOutEventAttributes: &history.ActivityTaskTimedOutEventAttributes{
				ScheduledEventId: scheduled(packageName, task{Name: "lost"}),
				Failure: &failure.Failure{FailureInfo: &failure.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failure.TimeoutFailureInfo{
					TimeoutType: enums.TIMEOUT_TYPE_HEARTBEAT,
				}}},
			},
		}},
		&history.HistoryEvent{EventType: enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW, Attributes: &history.HistoryEvent_WorkflowExecutionContinuedAsNewEventAttributes{
			WorkflowExecutionContinuedAsNewEventAttributes: &history.WorkflowExecutionContinuedAsNewEventAttributes{NewExecutionRunId: "second"},
		}},
	)
	got := map[string]string{}
	r := &reader{options: client.Options{DataConverter: data, FailureConverter: convert}, names: map[int64]string{}, ended: func(o fleet.Outcome) {
		got[o.Name] = string(o.State) + " " + o.Root
		if o.Error != nil {
			got[o.Name] += o.Error.Message
		}
	}}
	for _, e := range events {
		if err := r.read(e); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"good": "done ex.io/good", "refused": "failed registry: 503", "elsewhere": "failed the plan is of commit x",
		"lost": "failed 3 workers started it, and none reported a result (heartbeat timeout)",
	}
	if diff := cmp.Diff(want, got); diff != "" || r.next != "second" || !r.closed {
		t.Errorf("next %q, closed %v (-want +got):\n%s", r.next, r.closed, diff)
	}
}
