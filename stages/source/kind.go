// SPDX-License-Identifier: Apache-2.0

package source

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
		Name:    "source",
		Help:    "read exactly the files that a render will read, and find out where they come from",
		Outputs: []string{"files", "facts", "request"},
		Schema:  configSchema,
		Needs:   []engine.Need{engine.NeedFiles, engine.NeedInterpreters},
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, o) }),
	}
}
