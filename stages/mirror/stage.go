// SPDX-License-Identifier: Apache-2.0

// Package mirror implements the mirror stage: it copies every image, and what is published
// beside it, into the destination repository.
//
//	images   images.List, as written by discover
//	→ moved  images.Moved
//
// Manifests are copied byte for byte, so that every digest is kept, and a manifest is pushed
// once everything that it names is there: first blobs, then manifests from the bottom up, then
// related manifests. A blob or manifest that several images share is copied once. Nothing is
// tagged, so an interrupted copy leaves no tag.
//
// An index that the destination has is trusted to have its children, and so is the root that
// was pushed there last; with Check they are walked instead. Layers that must not be
// distributed stay where their URLs lead.
//
// The stage is not cached, because a registry may have lost its content.
package mirror

import (
	"context"
	_ "embed"
	"encoding/json"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config of the stage.
type Config struct {
	// Repository to copy to, without tag or digest.
	Repository string `json:"repository"`
	// Check walks what the destination has instead of trusting it.
	Check bool `json:"check,omitempty"`
	// DryRun copies nothing, and counts what would be copied.
	DryRun bool `json:"dryRun,omitempty"`
}

// Kind is the stage's entry in the table of stages.
func Kind(origins images.Origins, shared *transfer.Shared) pipeline.Kind {
	return pipeline.Kind{
		Name:    "mirror",
		Help:    "copy images, and what is published beside them, into the repository",
		Inputs:  []pipeline.Port{{Name: "images"}},
		Outputs: []string{"moved"},
		Schema:  configSchema,
		Effects: true,
		Needs:   []engine.Need{engine.NeedRegistries, engine.NeedLocalImages},
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, origins, shared) }),
	}
}

// Stage is the mirror stage.
type Stage struct {
	origins images.Origins
	config  Config
	shared  *transfer.Shared
}

// New returns the stage. Content that is shared with other runs is copied once; nil shares
// nothing.
func New(config Config, origins images.Origins, shared *transfer.Shared) (*Stage, error) {
	return &Stage{origins: origins, config: config, shared: shared}, engine.Mistaken("repository", artifact.CheckRepository(config.Repository))
}

// Run implements engine.Stage.
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var list images.List
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["images"], images.MediaTypeList, &list); err != nil {
		return nil, err
	}
	dst, err := s.origins.Registry.Repository(s.config.Repository)
	if err != nil {
		return nil, err
	}
	m := &mirroring{Stage: s, dst: dst}
	moved, err := m.copy(ctx, list.Images, t.Report)
	if err != nil {
		return nil, err
	}
	out, err := engine.PutJSON(ctx, t.Store, images.MediaTypeMoved, moved)
	return engine.Outputs{"moved": out}, err
}
