// SPDX-License-Identifier: Apache-2.0

// Package push implements the push stage: it uploads content, statements and
// root, and then sets the tags, the one that people use last. Whoever sees a tag
// finds everything that it leads to.
//
//	root     the root index; its content and attestation manifests, and their
//	         blobs, are in the store
//	tags     artifact.Tags, the first one is what results are called by
//	images   images.List: which tag each image gets
//	moved    of mirror: that images and what is beside them are there
//	→ pushed Pushed
//
// The stage is not cached: a registry may have lost what it was given.
package push

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/engine/registry"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// MediaType is of the document that says what was pushed.
const MediaType = "application/vnd.tape.pushed.v1+json"

// Pushed says where everything is now.
type Pushed struct {
	Repository string        `json:"repository"`
	Root       string        `json:"root"`    // REPO:TAG@DIGEST
	Content    string        `json:"content"` // REPO:manifests.TAG@DIGEST
	Tags       []string      `json:"tags"`
	Images     []PushedImage `json:"images"` // sorted by source
}

// PushedImage is an image under the name that the manifests have for it.
type PushedImage struct {
	Source string        `json:"source"`
	Digest digest.Digest `json:"digest"`
	Ref    string        `json:"ref"`
}

// Config of the stage.
type Config struct {
	// Repository to push to, without tag or digest.
	Repository string `json:"repository"`
}

// Stage is the push stage.
type Stage struct {
	client     *registry.Client
	repository string
}

//go:embed config.schema.json
var configSchema json.RawMessage

// Kind is the stage's entry in the table of stages.
func Kind(client *registry.Client) pipeline.Kind {
	return pipeline.Kind{
		Name:    "push",
		Help:    "upload content, statements and root, and set the tags",
		Inputs:  []pipeline.Port{{Name: "root"}, {Name: "tags"}, {Name: "images"}, {Name: "moved"}},
		Outputs: []string{"pushed"},
		Schema:  configSchema,
		New: func(with json.RawMessage) (engine.Stage, error) {
			var config Config
			if err := json.Unmarshal(with, &config); err != nil {
				return nil, fmt.Errorf("read options: %w", err)
			}
			return New(client, config)
		},
	}
}

// New makes the stage.
func New(client *registry.Client, config Config) (*Stage, error) {
	if err := artifact.CheckRepository(config.Repository); err != nil {
		return nil, err
	}
	return &Stage{client: client, repository: config.Repository}, nil
}

// parallelTags is how many tags are set at once; the client bounds requests.
const parallelTags = 64

// Run implements engine.Stage.
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var tags []string
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["tags"], artifact.MediaTypeTags, &tags); err != nil {
		return nil, err
	}
	if len(tags) == 0 {
		return nil, errors.New("the artifact has no tag")
	}
	var list images.List
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["images"], images.MediaTypeList, &list); err != nil {
		return nil, err
	}
	repo, err := s.client.Repository(s.repository)
	if err != nil {
		return nil, err
	}
	root := t.Inputs["root"]
	rootData, err := engine.Get(ctx, t.Store, root)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(rootData, &index); err != nil {
		return nil, fmt.Errorf("read root: %w", err)
	}

	// By digest first: nothing is seen yet.
	var content ocispec.Descriptor
	var contentData []byte
	for _, child := range index.Manifests {
		switch child.Annotations[artifact.AnnotationRole] {
		case artifact.RoleContent:
			content = child
			if contentData, err = s.pushManifest(ctx, t, repo, child); err != nil {
				return nil, fmt.Errorf("push content: %w", err)
			}
		case artifact.RoleAttestations:
			if _, err := s.pushManifest(ctx, t, repo, child); err != nil {
				return nil, fmt.Errorf("push statements: %w", err)
			}
		}
	}
	if content.Digest == "" {
		return nil, errors.New("the root has no content")
	}
	if err := s.push(ctx, repo, root, rootData, ""); err != nil {
		return nil, fmt.Errorf("push root: %w", err)
	}

	pushed := Pushed{Repository: s.repository, Tags: tags, Images: []PushedImage{}}
	if err := s.tagImages(ctx, t, repo, list.Images, &pushed); err != nil {
		return nil, err
	}
	for _, tag := range tags {
		if err := s.push(ctx, repo, content, contentData, artifact.ContentTag(tag)); err != nil {
			return nil, fmt.Errorf("tag content: %w", err)
		}
	}
	// The first tag last: it is the one that is printed.
	for _, tag := range slices.Backward(tags) {
		if err := s.push(ctx, repo, root, rootData, tag); err != nil {
			return nil, fmt.Errorf("tag root: %w", err)
		}
	}
	pushed.Root = fmt.Sprintf("%s:%s@%s", s.repository, tags[0], root.Digest)
	pushed.Content = fmt.Sprintf("%s:%s@%s", s.repository, artifact.ContentTag(tags[0]), content.Digest)
	out, err := engine.PutJSON(ctx, t.Store, MediaType, pushed)
	return engine.Outputs{"pushed": out}, err
}

// pushManifest pushes a manifest that is in the store, and its blobs before it.
func (s *Stage) pushManifest(ctx context.Context, t *engine.Task, repo *registry.Repository, desc ocispec.Descriptor) ([]byte, error) {
	data, err := engine.Get(ctx, t.Store, desc)
	if err != nil {
		return nil, err
	}
	if there, err := repo.Exists(ctx, desc); err != nil {
		return nil, err
	} else if there {
		return data, nil
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	g, blobs := errgroup.WithContext(ctx)
	seen := map[digest.Digest]bool{}
	for _, blob := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if seen[blob.Digest] {
			continue
		}
		seen[blob.Digest] = true
		g.Go(func() error {
			content, err := engine.Get(blobs, t.Store, blob)
			if err != nil {
				return err
			}
			_, err = repo.PushBlob(blobs, blob, func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(content)), nil
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if m.Subject != nil {
		return data, repo.PushReferrer(ctx, desc, data)
	}
	return data, repo.PushManifest(ctx, desc, data, "")
}

// push writes a manifest under a tag, or by digest, unless it is there.
func (s *Stage) push(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor, data []byte, tag string) error {
	at := tag
	if at == "" {
		at = desc.Digest.String()
	}
	switch found, err := repo.Resolve(ctx, at); {
	case err == nil && found.Digest == desc.Digest:
		return nil
	case err != nil && !errdefs.IsNotFound(err):
		return err
	}
	return repo.PushManifest(ctx, desc, data, tag)
}

// tagImages gives each image the tag that the manifests call it by.
func (s *Stage) tagImages(ctx context.Context, t *engine.Task, repo *registry.Repository, list []images.Image, pushed *Pushed) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelTags)
	seen := map[string]bool{}
	for _, image := range list {
		tag := artifact.TagIn(s.repository, image)
		pushed.Images = append(pushed.Images, PushedImage{
			Source: image.Source, Digest: image.Digest, Ref: artifact.ImageRef(s.repository, image),
		})
		if seen[tag] {
			continue
		}
		seen[tag] = true
		g.Go(func() error {
			desc := ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size}
			found, err := repo.Resolve(ctx, tag)
			if err == nil && found.Digest == desc.Digest {
				return nil
			}
			if err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("tag image %s: %w", image.Source, err)
			}
			_, data, err := repo.Manifest(ctx, image.Digest.String())
			if err == nil {
				err = repo.PushManifest(ctx, desc, data, tag)
			}
			if err != nil {
				return fmt.Errorf("tag image %s: %w", image.Source, err)
			}
			return nil
		})
	}
	return g.Wait()
}

var _ engine.Stage = (*Stage)(nil)
