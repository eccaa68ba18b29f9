// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine"
)

// known resolves the secrets of these tests.
func known(_ context.Context, name string) (string, error) {
	switch name {
	case "text":
		return "opensesame", nil
	case "number":
		return "12345678", nil
	case "object":
		return `{"user":["opensesame",1.50]}`, nil
	}
	return "", errors.New("it is not known")
}

func TestReveal(t *testing.T) {
	for document, want := range map[string]string{
		``:                          ``,
		`{"b": 1.50, "a": "x"}`:     `{"b": 1.50, "a": "x"}`, // unchanged if there is nothing to reveal
		`{"a": "secret://text"}`:    `{"a":"opensesame"}`,
		`["secret://number?json"]`:  `[12345678]`,
		`"secret://object?json"`:    `{"user":["opensesame",1.50]}`,
		`{"a": "x secret://text"}`:  `{"a": "x secret://text"}`, // part of a text is not a reference
		`{"secret://text": "name"}`: `{"secret://text": "name"}`,
	} {
		got, err := engine.Secrets(known).Reveal(t.Context(), json.RawMessage(document))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", document, got, err)
		}
	}
	for document, want := range map[string]string{
		`"secret://other"`:     "secret other: it is not known",
		`"secret://text?json"`: "secret text: its value is not JSON",
	} {
		if _, err := engine.Secrets(known).Reveal(t.Context(), json.RawMessage(document)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", document, err)
		}
	}
	if _, err := engine.Secrets(nil).Reveal(t.Context(), json.RawMessage(`"secret://text"`)); err == nil || err.Error() != "secret text: no secrets are available here" {
		t.Error(err)
	}
}

func TestConceal(t *testing.T) {
	task := &engine.Task{Secrets: known, Node: engine.Node{Config: json.RawMessage(`["secret://text", "secret://number", {"x": "secret://object?json"}]`)}}
	for document, want := range map[string]string{
		`{"a": "plain"}`: `{"a": "plain"}`,
		`{"a": "opensesame", "b": ["12345678", 12345678, 1], "c": {"user": ["opensesame", 1.50]}}`: `{"a":"secret://text","b":["secret://number","secret://number?json",1],"c":"secret://object?json"}`,
	} {
		got, err := task.Conceal(t.Context(), json.RawMessage(document))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", document, got, err)
		}
		again, err := task.Reveal(t.Context(), got)
		if err != nil || strings.Contains(string(again), "secret://") {
			t.Errorf("%s: %s, %v", document, again, err)
		}
	}
}

// careless reveals everything.
type careless struct{ end, value string }

func (c careless) Run(_ context.Context, t *engine.Task) (engine.Outputs, error) {
	t.Report(engine.Event{Message: "it is " + c.value, Item: c.value, Level: engine.Warning})
	if c.end == "panic" {
		panic("not " + c.value)
	}
	return nil, fmt.Errorf("not %s", c.value)
}

// A stage gets values in place of references, and its messages do not reveal them.
func TestGate(t *testing.T) {
	for _, end := range []string{"error", "panic"} {
		graph, err := engine.NewGraph(engine.Node{Name: "a", Kind: "careless", Config: json.RawMessage(`"secret://text"`)})
		if err != nil {
			t.Fatal(err)
		}
		var told []engine.Event
		result, err := engine.Run(t.Context(), graph, engine.Options{
			Executor: engine.Stages{"careless": func(config json.RawMessage) (engine.Stage, error) {
				var value string
				err := json.Unmarshal(config, &value)
				return careless{end, value}, err
			}},
			Secrets: known, Events: func(e engine.Event) { told = append(told, e) },
		})
		if err == nil || strings.Contains(err.Error(), "opensesame") || !strings.Contains(err.Error(), "not (secret)") {
			t.Errorf("%s: %v", end, err)
		}
		if all := fmt.Sprint(told, result); strings.Contains(all, "opensesame") || !strings.Contains(all, "it is (secret)") {
			t.Errorf("%s: %s", end, all)
		}
	}
}
