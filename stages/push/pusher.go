// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// pusher pushes one artifact.
type pusher struct {
	repository *registry.Repository
	store      content.Provider
	tags       []string // of the root
	images     []images.Image
	mirrored   images.Moved

	root, content, statements ocispec.Descriptor
	rootData                  []byte
	signatures                []ocispec.Descriptor
	check                     bool

	was   map[string]digest.Digest // what tags lead to; "" is nothing
	whole bool                     // every tag of the application leads to it already
	moved func(transfer.MovedTag)

	mu sync.Mutex // guards mirrored.Referrers while manifests are pushed, blobs, and calls of moved
	// sent are the blobs that are pushed or on their way. Each is sent once:
	// docker-registry 2.8 refuses a manifest while a blob that it names, and that
	// the registry has, is written again.
	sent map[digest.Digest]func() error
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

// Tags are all that an application gets: those of its images and of what is related
// to them, then of its content, and of the root. An image's tag stands once.
func Tags(repository string, root, content ocispec.Descriptor, tags []string, list []images.Image) []transfer.Tagged {
	return slices.Concat(imageTags(repository, list), contentTags(content, tags), rootTags(root, tags))
}

func imageTags(repository string, list []images.Image) []transfer.Tagged {
	byName := map[string]ocispec.Descriptor{}
	for _, image := range list {
		byName[artifact.TagIn(repository, image)] = ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size}
		for _, related := range image.Related {
			if related.Via == images.Tag {
				byName[related.Tag] = ocispec.Descriptor{MediaType: related.MediaType, Digest: related.Digest, Size: related.Size}
			}
		}
	}
	var out []transfer.Tagged
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, transfer.Tagged{Tag: name, Desc: byName[name]})
	}
	return out
}

func contentTags(content ocispec.Descriptor, tags []string) []transfer.Tagged {
	var out []transfer.Tagged
	for _, tag := range tags {
		out = append(out, transfer.Tagged{Tag: artifact.ContentTag(tag), Desc: content})
	}
	return out
}

// rootTags has the tag that results are called by last.
func rootTags(root ocispec.Descriptor, tags []string) []transfer.Tagged {
	var out []transfer.Tagged
	for _, tag := range slices.Backward(tags) {
		out = append(out, transfer.Tagged{Tag: tag, Desc: root})
	}
	return out
}

func (p *pusher) all() []transfer.Tagged {
	return Tags(p.repository.Name(), p.root, p.content, p.tags, p.images)
}

// ask finds out what the tags lead to. Where those of the application lead to it
// already, the others were written before them, and are looked at with check only.
func (p *pusher) ask(ctx context.Context) (err error) {
	if p.mirrored.Empty {
		return nil
	}
	own := slices.Concat(contentTags(p.content, p.tags), rootTags(p.root, p.tags))
	if p.was, err = transfer.Was(ctx, p.repository, own); err != nil {
		return err
	}
	p.whole = !slices.ContainsFunc(own, func(t transfer.Tagged) bool { return p.was[t.Tag] != t.Desc.Digest })
	if p.whole && !p.check {
		return nil
	}
	others, err := transfer.Was(ctx, p.repository, imageTags(p.repository.Name(), p.images))
	maps.Copy(p.was, others)
	return err
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
		p.mirrored.Referrers = append(p.mirrored.Referrers, images.MovedReferrer{Subject: manifest.Subject.Digest, Digest: desc.Digest, Existing: there})
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
		group.Go(func() error { return p.blob(ctx, desc) })
	}
	return group.Wait()
}

// blob pushes a blob, or waits until it is pushed. One that fails ends the run.
func (p *pusher) blob(ctx context.Context, desc ocispec.Descriptor) error {
	p.mu.Lock()
	if p.sent == nil {
		p.sent = map[digest.Digest]func() error{}
	}
	send, ok := p.sent[desc.Digest]
	if !ok {
		send = sync.OnceValue(func() error {
			_, err := p.repository.PushBlob(ctx, desc, func() (io.ReadCloser, error) { return p.open(ctx, desc) })
			return err
		})
		p.sent[desc.Digest] = send
	}
	p.mu.Unlock()
	return send()
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
	for _, r := range p.mirrored.Referrers {
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

// setTags sets tags side by side, but those that are set.
func (p *pusher) setTags(ctx context.Context, tags []transfer.Tagged) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, tag := range tags {
		group.Go(func() error { return p.setTag(ctx, tag) })
	}
	return group.Wait()
}

func (p *pusher) setTag(ctx context.Context, tag transfer.Tagged) error {
	was := p.was[tag.Tag]
	if was == tag.Desc.Digest {
		return nil
	}
	desc, data, err := p.manifestOf(ctx, tag.Desc.Digest)
	if err == nil {
		err = p.repository.PushManifest(ctx, desc, data, tag.Tag)
	}
	if err != nil || was == "" {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved(transfer.MovedTag{Tag: tag.Tag, Was: was, Is: tag.Desc.Digest})
	return nil
}

// manifestOf is a manifest that is in the repository, or that this run made.
func (p *pusher) manifestOf(ctx context.Context, dgst digest.Digest) (ocispec.Descriptor, []byte, error) {
	switch dgst {
	case p.root.Digest:
		return p.root, p.rootData, nil
	case p.content.Digest:
		data, err := engine.Get(ctx, p.store, p.content)
		return p.content, data, err
	}
	return p.repository.Manifest(ctx, dgst.String())
}

func (p *pusher) imageTags(ctx context.Context) error {
	return p.setTags(ctx, imageTags(p.repository.Name(), p.images))
}

func (p *pusher) contentTags(ctx context.Context) error {
	return p.setTags(ctx, contentTags(p.content, p.tags))
}

// rootTags sets the tag that results are called by last.
func (p *pusher) rootTags(ctx context.Context) error {
	for _, tag := range rootTags(p.root, p.tags) {
		if err := p.setTag(ctx, tag); err != nil {
			return err
		}
	}
	return nil
}
