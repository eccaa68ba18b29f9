// SPDX-License-Identifier: Apache-2.0

package render

import (
	_ "embed"
	"encoding/json"
	"github.com/taped-dev/tape/engine"

	"github.com/taped-dev/tape/engine/pipeline"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Kind is the stage's entry in the table of stages.
func Kind(o Options) pipeline.Kind {
	return pipeline.Kind{
		Name:    "render",
		Help:    "have the interpreter turn a source into manifests",
		Inputs:  []pipeline.Port{{Name: "files"}, {Name: "request"}},
		Outputs: []string{"manifests", "rendering"},
		Schema:  configSchema,
		Needs:   []engine.Need{engine.NeedInterpreters},
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, o) }),
	}
}
