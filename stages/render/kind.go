// SPDX-License-Identifier: Apache-2.0

package render

import (
	_ "embed"
	"encoding/json"
	"fmt"

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
		New: func(with json.RawMessage) (engine.Stage, error) {
			var config Config
			if err := json.Unmarshal(with, &config); err != nil {
				return nil, fmt.Errorf("read options: %w", err)
			}
			return New(config, o)
		},
	}
}
