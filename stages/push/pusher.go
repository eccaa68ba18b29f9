// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/registry"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// pusher pushes one artifact.
type pusher struct {
	repository *registry.Repository
	store      content.Provider
	tags       []string // of the root
	images     []images.Image
	moved      images.Moved

	root, content, statements ocispec.Descriptor
	rootData                  []byte
	signatures                []ocispec.Descriptor
	check                     bool

	replaced []string // what tags led to before, in words

	mu sync.Mutex // guards moved.Referrers while manifests are pushed
}

type step struct {
	what string
	do   func(context.Context) error
}

// steps are in the order in which a reader may look.
func (p *pusher) steps() []step {
	return []step{
		{"content and statements", p.contentAndStatements},
		{"root", func(ctx context.Context) error { return p.repository.PushManifest(ctx, p.root, p.rootData, "") }},
		{"signatures", p.signed},
		{"referrers", p.referrers},
		{"tags of images", p.imageTags},
		{"tags of content", p.contentTags},
		{"tags", p.rootTags},
	}
}

// tagged reports whether every tag of the artifact leads to it already, and notes those
// of the root that lead elsewhere.
func (p *pusher) tagged(ctx context.Context) (bool, error) {
	whole := true
	for _, tag := range p.tags {
		found, err := p.repository.Digest(ctx, tag)
		switch {
		case errdefs.IsNotFound(err):
			whole = false
		case err != nil:
			return false, err
		case found != p.root.Digest:
			whole = false
			p.replaced = append(p.replaced, fmt.Sprintf("tag %s was %s until now", tag, found))
		}
	}
	for _, tag := range p.tags {
		if !whole {
			break
		}
		var err error
		if whole, err = p.has(ctx, artifact.ContentTag(tag), p.content.Digest); err != nil {
			return false, err
		}
	}
	return whole, nil
}

func (p *pusher) contentAndStatements(ctx context.Context) error {
	return p.manifests(ctx, p.content, p.statements)
}

// signed pushes the signatures, which are entered as referrers later.
func (p *pusher) signed(ctx context.Context) error { return p.manifests(ctx, p.signatures...) }

func (p *pusher) manifests(ctx context.Context, descs ...ocispec.Descriptor) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, desc := range descs {
		group.Go(func() error { return p.manifest(ctx, desc) })
	}
	return group.Wait()
}

// manifest pushes a manifest that is in the store, after its blobs.
func (p *pusher) manifest(ctx context.Context, desc ocispec.Descriptor) error {
	data, err := engine.Get(ctx, p.store, desc)
	if err != nil {
		return err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	there := false
	if !p.check {
		if there, err = p.repository.Exists(ctx, desc); err != nil {
			return err
		}
	}
	registered := false
	if !there {
		if err := p.blobs(ctx, append(manifest.Layers, manifest.Config)); err != nil {
			return err
		}
		if registered, err = p.repository.PushSubject(ctx, desc, data); err != nil {
			return err
		}
	}
	if manifest.Subject != nil && !registered {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.moved.Referrers = append(p.moved.Referrers, images.MovedReferrer{Subject: manifest.Subject.Digest, Digest: desc.Digest, Existing: there})
	}
	return nil
}

func (p *pusher) blobs(ctx context.Context, descs []ocispec.Descriptor) error {
	once := map[digest.Digest]ocispec.Descriptor{}
	for _, desc := range descs {
		once[desc.Digest] = desc
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, desc := range once {
		group.Go(func() error {
			_, err := p.repository.PushBlob(ctx, desc, func() (io.ReadCloser, error) { return p.open(ctx, desc) })
			return err
		})
	}
	return group.Wait()
}

func (p *pusher) open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := p.store.ReaderAt(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(ra, 0, ra.Size()), ra}, nil
}

// referrers enters manifests at the fallback tags of their subjects where the
// registry does not list them itself.
func (p *pusher) referrers(ctx context.Context) error {
	bySubject := map[digest.Digest][]images.MovedReferrer{}
	for _, r := range p.moved.Referrers {
		bySubject[r.Subject] = append(bySubject[r.Subject], r)
	}
	group, ctx := errgroup.WithContext(ctx)
	for about, referrers := range bySubject {
		group.Go(func() error {
			entries, err := p.unlisted(ctx, about, referrers)
			if err != nil || len(entries) == 0 {
				return err
			}
			return p.repository.AddReferrers(ctx, about, entries...)
		})
	}
	return group.Wait()
}

// unlisted makes the entries of a subject's referrers that are not listed.
func (p *pusher) unlisted(ctx context.Context, about digest.Digest, referrers []images.MovedReferrer) ([]ocispec.Descriptor, error) {
	var listed []ocispec.Descriptor
	if slices.ContainsFunc(referrers, func(r images.MovedReferrer) bool { return r.Existing }) {
		var err error
		if listed, err = p.repository.Referrers(ctx, about); err != nil {
			return nil, err
		}
	}
	var entries []ocispec.Descriptor
	for _, r := range referrers {
		if r.Existing && slices.ContainsFunc(listed, func(d ocispec.Descriptor) bool { return d.Digest == r.Digest }) {
			continue
		}
		desc, data, err := p.repository.Manifest(ctx, r.Digest.String())
		if err != nil {
			return nil, err
		}
		_, entry, err := registry.Referrer(desc, data)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// imageTags sets the tags of images, and of what is related to them.
func (p *pusher) imageTags(ctx context.Context) error {
	tags := map[string]digest.Digest{}
	for _, image := range p.images {
		tags[artifact.TagIn(p.repository.Name(), image)] = image.Digest
		for _, related := range image.Related {
			if related.Via == images.Tag {
				tags[related.Tag] = related.Digest
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for tag, dgst := range tags {
		group.Go(func() error {
			// What was copied just now has no tag yet.
			if _, copied := slices.BinarySearch(p.moved.Copied, dgst); !copied {
				if there, err := p.has(ctx, tag, dgst); there || err != nil {
					return err
				}
			}
			desc, data, err := p.repository.Manifest(ctx, dgst.String())
			if err != nil {
				return err
			}
			return p.repository.PushManifest(ctx, desc, data, tag)
		})
	}
	return group.Wait()
}

func (p *pusher) contentTags(ctx context.Context) error {
	data, err := engine.Get(ctx, p.store, p.content)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, tag := range p.tags {
		group.Go(func() error { return p.repository.PushManifest(ctx, p.content, data, artifact.ContentTag(tag)) })
	}
	return group.Wait()
}

// rootTags sets the tag that results are called by last.
func (p *pusher) rootTags(ctx context.Context) error {
	for _, tag := range slices.Backward(p.tags) {
		if err := p.repository.PushManifest(ctx, p.root, p.rootData, tag); err != nil {
			return err
		}
	}
	return nil
}

// has says whether a tag leads to a digest.
func (p *pusher) has(ctx context.Context, tag string, want digest.Digest) (bool, error) {
	found, err := p.repository.Digest(ctx, tag)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && found == want, err
}
