// SPDX-License-Identifier: Apache-2.0

package interpreter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/plugins/interpreter"
)

func TestAnswer(t *testing.T) {
	broken := errors.New("no library")
	problem := func(summary, detail, file string) *interpreter.RenderResponse {
		return &interpreter.RenderResponse{Diagnostics: []interpreter.Diagnostic{{Severity: interpreter.Error, Summary: summary, Detail: detail, File: file}}}
	}
	answer := &interpreter.RenderResponse{Files: []interpreter.File{{Path: "a.yaml"}}}
	for name, c := range map[string]struct {
		f    func() (*interpreter.RenderResponse, error)
		want *interpreter.RenderResponse
		err  error
	}{
		"answer": {f: func() (*interpreter.RenderResponse, error) { return answer, nil }, want: answer},
		"error":  {f: func() (*interpreter.RenderResponse, error) { return answer, broken }, err: broken},
		"problem": {f: func() (*interpreter.RenderResponse, error) {
			return nil, fmt.Errorf("read: %w", interpreter.Problem("a.x", 0, "not valid: %w\nsee line 3", broken))
		}, want: problem("not valid: no library", "see line 3", "a.x")},
		"of the source": {f: func() (*interpreter.RenderResponse, error) { return nil, interpreter.Problem(".", 0, "empty") }, want: problem("empty", "", "")},
		"options": {f: func() (*interpreter.RenderResponse, error) {
			return answer, interpreter.DecodeOptions(json.RawMessage(`{"x": 1}`), &struct{}{})
		}, want: problem(`options: unknown field "x"`, "", "")},
		"no options": {f: func() (*interpreter.RenderResponse, error) {
			return answer, interpreter.DecodeOptions(nil, &struct{}{})
		}, want: answer},
		"no problems": {f: func() (*interpreter.RenderResponse, error) { return answer, interpreter.Problems(nil).Err() }, want: answer},
		"panic":       {f: func() (*interpreter.RenderResponse, error) { panic("oh") }, want: problem("panicked on this source: oh", "", "")},
	} {
		got, err := interpreter.AnswerRender(t.Context(), c.f)
		if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(err, c.err) {
			t.Errorf("%s: error %v, (-want +got):\n%s", name, err, diff)
		}
	}

	inputs, err := interpreter.AnswerInputs(t.Context(), func() (*interpreter.InputsResponse, error) { return nil, interpreter.Problem("", 0, "empty") })
	if err != nil || len(inputs.Diagnostics) != 1 {
		t.Errorf("inputs: %+v, %v", inputs, err)
	}
}

// It returns when its context ends, even if f does not; AnswerInputs then has the cause.
func TestAwait(t *testing.T) {
	gone := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	hangs := make(chan struct{})
	defer close(hangs)
	_, err := interpreter.AnswerInputs(ctx, func() (*interpreter.InputsResponse, error) {
		_, err := interpreter.Await(ctx, func() (int, error) {
			cancel(gone)
			<-hangs
			return 0, nil
		})
		return nil, fmt.Errorf("evaluate: %w", errors.New(err.Error()))
	})
	if !errors.Is(err, gone) {
		t.Errorf("error %v, want %v", err, gone)
	}
	if _, err := interpreter.Await(t.Context(), func() (int, error) { panic("oh") }); err == nil || err.Error() != "panicked on this source: oh" {
		t.Errorf("a panic: %v", err)
	}
}
