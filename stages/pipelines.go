// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
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
func ExpandPipeline(o Options) (*ExpandedPipeline, error) {
	p, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	expanded, err := p.Expand(o.Args)
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
// the options of every stage.
func ValidatePipeline(o Options) error {
	p, err := o.pipeline()
	if err != nil {
		return err
	}
	_, err = p.Build(o.Args)
	return fromOptions(err)
}

// PipelineSchema is the JSON Schema of pipeline files, with the kinds of stage
// that the environment has.
func PipelineSchema(env Environment) ([]byte, error) {
	o := Options{Environment: env}
	table, err := pipeline.NewTable(defaultPipeline, o.kinds("", locking{})...)
	if err != nil {
		return nil, err
	}
	return table.Schema()
}
