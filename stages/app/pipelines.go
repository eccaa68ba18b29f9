// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages"
)

// ExpandResult is an expanded pipeline.
type ExpandResult struct {
	// YAML is the complete pipeline: tape.yaml merged with the default pipeline.
	YAML []byte
	// Graph is for drawing; its stages do nothing.
	Graph *engine.Graph
}

// Expand expands and validates the pipeline of the options. It runs nothing, and reads no source.
func Expand(ctx context.Context, o Options) (*ExpandResult, error) {
	expanded, err := o.expanded(ctx)
	if err != nil {
		return nil, err
	}
	out := &ExpandResult{}
	if out.YAML, err = expanded.YAML(); err != nil {
		return nil, err
	}
	out.Graph, err = expanded.Outline()
	return out, err
}

// expanded reads and expands the pipeline.
func (o *Options) expanded(ctx context.Context) (*pipeline.Expanded, error) {
	p, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	expanded, err := p.Expand(ctx, o.Args)
	return expanded, fromOptions(err)
}

// ValidateResult describes a valid pipeline.
type ValidateResult struct {
	File string `json:"file"`
	OK   bool   `json:"ok"`
}

// Validate checks the pipeline of the options, including the options of every stage and every
// interpreter, as a run does before it reads anything. The error describes all mistakes.
func Validate(ctx context.Context, o Options) (*ValidateResult, error) {
	expanded, err := o.expanded(ctx)
	if err != nil {
		return nil, err
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

// Schema returns the JSON Schema of pipeline files, including the stages of the environment.
func Schema(_ context.Context, o Options) ([]byte, error) {
	table, err := pipeline.NewTable(stages.Default(), o.kinds("")...)
	if err != nil {
		return nil, err
	}
	return table.Schema()
}
