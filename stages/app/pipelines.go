// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages"
)

// ExpandResult is a pipeline in full form.
type ExpandResult struct {
	// YAML is the full form: what tape.yaml and the default pipeline come to.
	YAML []byte
	// Graph is for drawing: its stages do nothing.
	Graph *engine.Graph
}

// Expand expands the pipeline of the options and validates it; nothing runs, and no
// source is read.
func Expand(ctx context.Context, o Options) (*ExpandResult, error) {
	p, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	expanded, err := p.Expand(ctx, o.Args)
	if err != nil {
		return nil, fromOptions(err)
	}
	out := &ExpandResult{}
	if out.YAML, err = expanded.YAML(); err != nil {
		return nil, err
	}
	out.Graph, err = expanded.Outline()
	return out, err
}

// ValidateResult is a pipeline with which nothing is wrong.
type ValidateResult struct {
	File string `json:"file"`
	OK   bool   `json:"ok"`
}

// Validate says what is wrong with the pipeline of the options, down to the options
// of every stage and of every interpreter: what a run would say before it reads
// anything. What is wrong is the error.
func Validate(ctx context.Context, o Options) (*ValidateResult, error) {
	p, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	expanded, err := p.Expand(ctx, o.Args)
	if err != nil {
		return nil, fromOptions(err)
	}
	graph, err := expanded.Graph()
	if err != nil {
		return nil, fromOptions(err)
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
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return &ValidateResult{File: o.Pipeline, OK: true}, nil
}

// Schema returns the JSON Schema of pipeline files, with the kinds of stage that the
// environment has.
func Schema(_ context.Context, o Options) ([]byte, error) {
	table, err := pipeline.NewTable(stages.Default(), o.kinds("")...)
	if err != nil {
		return nil, err
	}
	return table.Schema()
}
