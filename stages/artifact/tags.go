// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/stages/images"
)

// Tagged is a manifest of an application, and a tag of it in the root's repository.
type Tagged = transfer.Tagged

// refused is of an application that asks for what none may.
type refused struct{ error }

func (e refused) Unwrap() []error { return []error{e.error, engine.ErrPolicy} }

// checkTags returns an error for a tag that a child of the root may not have. A root is
// untrusted, and its readers move the tags that it names: it may only name those that no other
// manifest has, which end in its own digest.
func (a *Application) checkTags() error {
	if a.Format != Format {
		return nil
	}
	given := map[string]digest.Digest{}
	for _, child := range a.Index.Manifests {
		var want []string
		var tags []string
		switch child.Annotations[AnnotationRole] {
		case RoleImage:
			tags = tagsOf(child)
			for _, source := range Sources(child) {
				want = append(want, ImageTag(source, child.Digest))
				if _, tag := (images.Image{Name: source}).Repository(); strings.HasSuffix(tag, "."+short(child.Digest)) {
					want = append(want, tag)
				}
			}
		case RoleRelated:
			tags = list(child, AnnotationRelatedTag)
			to := digest.Digest(child.Annotations[AnnotationRelatedTo])
			if to.Validate() == nil {
				want = append(want, registry.FallbackTag(to)) // the list of referrers, which is never copied as a tag
				for _, suffix := range relatedSuffixes {
					want = append(want, registry.AttachedTag(to, suffix))
				}
			}
		}
		for _, tag := range tags {
			if !slices.Contains(want, tag) || strings.HasPrefix(tag, contentTagPrefix) {
				return refused{fmt.Errorf("it gives %s the tag %q, which is not one of that manifest: "+
					"an image has <name>.<tag>.%s, and what is about a manifest sha256-<its digest>.sig, .att or .sbom", child.Digest, tag, short(child.Digest))}
			}
			if other := given[tag]; other != "" && other != child.Digest {
				return refused{fmt.Errorf("it gives %s and %s the same tag %q", other, child.Digest, tag)}
			}
			given[tag] = child.Digest
		}
	}
	return nil
}

// relatedSuffixes are of the tags under which cosign before version 3 keeps what is
// about a manifest.
var relatedSuffixes = []string{".sig", ".att", ".sbom"}

// Tags returns the tags that children of the root have in its repository, which a copy of the
// application may set beside those of root and content. It is an error if a child is about a
// manifest that is not of the application.
func (a *Application) Tags(ctx context.Context) ([]Tagged, error) {
	var (
		out     []Tagged
		related []Tagged
	)
	for _, child := range a.Index.Manifests {
		switch child.Annotations[AnnotationRole] {
		case RoleImage:
			for _, tag := range tagsOf(child) {
				out = append(out, Tagged{Tag: tag, Desc: child})
			}
		case RoleRelated:
			if tag := RelatedTag(child); tag != "" {
				related = append(related, Tagged{Tag: tag, Desc: child})
			}
		}
	}
	if a.Format != Format || len(related) == 0 {
		return out, nil
	}
	inside, err := a.subjects(ctx, related)
	if err != nil {
		return nil, err
	}
	for _, r := range related {
		if to := r.Desc.Annotations[AnnotationRelatedTo]; !inside[digest.Digest(to)] {
			return nil, refused{fmt.Errorf("it gives %s the tag %q of what is about %s, which is not one of its images", r.Desc.Digest, r.Tag, to)}
		}
	}
	return append(out, related...), nil
}

// RelatedTag returns the tag that a related child has, "" for none. A list of referrers is
// not copied as a tag: it would replace what others have entered there.
func RelatedTag(child ocispec.Descriptor) string {
	tag := child.Annotations[AnnotationRelatedTag]
	if tag == registry.FallbackTag(digest.Digest(child.Annotations[AnnotationRelatedTo])) {
		return ""
	}
	return tag
}

// subjects returns the manifests of the application's images that something may be about,
// and what is about those. Indexes are read only where one is asked for that the root
// does not list.
func (a *Application) subjects(ctx context.Context, related []Tagged) (map[digest.Digest]bool, error) {
	inside := map[digest.Digest]bool{}
	listed := append(a.Children(RoleImage), a.Children(RoleRelated)...)
	for _, child := range listed {
		inside[child.Digest] = true
	}
	for _, child := range listed {
		if !slices.ContainsFunc(related, func(r Tagged) bool { return !inside[digest.Digest(r.Desc.Annotations[AnnotationRelatedTo])] }) {
			break
		}
		// A platform may have been left out.
		below, err := transfer.BelowPresent(ctx, a.source, child, func(ocispec.Descriptor) {})
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", child.Digest, err)
		}
		for _, desc := range below {
			inside[desc.Digest] = true
		}
	}
	return inside, nil
}
