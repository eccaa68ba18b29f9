// SPDX-License-Identifier: Apache-2.0

// Package index implements the index stage: it makes the root index, which reaches
// the whole application, and chooses the tags of the root.
//
//	content         the content manifest
//	layer           its layer
//	attestations    the attestation manifest
//	images          images.List
//	facts/<source>  vcs.Facts
//	→ root          the index
//	→ tags          artifact.MediaTypeTags
//	→ reason        MediaTypeReason: why the version tags of git are not used
//
// The root does not depend on its tags. The stage is not cached.
package index

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

// MediaTypeReason is the media type of a JSON string: the reason why the version tags of git are
// not used, or "".
const MediaTypeReason = "application/vnd.tape.tag-reason.v1+json"

//go:embed config.schema.json
var configSchema json.RawMessage

// Config configures the stage.
type Config struct {
	// Repository is the repository of the application, without tag or digest.
	Repository string `json:"repository"`
	// Tags are the tags of the root; if empty, those of artifact.DefaultTags.
	Tags []string `json:"tags,omitempty"`
	// Created is the creation time in the artifact's annotations; zero means the time
	// of the commit (see artifact.SourceDateEpoch).
	Created time.Time `json:"created,omitzero"`
}

// Kind describes the stage to the table of stages.
func Kind() pipeline.Kind {
	return pipeline.Kind{
		Name: "index",
		Help: "list the whole application in one index",
		Inputs: []pipeline.Port{
			{Name: "content"}, {Name: "layer"}, {Name: "attestations"}, {Name: "images"}, {Name: "facts", Many: true},
		},
		Outputs: []string{"root", "tags", "reason"},
		Schema:  configSchema,
		New:     pipeline.Configured(New),
	}
}

// Stage is the index stage.
type Stage struct {
	config Config
}

// New returns the stage, or an error if a name or tag in c is not valid.
func New(c Config) (*Stage, error) {
	if err := engine.Mistaken("repository", artifact.CheckRepository(c.Repository)); err != nil {
		return nil, err
	}
	for _, tag := range c.Tags {
		if err := engine.Mistaken("tags", artifact.CheckTag(tag)); err != nil {
			return nil, err
		}
	}
	return &Stage{config: c}, nil
}

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var list images.List
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["images"], images.MediaTypeList, &list); err != nil {
		return nil, err
	}
	facts, err := engine.GetAllJSON[vcs.Facts](ctx, t.Store, t.Many("facts"), vcs.MediaType)
	if err != nil {
		return nil, err
	}

	tags := s.tags(t, facts)
	if err := s.distinct(tags, list.Images); err != nil {
		return nil, err
	}
	root, err := artifact.Root(s.config.Repository, t.Inputs["content"], t.Inputs["attestations"], list.Images,
		artifact.Annotations(s.config.Repository, facts, s.config.Created))
	if err != nil {
		return nil, err
	}
	if err := artifact.Put(ctx, t.Store, root); err != nil {
		return nil, err
	}
	written, err := engine.PutJSON(ctx, t.Store, artifact.MediaTypeTags, tags)
	if err != nil {
		return nil, err
	}
	var reason string
	if len(s.config.Tags) == 0 {
		reason = artifact.TagReason(facts)
	}
	if reason != "" {
		t.Report(engine.Event{Level: engine.Note, Message: reason})
	}
	why, err := engine.PutJSON(ctx, t.Store, MediaTypeReason, reason)
	return engine.Outputs{"root": root.Desc, "tags": written, "reason": why}, err
}

// tags returns the configured tags in order without duplicates, or the default tags.
func (s *Stage) tags(t *engine.Task, facts []vcs.Facts) []string {
	if len(s.config.Tags) == 0 {
		return artifact.DefaultTags(facts, t.Inputs["layer"].Digest)
	}
	var out []string
	for _, tag := range s.config.Tags {
		if !slices.Contains(out, tag) {
			out = append(out, tag)
		}
	}
	return out
}

// distinct returns an error if another manifest of the application gets one of the tags: of two
// manifests pushed with the same tag, only the last would keep it.
func (s *Stage) distinct(tags []string, list []images.Image) error {
	taken := map[string]string{}
	for _, image := range list {
		taken[artifact.TagIn(s.config.Repository, image)] = "image " + image.Name
		for _, r := range image.Related {
			if r.Tag != "" {
				taken[r.Tag] = r.Kind + " of " + image.Name
			}
		}
	}
	for _, tag := range tags {
		for _, name := range []string{tag, artifact.ContentTag(tag)} {
			if other, ok := taken[name]; ok {
				return fmt.Errorf("tag %s is also the tag of the %s; choose another tag", name, other)
			}
			taken[name] = "application " + tag
		}
	}
	return nil
}
