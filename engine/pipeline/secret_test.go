// SPDX-License-Identifier: Apache-2.0

package pipeline_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
)

type nothing struct{}

func (nothing) Run(context.Context, *engine.Task) (engine.Outputs, error) { return nil, nil }

// Options that a kind of stage marks as secret are in no node, and the printed file has
// references; the stage gets the values.
func TestSecrets(t *testing.T) {
	var made []string
	table, err := pipeline.NewTable(nil, pipeline.Kind{
		Name: "notify",
		Schema: json.RawMessage(`{"type": "object", "properties": {
			"token": {"type": "string", "writeOnly": true, "minLength": 8}, "url": {"type": "string"}, "more": {"type": "object"},
			"list": {"type": "array", "items": {"type": "object", "properties": {"pin": {"type": "integer", "writeOnly": true}}}}}}`),
		Secrets: func(_ context.Context, with json.RawMessage) [][]string {
			return [][]string{{"more"}, {"list", "7"}, {"absent", "x"}}
		},
		New: func(with json.RawMessage) (engine.Stage, error) {
			made = append(made, string(with))
			return nothing{}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	expand := func(token string) (*pipeline.Expanded, *pipeline.Pipeline) {
		t.Helper()
		p, err := table.Parse("tape.yaml", []byte("apiVersion: tape/v1\nkind: Pipeline\nnodes:\n  notify:\n    with: {token: "+token+", url: told, more: {a: planted}, list: [{pin: 4711}, {}]}\n"))
		if err != nil {
			t.Fatal(err)
		}
		e, err := p.Expand(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return e, p
	}
	e, _ := expand("planted-token")
	full, err := e.YAML()
	if err != nil {
		t.Fatal(err)
	}
	graph, err := e.Graph()
	if err != nil {
		t.Fatal(err)
	}
	node, err := json.Marshal(graph.Nodes()[0])
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"YAML": string(full), "the node": string(node)} {
		if strings.Contains(text, "planted") || strings.Contains(text, "4711") {
			t.Errorf("%s tells: %s", what, text)
		}
		for _, want := range []string{"secret://notify/token", "secret://notify/list/0/pin?json", "secret://notify/more?json", "told"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %s: %s", what, want, text)
			}
		}
	}
	if _, err := e.Stages().Stage(t.Context(), graph.Nodes()[0], e.Secrets(nil)); err != nil {
		t.Fatal(err)
	}
	const want = `{"list":[{"pin":4711},{}],"more":{"a":"planted"},"token":"planted-token","url":"told"}`
	if made[len(made)-1] != want {
		t.Errorf("the stage is made of %s", made[len(made)-1])
	}

	// An error does not contain the value.
	e, _ = expand("planted")
	if _, err := e.Graph(); err == nil || strings.Contains(err.Error(), "planted") || !strings.Contains(err.Error(), "tape.yaml:5:19: option token of notify: its value is not allowed") {
		t.Error(err)
	}
	// Nor does one about a part of it, or about a list of several.
	for body, want := range map[string]string{
		"login: {user: planted-user}": "5:26: option login.user of hide: its value is not allowed",
		"pins: [4711, 4711]":          "5:25: option pins[1] of hide: its value is not allowed",
		"when: {at: planted}":         "5:18: option when of hide is a mapping, want never",
	} {
		hide, err := pipeline.NewTable(nil, pipeline.Kind{Name: "hide", New: func(json.RawMessage) (engine.Stage, error) { return nothing{}, nil }, Schema: json.RawMessage(`{"properties": {
			"login": {"writeOnly": true, "properties": {"user": {"pattern": "^x"}}}, "pins": {"uniqueItems": true, "items": {"writeOnly": true}},
			"when": {"enum": ["never"], "properties": {"at": {"writeOnly": true}}}}}`)})
		if err != nil {
			t.Fatal(err)
		}
		p, err := hide.Parse("tape.yaml", []byte("apiVersion: tape/v1\nkind: Pipeline\nnodes:\n  hide:\n    with: {"+body+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Build(t.Context(), nil); err == nil || err.Error() != "tape.yaml:"+want {
			t.Errorf("%s: %v", body, err)
		}
	}
	// A reference in the file is kept.
	e, _ = expand(`"secret://vault/token"`)
	secrets := e.Secrets(func(_ context.Context, name string) (string, error) { return "planted-" + name, nil })
	if graph, err = e.Graph(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Stages().Stage(t.Context(), graph.Nodes()[0], secrets); err != nil {
		t.Fatal(err)
	}
	if got := made[len(made)-1]; !strings.Contains(got, `"token":"planted-vault/token"`) {
		t.Errorf("the stage is made of %s", got)
	}
}
