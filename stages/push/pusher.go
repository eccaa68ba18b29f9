// SPDX-License-Identifier: Apache-2.0

package push

import (
	"context"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// pusher pushes one artifact.
type pusher struct {
	repository *registry.Repository
	copier     *transfer.Copier // to it
	made       *transfer.Made   // root, content, statements and signatures
	tags       []string         // of the root
	images     []images.Image
	mirrored   images.Moved
	check      bool

	content, statements ocispec.Descriptor
	elsewhere           map[digest.Digest]bool // what else the root lists: mirror copied it
	rootData            []byte
	signatures          []ocispec.Descriptor

	was   map[string]digest.Digest // the digests of tags; "" if there is none
	whole bool                     // every tag of the application leads to it already
}

type step struct {
	what string
	do   func(context.Context) error
}

// steps returns the steps in an order in which no reader finds anything incomplete.
func (p *pusher) steps() []step {
	signatures := step{"signatures", func(ctx context.Context) error { return p.manifests(ctx, p.signatures...) }}
	if p.whole && !p.check {
		// It may have been signed by another key, or not at all.
		p.mirrored.Referrers = nil
		return []step{signatures, {"referrers", p.referrers}}
	}
	return []step{
		{"content and statements", func(ctx context.Context) error { return p.manifests(ctx, p.content, p.statements) }},
		{"root", func(ctx context.Context) error { return p.manifests(ctx, p.made.Root) }},
		signatures,
		{"referrers", p.referrers},
		{"tags of images", p.tagged(0, p.repository, imageTags(p.repository.Name(), p.images))},
		{"tags of content", p.tagged(0, p.made, contentTags(p.content, p.tags))},
		{"tags", p.tagged(1, p.made, rootTags(p.made.Root, p.tags))}, // one after the other
	}
}

// Tags returns all tags of an application: those of its images and related manifests, of its
// content, and of the root. A tag of an image is listed once.
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

// rootTags returns the tags of the root. The one by which results name it comes last.
func rootTags(root ocispec.Descriptor, tags []string) []transfer.Tagged {
	var out []transfer.Tagged
	for _, tag := range slices.Backward(tags) {
		out = append(out, transfer.Tagged{Tag: tag, Desc: root})
	}
	return out
}

// ask looks up the tags. If those of the application lead to it already, the others were
// written before them, and are looked up only with Check.
func (p *pusher) ask(ctx context.Context) (err error) {
	own := slices.Concat(contentTags(p.content, p.tags), rootTags(p.made.Root, p.tags))
	if p.was, err = p.copier.Plan(ctx, own); err != nil {
		return err
	}
	p.whole = !slices.ContainsFunc(own, func(t transfer.Tagged) bool { return p.was[t.Tag] != t.Desc.Digest })
	if p.whole && !p.check {
		return nil
	}
	others, err := p.copier.Plan(ctx, imageTags(p.repository.Name(), p.images))
	maps.Copy(p.was, others)
	return err
}

// isKnown reports whether something need not be asked for: the root is always written, and
// mirror has copied what it lists besides content and statements.
func (p *pusher) isKnown(_ layout.Repository, desc ocispec.Descriptor) (there, known bool) {
	return p.elsewhere[desc.Digest], p.elsewhere[desc.Digest] || desc.Digest == p.made.Root.Digest
}

// manifests pushes manifests that are in the store. One that is already there is probably
// listed.
func (p *pusher) manifests(ctx context.Context, list ...ocispec.Descriptor) error {
	return atonce.Each(ctx, 0, list, func(ctx context.Context, _ int, desc ocispec.Descriptor) error {
		there, err := p.copier.Manifest(ctx, p.made, desc)
		if err != nil || !there {
			return err
		}
		data, err := engine.Get(ctx, p.made, desc)
		if err != nil {
			return err
		}
		if subject, _, err := registry.Referrer(desc, data); err == nil {
			p.copier.Note(transfer.Referrer{Subject: subject, Manifest: desc, Existing: true})
		}
		return nil
	})
}

// referrers adds manifests to the fallback tags of their subjects if the registry does not list
// them itself.
func (p *pusher) referrers(ctx context.Context) error {
	p.copier.Note(p.mirrored.Referrers...)
	return p.copier.List(ctx, nil)
}

// tagged sets tags, except those that are already set, at most limit of them concurrently.
func (p *pusher) tagged(limit int, from layout.Repository, tags []transfer.Tagged) func(context.Context) error {
	return func(ctx context.Context) error {
		return atonce.Each(ctx, limit, tags, func(ctx context.Context, _ int, tag transfer.Tagged) error {
			return p.copier.Tag(ctx, from, tag.Desc, tag.Tag)
		})
	}
}
