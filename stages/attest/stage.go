// SPDX-License-Identifier: Apache-2.0

// Package attest implements the attest stage: it writes in-toto statements about
// where the content came from and how each of its files was made.
//
//	facts/<source>       vcs.Facts
//	renderings/<source>  rendering.Rendering
//	references           images.Report
//	images               images.List
//	edits                images.Edits
//	listing              artifact.Listing
//	content              the content manifest
//	→ manifest           the attestation manifest; the statements, its layers,
//	                     are in the store
//
// The statements contain no secrets, and nothing that differs between runs or
// machines. The stage is not cached.
package attest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/vcs"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config configures the stage.
type Config struct {
	// Repository is the repository of the application, without tag or digest.
	Repository string `json:"repository"`
	// Fields are the image fields that the pipeline adds to the catalogue.
	Fields json.RawMessage `json:"fields,omitempty"`
	// SBOM adds an SPDX document about the application.
	SBOM bool `json:"sbom,omitempty"`
	// Version is the version of tape, for the provenance.
	Version string `json:"version,omitempty"`
	// Created is the creation time in the SBOM; zero means the time of the commit
	// (see artifact.SourceDateEpoch).
	Created time.Time `json:"created,omitzero"`
}

// Kind describes the stage to the table of stages.
func Kind() pipeline.Kind {
	return pipeline.Kind{
		Name: "attest",
		Help: "state where the manifests came from and how they were made",
		Inputs: []pipeline.Port{
			{Name: "facts", Many: true}, {Name: "renderings", Many: true}, {Name: "references"},
			{Name: "images"}, {Name: "edits"}, {Name: "listing"}, {Name: "content"},
		},
		Outputs: []string{"manifest"},
		Schema:  configSchema,
		New:     pipeline.Configured(New),
	}
}

// Stage is the attest stage.
type Stage struct {
	config Config
}

// New returns the stage, or an error if c.Repository is not valid.
func New(c Config) (*Stage, error) {
	return &Stage{config: c}, engine.Mistaken("repository", artifact.CheckRepository(c.Repository))
}

// known holds everything that the statements are made from.
type known struct {
	Config
	facts      []vcs.Facts
	renderings []rendering.Rendering
	report     images.Report
	images     images.List
	edits      images.Edits
	listing    artifact.Listing
}

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	k := known{Config: s.config}
	for _, input := range []struct {
		name, mediaType string
		into            any
	}{
		{"references", images.MediaTypeReport, &k.report},
		{"images", images.MediaTypeList, &k.images},
		{"edits", images.MediaTypeEdits, &k.edits},
		{"listing", artifact.MediaTypeListing, &k.listing},
	} {
		if err := engine.GetJSON(ctx, t.Store, t.Inputs[input.name], input.mediaType, input.into); err != nil {
			return nil, fmt.Errorf("%s: %w", input.name, err)
		}
	}
	var err error
	if k.facts, err = engine.GetAllJSON[vcs.Facts](ctx, t.Store, t.Many("facts"), vcs.MediaType); err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	if k.renderings, err = engine.GetAllJSON[rendering.Rendering](ctx, t.Store, t.Many("renderings"), rendering.MediaTypeRendering); err != nil {
		return nil, fmt.Errorf("renderings: %w", err)
	}
	if len(k.facts) == 1 && len(k.renderings) == 1 && k.facts[0].Environment == "" {
		// The name of a single source carries no information, and may be the name of the folder
		// that the repository was cloned into. The name of a source in an environment comes from
		// a pipeline file.
		k.facts[0].Name, k.renderings[0].Source = "", ""
	}
	content := t.Inputs["content"]

	for _, file := range k.unexplained() {
		t.Report(engine.Event{Level: "warning", Message: file + ": changed by a stage that does not record its edits: the statements do not explain the change"})
	}
	statements, err := k.statements(content.Digest)
	if err != nil {
		return nil, err
	}
	blobs, err := artifact.Attestations(content, statements)
	if err != nil {
		return nil, err
	}
	err = artifact.Put(ctx, t.Store, append([]artifact.Blob{artifact.Empty()}, blobs...)...)
	return engine.Outputs{"manifest": blobs[len(blobs)-1].Desc}, err
}
