// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/app/internal/cnab"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/resolve"
)

// BundleOptions are the options of FixupBundle and PushBundle.
type BundleOptions struct {
	Environment
	// Bundle is a CNAB bundle.json.
	Bundle []byte
	// Target is REPOSITORY[:TAG].
	Target string
	// From maps references or patterns to the places of images that are not in a registry.
	From map[string]local.Place
	// AutoUpdate replaces a digest in the bundle if the name now leads to another one. Missing
	// digests are always added.
	AutoUpdate bool
	// NoFallbacks fails if a registry refuses the media types of a bundle, instead of pushing the
	// bundle with older ones.
	NoFallbacks bool
}

// PullBundleOptions are the options of PullBundle.
type PullBundleOptions struct {
	Environment
	// Ref is REPOSITORY:TAG or REPOSITORY@DIGEST.
	Ref string
}

// BundleResult is a bundle whose images are in a registry.
type BundleResult struct {
	// Ref and Digest identify the index; they are empty if none was pushed.
	Ref    string        `json:"ref,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"`
	Images []BundleImage `json:"images"`
	// Bundle is the bundle.json: fixed up, or as it was pulled.
	Bundle json.RawMessage `json:"bundle"`
	// Relocation maps the names of images in the bundle to those in the repository.
	Relocation map[string]string `json:"relocationMap"`
	Moved      *transfer.Moved   `json:"moved,omitempty"`
	// MovedTags are the tags that led to something else before, nil if no tag was set.
	MovedTags []transfer.MovedTag `json:"moved_tags,omitzero"`
	Warnings  []string            `json:"warnings,omitempty"`
}

// BundleImage is an image of a bundle.
type BundleImage struct {
	Name   string        `json:"name,omitempty"` // of the component; "" for the invocation image
	Source string        `json:"source"`         // as the bundle names it
	Ref    string        `json:"ref"`            // where it is now
	Digest digest.Digest `json:"digest"`
}

// FixupBundle copies all images of a bundle into one repository, and adds their digest, size
// and media type to the bundle.
func FixupBundle(ctx context.Context, o BundleOptions) (*BundleResult, error) {
	return o.run(ctx, "fixup", false)
}

// PushBundle does what FixupBundle does, then pushes the index that cnab-to-oci would write,
// which lists the bundle and all its images by digest. It sets the tag after everything else.
func PushBundle(ctx context.Context, o BundleOptions) (*BundleResult, error) {
	return o.run(ctx, "push", true)
}

// bundling is the copying of a bundle into a repository.
type bundling struct {
	*cnab.Bundle
	origins    images.Origins
	from       resolve.From
	repository *registry.Repository
	copier     *transfer.Copier // into the repository
	tag        string
	result     *BundleResult
}

func (o *BundleOptions) run(ctx context.Context, verb string, push bool) (*BundleResult, error) {
	fail := func(err error) (*BundleResult, error) {
		return nil, fmt.Errorf("%s bundle to %s: %w", verb, o.Target, err)
	}
	to, err := parseReference(o.Target)
	if err == nil && to.Digest != "" {
		err = usagef("the digest of a bundle follows from its content: leave it out of the target")
	}
	if err != nil {
		return fail(err)
	}
	b := &bundling{origins: o.origins(), tag: to.Tag, result: &BundleResult{Relocation: map[string]string{}, Moved: &transfer.Moved{}}}
	if b.from, err = resolve.NewFrom(o.From, ""); err != nil {
		return fail(err)
	}
	if b.repository, err = o.Registry.Repository(to.Name); err != nil {
		return fail(err)
	}
	if b.Bundle, err = cnab.Parse(o.Bundle); err != nil {
		return fail(err)
	}
	progress := newMeter(o.Events, verb)
	options := transfer.Options{Progress: progress.Progress, TagMoved: func(m transfer.MovedTag) {
		b.result.MovedTags = append(b.result.MovedTags, m)
		progress.note(m.String())
	}}
	if err = b.fixup(ctx, o.AutoUpdate, transfer.ToRepository(o.Registry, b.repository), options); err == nil && push {
		err = b.push(ctx, o.NoFallbacks)
	}
	if progress.end(err); err != nil {
		return fail(err)
	}
	return b.result, nil
}

// fixup resolves all images before it copies the first, so that nothing is copied if one cannot
// be resolved.
func (b *bundling) fixup(ctx context.Context, replace bool, to transfer.Target, options transfer.Options) (err error) {
	sources := make([]images.Origin, len(b.Images))
	found := make([]ocispec.Descriptor, len(b.Images))
	err = atonce.Each(ctx, 0, b.Images, func(ctx context.Context, i int, image *cnab.Image) (err error) {
		if sources[i], found[i], err = b.resolve(ctx, image.Ref); err != nil {
			err = fmt.Errorf("%s: %w", image, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, image := range b.Images {
		if found, ok := sources[i].(*local.Source); ok && found.Warning() != "" {
			b.result.Warnings = append(b.result.Warnings, fmt.Sprintf("%s: %s", image, found.Warning()))
		}
		if err := image.Describe(found[i], replace); err != nil {
			return err
		}
		ref := b.repository.Name() + "@" + found[i].Digest.String()
		b.result.Relocation[image.Ref] = ref
		b.result.Images = append(b.result.Images, BundleImage{Name: image.Name, Source: image.Ref, Ref: ref, Digest: found[i].Digest})
	}
	if options.Empty, err = to.Empty(ctx); err != nil {
		return err
	}
	b.copier = transfer.NewCopier(to, options)
	err = atonce.Each(ctx, atonce.Copies, b.Images, func(ctx context.Context, i int, image *cnab.Image) error {
		if _, err := b.copier.Manifest(ctx, sources[i], found[i]); err != nil {
			return fmt.Errorf("%s: %w", image, err)
		}
		return nil
	})
	if *b.result.Moved = b.copier.Moved(); err != nil {
		return err
	}
	b.result.Bundle, err = b.Canonical()
	return err
}

// resolve finds an image. It uses the tag latest if the reference has neither tag nor digest.
func (b *bundling) resolve(ctx context.Context, ref string) (images.Origin, ocispec.Descriptor, error) {
	named, err := imageref.Parse(ref)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	named = named.OrLatest()
	written := images.Reference{Source: ref, Name: named.String()}
	place := b.from.Of(written)
	source, err := b.origins.Open(ctx, named.String(), place)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	desc, err := source.Resolve(ctx, named.Version())
	if errdefs.IsNotFound(err) && place == "" {
		err = resolve.Elsewhere(ctx, b.origins.Local, written, err)
	}
	return source, desc, err
}

// push pushes the index in the first dialect that the registry accepts.
func (b *bundling) push(ctx context.Context, noFallbacks bool) error {
	dialects := cnab.Dialects()
	for i, dialect := range dialects {
		docs, err := b.Documents(dialect)
		if err != nil {
			return err
		}
		err = b.documents(ctx, docs)
		switch {
		case err == nil:
			b.result.Digest = docs.Index.Desc.Digest
			b.result.Ref = imageref.Reference{Name: b.repository.Name(), Tag: b.tag, Digest: docs.Index.Desc.Digest}.String()
			return nil
		case !errdefs.IsInvalidArgument(err) && !errdefs.IsNotImplemented(err) || i == len(dialects)-1:
			return err
		case noFallbacks:
			return advice.Add(err, advice.AllowFallbacks)
		}
		next := dialects[i+1]
		b.result.Warnings = append(b.result.Warnings, fmt.Sprintf("the registry refuses it with a config of %s in %s; it was pushed with %s in %s: %v",
			dialect.Config, dialect.Index, next.Config, next.Index, err))
	}
	return nil
}

func (b *bundling) documents(ctx context.Context, docs cnab.Documents) error {
	own := store.NewOverlay(nil)
	if err := artifact.Put(ctx, own, docs.Config, docs.Manifest, docs.Index); err != nil {
		return err
	}
	from := &transfer.Made{Provider: own, Root: docs.Index.Desc}
	if err := b.copier.Manifests(ctx, from, from.Root); err != nil {
		return err
	}
	b.result.MovedTags = []transfer.MovedTag{}
	if b.tag == "" {
		return nil
	}
	return b.copier.Tag(ctx, from, from.Root, b.tag)
}

// PullBundle reads a bundle that tape or cnab-to-oci pushed: its bundle.json byte for byte, and
// the names of its images.
func PullBundle(ctx context.Context, o PullBundleOptions) (*BundleResult, error) {
	result, err := pullBundle(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, fmt.Errorf("pull bundle %s: %w", o.Ref, err)
	}
	return result, nil
}

func pullBundle(ctx context.Context, client *registry.Client, ref string) (*BundleResult, error) {
	r, err := parseReference(ref)
	if err != nil {
		return nil, err
	}
	if r.Version() == "" {
		return nil, usagef("it has no tag and no digest; add one, such as %s:v1.0.0", ref)
	}
	from, err := client.Repository(r.Name)
	if err != nil {
		return nil, err
	}
	desc, data, err := from.Manifest(ctx, r.Version())
	if err != nil {
		return nil, err
	}
	if !cnab.IsIndex(desc.MediaType) {
		return nil, fmt.Errorf("it is not a CNAB bundle but %s", desc.MediaType)
	}
	var index ocispec.Index
	if err := descriptor.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	at, err := cnab.ConfigManifest(index)
	if err != nil {
		return nil, err
	}
	data, err = engine.Get(ctx, from, at)
	if err != nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", at.Digest, err)
	}
	r.Digest = desc.Digest
	result := &BundleResult{Ref: r.String(), Digest: desc.Digest}
	if result.Bundle, err = engine.Get(ctx, from, manifest.Config); err != nil {
		return nil, err
	}
	bundle, err := cnab.Parse(result.Bundle)
	if err != nil {
		return nil, err
	}
	if result.Relocation, err = bundle.RelocationMap(index, r.Name); err != nil {
		return nil, err
	}
	for _, i := range bundle.Images {
		now, err := digest.Parse(result.Relocation[i.Ref][len(r.Name)+1:])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i, err)
		}
		result.Images = append(result.Images, BundleImage{Name: i.Name, Source: i.Ref, Ref: result.Relocation[i.Ref], Digest: now})
	}
	return result, nil
}
