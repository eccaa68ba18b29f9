// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages"
)

// ExpandedPipeline is a pipeline in full form.
type ExpandedPipeline struct {
	// YAML is the full form: what tape.yaml and the default pipeline come to.
	YAML []byte
	// Graph is for drawing: its stages do nothing.
	Graph *engine.Graph
}

// ExpandPipeline expands the pipeline of the options and validates it; nothing
// runs, and no source is read.
func ExpandPipeline(ctx context.Context, o Options) (*ExpandedPipeline, error) {
	p, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	expanded, err := p.Expand(ctx, o.Args)
	if err != nil {
		return nil, fromOptions(err)
	}
	out := &ExpandedPipeline{}
	if out.YAML, err = expanded.YAML(); err != nil {
		return nil, err
	}
	out.Graph, err = expanded.Outline()
	return out, err
}

// ValidatePipeline says what is wrong with the pipeline of the options, down to
// the options of every stage and of every interpreter: what a run would say before
// it reads anything.
func ValidatePipeline(ctx context.Context, o Options) error {
	p, err := o.pipeline()
	if err != nil {
		return err
	}
	expanded, err := p.Expand(ctx, o.Args)
	if err != nil {
		return fromOptions(err)
	}
	graph, err := expanded.Graph()
	if err != nil {
		return fromOptions(err)
	}
	var wrong []error
	for _, node := range graph.Nodes() {
		stage, err := expanded.Stages().Stage(ctx, node, expanded.Secrets(o.Secrets))
		if checker, ok := stage.(engine.Checker); err == nil && ok {
			err = checker.Check(ctx)
		}
		if err != nil {
			wrong = append(wrong, expanded.Placed(&engine.StageError{Node: node.Name, Err: err}))
		}
	}
	return errors.Join(wrong...)
}

// PipelineSchema is the JSON Schema of pipeline files, with the kinds of stage
// that the environment has.
func PipelineSchema(env Environment) ([]byte, error) {
	o := Options{Environment: env}
	table, err := pipeline.NewTable(stages.Default(), o.kinds("", locking{})...)
	if err != nil {
		return nil, err
	}
	return table.Schema()
}
