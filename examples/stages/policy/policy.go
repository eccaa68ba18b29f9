// SPDX-License-Identifier: Apache-2.0

// Package policy is an example of a third-party stage: it rejects an application that runs
// images from registries that are not on its list.
//
// It passes the resolved images on unchanged, so a pipeline puts it between resolve and the
// stages that read them:
//
//	nodes:
//	  policy:
//	    inputs: {images: resolve.images}
//	    with: {registries: [ghcr.io, registry.example.com]}
//	  discover:
//	    inputs: {images: policy.images}
package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/images"
)

// Kind returns the kind of the policy stage, to be added to tape's own.
func Kind() pipeline.Kind {
	return pipeline.Kind{
		Name:    "policy",
		Help:    "reject images from registries that are not listed",
		Inputs:  []pipeline.Port{{Name: "images"}},
		Outputs: []string{"images"},
		Schema: json.RawMessage(`{
			"type": "object",
			"required": ["registries"],
			"additionalProperties": false,
			"properties": {
				"registries": {"type": "array", "minItems": 1, "items": {"type": "string"}, "description": "hosts that images may come from"}
			}
		}`),
		New: pipeline.Configured(func(s stage) (*stage, error) { return &s, nil }),
	}
}

type stage struct {
	Registries []string `json:"registries"`
}

func (s *stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	in := t.Inputs["images"]
	var list images.List
	if err := engine.GetJSON(ctx, t.Store, in, images.MediaTypeList, &list); err != nil {
		return nil, err
	}
	var refused []string
	for _, image := range list.Images {
		if host, _, _ := strings.Cut(image.Name, "/"); !slices.Contains(s.Registries, host) {
			l := image.Locations[0]
			refused = append(refused, fmt.Sprintf("%s at %s:%d", image.Source, l.File, l.Line))
		}
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("%w: images may come from %s only, not %s",
			engine.ErrPolicy, strings.Join(s.Registries, ", "), strings.Join(refused, "; "))
	}
	return engine.Outputs{"images": in}, nil
}

var _ engine.Stage = (*stage)(nil)
