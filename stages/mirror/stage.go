// SPDX-License-Identifier: Apache-2.0

// Package mirror implements the mirror stage: it copies every image, and what is
// published beside it, into the destination repository.
//
//	images   images.List, as discover left it
//	→ moved  Moved
//
// Manifests are copied byte for byte, so every digest stays; what a manifest
// names is there before the manifest is. A blob or manifest that several images
// share moves once. An index that the destination has is trusted to have its
// children, unless Check walks it. Blobs stream from registry to registry.
//
// The stage is not cached: a registry may have lost what it was given.
package mirror

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/engine/registry"
	"github.com/taped-dev/tape/stages/artifact"
	nouns "github.com/taped-dev/tape/stages/images"
)

// MediaType is of a Moved document.
const MediaType = "application/vnd.tape.moved.v1+json"

// Moved counts blobs by how they came into the destination; manifests are not
// among them. Bytes are of those that were sent.
type Moved struct {
	Blobs    int   `json:"blobs"` // sent
	Bytes    int64 `json:"bytes"`
	Mounted  int   `json:"mounted"`
	Existing int   `json:"existing"`
}

// Config of the stage.
type Config struct {
	// Repository to copy to, without tag or digest.
	Repository string `json:"repository"`
	// Check walks what the destination has.
	Check bool `json:"check,omitempty"`
}

// Stage is the mirror stage.
type Stage struct {
	client *registry.Client
	config Config
}

//go:embed config.schema.json
var configSchema json.RawMessage

// Kind is the stage's entry in the table of stages.
func Kind(client *registry.Client) pipeline.Kind {
	return pipeline.Kind{
		Name:    "mirror",
		Help:    "copy images, and what is published beside them, into the repository",
		Inputs:  []pipeline.Port{{Name: "images"}},
		Outputs: []string{"moved"},
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
	return &Stage{client: client, config: config}, nil
}

// Run implements engine.Stage.
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var list nouns.List
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["images"], nouns.MediaTypeList, &list); err != nil {
		return nil, err
	}
	dst, err := s.client.Repository(s.config.Repository)
	if err != nil {
		return nil, err
	}
	c := &copier{
		client: s.client, dst: dst, check: s.config.Check, report: t.Report,
		once: map[digest.Digest]*sync.Once{}, errs: map[digest.Digest]error{},
		referrers: map[digest.Digest][]ocispec.Descriptor{},
	}
	if err := c.images(ctx, list.Images); err != nil {
		return nil, err
	}
	out, err := engine.PutJSON(ctx, t.Store, MediaType, c.moved)
	return engine.Outputs{"moved": out}, err
}

// copier copies into one repository. The client bounds what is in flight, so
// every image, child and blob has a goroutine of its own: none of them holds
// anything while it waits for those below it.
type copier struct {
	client *registry.Client
	dst    *registry.Repository
	check  bool
	report func(engine.Event)

	mu        sync.Mutex
	once      map[digest.Digest]*sync.Once
	errs      map[digest.Digest]error
	referrers map[digest.Digest][]ocispec.Descriptor // to enter at the fallback tag, by subject
	moved     Moved
	sent      int64
	total     int64
}

// images copies the images, then what is related to them, then enters referrers
// where the registry did not.
func (c *copier) images(ctx context.Context, list []nouns.Image) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, image := range list {
		src, err := c.source(image)
		if err != nil {
			return err
		}
		g.Go(func() error {
			desc := ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size}
			if err := c.manifest(gctx, src, desc, manifestOptions{top: true}); err != nil {
				return fmt.Errorf("copy %s: %w", image.Source, err)
			}
			return nil
		})
		for _, r := range image.Related {
			if r.Via == nouns.Inline {
				continue // it is inside the image's index
			}
			g.Go(func() error {
				desc := ocispec.Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size}
				if err := c.manifest(gctx, src, desc, manifestOptions{top: true, tag: r.Tag, subject: r.Via == nouns.Referrer}); err != nil {
					return fmt.Errorf("copy the %s of %s: %w", r.Kind, image.Source, err)
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	g, gctx = errgroup.WithContext(ctx)
	for subject, entries := range c.referrers {
		slices.SortFunc(entries, func(a, b ocispec.Descriptor) int {
			if a.Digest < b.Digest {
				return -1
			}
			return 1
		})
		g.Go(func() error { return c.dst.AddReferrers(gctx, subject, entries...) })
	}
	return g.Wait()
}

// source is the repository that an image was resolved in.
func (c *copier) source(image nouns.Image) (*registry.Repository, error) {
	named, err := reference.ParseNormalizedNamed(image.Name)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.Name, err)
	}
	return c.client.Source(named.Name())
}

type manifestOptions struct {
	top     bool   // ask whether the destination has it
	tag     string // that it gets at the destination
	subject bool   // it was found as a referrer
}

// manifest copies a manifest or index with all below it, once.
func (c *copier) manifest(ctx context.Context, src *registry.Repository, desc ocispec.Descriptor, o manifestOptions) error {
	return c.only(desc.Digest, func() error {
		if o.top {
			there, err := c.has(ctx, desc, o)
			if err != nil {
				return err
			}
			if there && !c.check {
				return nil
			}
		}
		_, data, err := src.Manifest(ctx, desc.Digest.String())
		if err != nil {
			return err
		}
		if err := c.children(ctx, src, desc, data); err != nil {
			return err
		}
		if !o.subject {
			return c.dst.PushManifest(ctx, desc, data, o.tag)
		}
		subject, entry, err := registry.Referrer(desc, data)
		if err != nil {
			return err
		}
		registered, err := c.dst.PushSubject(ctx, desc, data)
		if err == nil && !registered {
			c.enter(subject, entry)
		}
		return err
	})
}

// has says whether the destination has a manifest where it belongs.
func (c *copier) has(ctx context.Context, desc ocispec.Descriptor, o manifestOptions) (bool, error) {
	if o.tag == "" {
		return c.dst.Exists(ctx, desc)
	}
	found, err := c.dst.Resolve(ctx, o.tag)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && found.Digest == desc.Digest, err
}

// children copies what a manifest names.
func (c *copier) children(ctx context.Context, src *registry.Repository, desc ocispec.Descriptor, data []byte) error {
	var m struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	if images.IsIndexType(desc.MediaType) {
		for _, child := range m.Manifests {
			g.Go(func() error { return c.manifest(ctx, src, child, manifestOptions{top: c.check}) })
		}
		return g.Wait()
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, blob := range m.Layers {
		// A layer that must not be distributed lies where its URLs say.
		if images.IsNonDistributable(blob.MediaType) || len(blob.URLs) > 0 {
			continue
		}
		g.Go(func() error { return c.blob(ctx, src, blob) })
	}
	return g.Wait()
}

func (c *copier) blob(ctx context.Context, src *registry.Repository, desc ocispec.Descriptor) error {
	return c.only(desc.Digest, func() error {
		c.progress(0, desc.Size)
		how, err := c.client.CopyBlob(ctx, c.dst, src, desc, func(n int64) { c.progress(n, 0) })
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		switch how {
		case registry.Mounted:
			c.moved.Mounted++
		case registry.Existing:
			c.moved.Existing++
		default:
			c.moved.Blobs++
			c.moved.Bytes += desc.Size
		}
		if how != registry.Streamed {
			c.total -= desc.Size
		}
		return nil
	})
}

// only runs do once for a digest; whoever else asks waits, and gets its error.
func (c *copier) only(dgst digest.Digest, do func() error) error {
	c.mu.Lock()
	once := c.once[dgst]
	if once == nil {
		once = &sync.Once{}
		c.once[dgst] = once
	}
	c.mu.Unlock()
	once.Do(func() {
		err := do()
		c.mu.Lock()
		c.errs[dgst] = err
		c.mu.Unlock()
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.errs[dgst]
}

func (c *copier) enter(subject digest.Digest, entry ocispec.Descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.referrers[subject] = append(c.referrers[subject], entry)
}

// progress tells of bytes that moved, or of more that will.
func (c *copier) progress(sent, more int64) {
	c.mu.Lock()
	c.sent += sent
	c.total += more
	event := engine.Event{Current: c.sent, Total: c.total, Unit: "bytes"}
	c.mu.Unlock()
	c.report(event)
}

var _ engine.Stage = (*Stage)(nil)
