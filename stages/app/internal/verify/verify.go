// SPDX-License-Identifier: Apache-2.0

// Package verify walks the whole chain of an application, with nothing but the
// artifact and a key: the signature names the root by digest, the root everything
// else, and its statements how every byte of the manifests came about.
//
// Each link is looked at whatever became of the others, so that one look says all
// that is wrong. What cannot be asked (a registry that is down, or that wants a
// password) is an error and not a link: nothing is known then.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// asker is a place that can be asked for a blob without reading it.
type asker interface {
	Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error)
}

var _ asker = (*registry.Repository)(nil)

// Options say what the chain must hold on to.
type Options struct {
	// Key that signed the root.
	Key sign.Verifier
	// Bundle signs the root; nil: what is attached to it does.
	Bundle []byte
	// Deep reads every blob of a repository, which is asked for otherwise. In a
	// layout everything is read.
	Deep bool
	// Source is the URI of the repository that every source must be of; "" any.
	Source string
	// Commit that every source must be at, without modifications; "" any.
	Commit string
	// Tag that the root was found by in a repository: the content's must lead to the
	// content of this root, as there are deployers that take it alone. "" is none.
	Tag string
	// AllowOutside lets pods run images that are not in the root.
	AllowOutside bool
	// ImageKeys are keys of which one must have signed each image where it was
	// published; with none, nothing is looked for.
	ImageKeys []sign.Verifier
}

// Result is what `tape verify -o json` prints.
type Result struct {
	OK    bool          `json:"ok"`
	Root  digest.Digest `json:"root"`
	Links []Link        `json:"links"`
	// Warnings are what is no reason to refuse.
	Warnings []string `json:"warnings,omitempty"`
}

// Link is one link of the chain.
type Link struct {
	Name    string        `json:"name"`
	Subject digest.Digest `json:"subject"`
	OK      bool          `json:"ok"`
	// Outside says that it is an image that a pod runs and that is not in the root.
	Outside bool `json:"outside,omitempty"`
	// Reason why not; of a link that holds, what is to be said of it.
	Reason string `json:"reason,omitempty"`
}

// chain is one verification.
type chain struct {
	place  layout.Repository
	app    *artifact.Application
	o      Options
	images map[digest.Digest]bool // that the root lists
	slots  chan struct{}

	mu       sync.Mutex
	warnings []string
	fatal    error // why nothing can be said
}

// parallel is how much is read at once; a registry's client has bounds of its
// own below it.
const parallel = 64

// part is a number of links that are looked at together.
type part func(ctx context.Context) []Link

// Application verifies the application at a root that was resolved.
func Application(ctx context.Context, place layout.Repository, root ocispec.Descriptor, o Options) (*Result, error) {
	c := &chain{place: place, o: o, images: map[digest.Digest]bool{}, slots: make(chan struct{}, parallel)}
	app, err := artifact.OpenRoot(ctx, place, root)
	if err != nil {
		if c.stop(err); c.fatal != nil {
			return nil, c.fatal
		}
		return &Result{Root: root.Digest, Links: []Link{broken("root", root.Digest, err)}}, nil
	}
	c.app = app
	for _, child := range app.Children(artifact.RoleImage) {
		c.images[child.Digest] = true
	}
	parts := []part{c.signatures, c.contentTag, c.content, c.children, c.imageSignatures}
	links := make([][]Link, len(parts))
	var wait sync.WaitGroup
	for i, part := range parts {
		wait.Go(func() { links[i] = part(ctx) })
	}
	wait.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if c.fatal != nil {
		return nil, c.fatal
	}
	slices.Sort(c.warnings)
	r := &Result{OK: true, Root: root.Digest, Links: slices.Concat(links...), Warnings: c.warnings}
	for _, link := range r.Links {
		r.OK = r.OK && link.OK
	}
	return r, nil
}

// contentTag holds the content's tag against the content. A copy may have none.
func (c *chain) contentTag(ctx context.Context) []Link {
	if c.o.Tag == "" || c.app.Format == artifact.FormatOriginal {
		return nil
	}
	tag := artifact.ContentTag(c.o.Tag)
	found, err := c.place.Resolve(ctx, tag)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err == nil && found.Digest != c.app.Content.Digest {
		err = fmt.Errorf("it leads to %s: what deploys the tag %s alone, such as Argo CD, does not deploy this application", found.Digest, tag)
	}
	return []Link{c.link("tag "+tag, c.app.Content.Digest, err)}
}

// broken is a link that does not hold.
func broken(name string, subject digest.Digest, err error) Link {
	return Link{Name: name, Subject: subject, Reason: err.Error()}
}

// link holds unless there is an error, which may be one that ends it all.
func (c *chain) link(name string, subject digest.Digest, err error) Link {
	if err == nil {
		return Link{Name: name, Subject: subject, OK: true}
	}
	c.stop(err)
	return broken(name, subject, err)
}

// stop notes an error that says nothing about the application.
func (c *chain) stop(err error) {
	if !errdefs.IsUnavailable(err) && !errdefs.IsUnauthorized(err) && !errdefs.IsPermissionDenied(err) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fatal == nil {
		c.fatal = err
	}
}

func (c *chain) warn(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// slot runs do when there is room; do must not wait for what needs room too.
func (c *chain) slot(ctx context.Context, do func() error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return do()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read reads a blob of at most limit bytes from the place itself, even where its
// descriptor carries it along.
func (c *chain) read(ctx context.Context, desc ocispec.Descriptor, limit int64) (data []byte, err error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%q: %w", desc.Digest, err)
	}
	if desc.Size < 0 || desc.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes; %d are allowed", desc.Digest, desc.Size, limit)
	}
	err = c.slot(ctx, func() error {
		ra, err := c.place.ReaderAt(ctx, desc)
		if err != nil {
			return err
		}
		defer ra.Close()
		if ra.Size() != desc.Size {
			return fmt.Errorf("%s has %d bytes, not %d: %w", desc.Digest, ra.Size(), desc.Size, errdefs.ErrDataLoss)
		}
		data, err = io.ReadAll(content.NewReader(ra))
		return err
	})
	if err == nil && desc.Digest.Algorithm().FromBytes(data) != desc.Digest {
		err = fmt.Errorf("%s came with another digest: %w", desc.Digest, errdefs.ErrDataLoss)
	}
	return data, err
}
