// SPDX-License-Identifier: Apache-2.0

package engine_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/taped-dev/tape/engine"
)

// greeting is a stage that greets whom its configuration names.
type greeting struct {
	Name string `json:"name"`
}

func (g greeting) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	t.Report(engine.Event{Level: engine.Note, Message: "greeting " + g.Name})
	desc, err := engine.PutJSON(ctx, t.Store, "application/vnd.example.greeting+json", "hello "+g.Name)
	return engine.Outputs{"text": desc}, err
}

func ExampleRun() {
	graph, err := engine.NewGraph(engine.Node{
		Name: "greet", Kind: "greeting", Config: json.RawMessage(`{"name": "world"}`), Outputs: []string{"text"},
	})
	if err != nil {
		panic(err)
	}
	result, err := engine.Run(context.Background(), graph, engine.Options{
		Executor: engine.Stages{"greeting": func(config json.RawMessage) (engine.Stage, error) {
			var g greeting
			err := json.Unmarshal(config, &g)
			return g, err
		}},
		Events: func(e engine.Event) { fmt.Printf("%s: %s%s\n", e.Node, e.State, e.Message) },
	})
	if err != nil {
		panic(err)
	}
	desc, err := result.Output("greet.text")
	if err != nil {
		panic(err)
	}
	var text string
	if err := engine.GetJSON(context.Background(), result.Store, desc, desc.MediaType, &text); err != nil {
		panic(err)
	}
	fmt.Println(text)
	// Output:
	// greet: waiting
	// greet: running
	// greet: greeting world
	// greet: done
	// hello world
}
