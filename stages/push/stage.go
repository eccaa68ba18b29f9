// SPDX-License-Identifier: Apache-2.0

// Package push implements the push stage: it uploads content, statements and root, and then
// sets the tags, last the one that people use. Everything behind a visible tag is complete.
//
//	root     the root index; its content and attestation manifests, and their
//	         blobs, are in the store
//	tags     artifact.MediaTypeTags, the first one is what results are called by
//	images   images.List: which tag each image gets
//	moved    images.Moved of mirror: that images and what is beside them are there
//	signatures  of root and content, optional: an index of their manifests
//	→ pushed Pushed
//
// Content, statements, root and signatures are first pushed by digest. Then come the lists of
// referrers and the tags of signatures, which readers of a digest look for, and last the tags
// of the images, of the content, and of the root. An interrupted push has changed no tag that
// leads to anything incomplete.
//
// If every tag leads to this root already, only signatures are pushed, because the tags were
// written last; Check looks at everything.
//
// Every tag that led to something else before is reported.
//
// The stage is not cached, because a registry may have lost its content.
package push

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// MediaType is the media type of a [Pushed] document.
const MediaType = "application/vnd.tape.pushed.v1+json"

// Pushed describes what was pushed.
type Pushed struct {
	Repository string        `json:"repository"`
	Root       string        `json:"root"`    // REPO:TAG@DIGEST
	Content    string        `json:"content"` // REPO:manifests.TAG@DIGEST
	Tags       []string      `json:"tags"`
	Images     []PushedImage `json:"images"` // sorted by source
	// MovedTags are the tags that led to something else before, sorted.
	MovedTags []transfer.MovedTag `json:"moved_tags"`
}

// PushedImage is an image under the name that the manifests use.
type PushedImage struct {
	Source string        `json:"source"`
	Digest digest.Digest `json:"digest"`
	Ref    string        `json:"ref"`
}

//go:embed config.schema.json
var configSchema json.RawMessage

// Config of the stage.
type Config struct {
	// Repository to push to, without tag or digest.
	Repository string `json:"repository"`
	// Check looks at what the destination has even if its tags are correct.
	Check bool `json:"check,omitempty"`
	// Immutable refuses to move a tag that leads to another root.
	Immutable bool `json:"immutable,omitempty"`
}

// Kind is the stage's entry in the table of stages.
func Kind(client *registry.Client) pipeline.Kind {
	return pipeline.Kind{
		Name:    "push",
		Help:    "upload content, statements and root, and set the tags",
		Inputs:  []pipeline.Port{{Name: "root"}, {Name: "tags"}, {Name: "images"}, {Name: "moved"}, {Name: "signatures", Optional: true}},
		Outputs: []string{"pushed"},
		Schema:  configSchema,
		Effects: true,
		Needs:   []engine.Need{engine.NeedRegistries},
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, client) }),
	}
}

// Stage is the push stage.
type Stage struct {
	client *registry.Client
	config Config
}

// New returns the stage.
func New(config Config, client *registry.Client) (*Stage, error) {
	return &Stage{client: client, config: config}, engine.Mistaken("repository", artifact.CheckRepository(config.Repository))
}

// Run implements engine.Stage.
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	p := pusher{made: &transfer.Made{Provider: t.Store, Root: t.Inputs["root"]}, check: s.config.Check}
	if err := p.read(ctx, t.Inputs); err != nil {
		return nil, err
	}
	repository, err := s.client.Repository(s.config.Repository)
	if err != nil {
		return nil, err
	}
	p.repository = repository
	p.copier = transfer.NewCopier(transfer.ToRepository(s.client, repository), transfer.Options{
		Check: s.config.Check, Empty: p.mirrored.Empty, Known: p.isKnown,
		TagMoved: func(m transfer.MovedTag) { t.Report(engine.Event{Level: engine.Note, Message: m.String()}) },
	})
	if err := p.ask(ctx); err != nil {
		return nil, fmt.Errorf("push tags: %w", err)
	}
	moves := transfer.Moves(Tags(repository.Name(), p.made.Root, p.content, p.tags, p.images), p.was)
	if err := transfer.Taken(moves); s.config.Immutable && err != nil {
		return nil, fmt.Errorf("push to %s: %w", p.repository.Name(), err)
	}
	for _, step := range p.steps() {
		err := step.do(ctx)
		if registry.Refused(err) {
			err = advice.Add(err, advice.SaveInstead)
		}
		if err != nil {
			return nil, fmt.Errorf("push %s: %w", step.what, err)
		}
	}
	p.repository.Remember(ctx, p.made.Root, p.rootData)
	pushed := Describe(p.repository.Name(), p.made.Root.Digest, p.content.Digest, p.tags, p.images)
	pushed.MovedTags = moves
	out, err := engine.PutJSON(ctx, t.Store, MediaType, pushed)
	return engine.Outputs{"pushed": out}, err
}

// read reads the inputs.
func (p *pusher) read(ctx context.Context, inputs map[string]ocispec.Descriptor) error {
	var list images.List
	err := errors.Join(
		engine.GetJSON(ctx, p.made, inputs["tags"], artifact.MediaTypeTags, &p.tags),
		engine.GetJSON(ctx, p.made, inputs["images"], images.MediaTypeList, &list),
		engine.GetJSON(ctx, p.made, inputs["moved"], images.MediaTypeMoved, &p.mirrored),
	)
	if err != nil {
		return err
	}
	if signatures, ok := inputs["signatures"]; ok {
		if p.signatures, err = artifact.Signatures(ctx, p.made, signatures); err != nil {
			return err
		}
	}
	p.images = list.Images
	if len(p.tags) == 0 {
		return errors.New("the artifact has no tag")
	}
	for _, tag := range p.tags {
		if err := artifact.CheckTag(tag); err != nil {
			return err
		}
	}
	if p.rootData, err = engine.Get(ctx, p.made, p.made.Root); err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(p.rootData, &index); err != nil {
		return fmt.Errorf("read root: %w", err)
	}
	p.elsewhere = map[digest.Digest]bool{}
	for _, child := range index.Manifests {
		switch child.Annotations[artifact.AnnotationRole] {
		case artifact.RoleContent:
			p.content = child
		case artifact.RoleAttestations:
			p.statements = child
		default:
			p.elsewhere[child.Digest] = true
		}
	}
	if p.content.Digest == "" || p.statements.Digest == "" {
		return errors.New("the root has no content or no statements")
	}
	return nil
}

// Describe returns the description of what is pushed.
func Describe(repository string, root, content digest.Digest, tags []string, list []images.Image) Pushed {
	pushed := Pushed{
		Repository: repository,
		Root:       repository + ":" + tags[0] + "@" + root.String(),
		Content:    repository + ":" + artifact.ContentTag(tags[0]) + "@" + content.String(),
		Tags:       tags,
		Images:     []PushedImage{},
		MovedTags:  []transfer.MovedTag{},
	}
	for _, image := range list {
		pushed.Images = append(pushed.Images, PushedImage{
			Source: image.Source, Digest: image.Digest, Ref: artifact.ImageRef(repository, image),
		})
	}
	return pushed
}
