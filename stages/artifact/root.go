// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/images"
)

// Root returns the index over the whole application: content first and without a
// platform, so that what resolves the root for a platform gets the manifests;
// then the attestation manifest, every image, and what is related to them.
// Neither the order of list nor that of what is in it matters.
func Root(repository string, content, attestations ocispec.Descriptor, list []images.Image, annotations map[string]string) (Blob, error) {
	for _, image := range list {
		if image.Digest == "" {
			return Blob{}, fmt.Errorf("image %s has no digest: it was not resolved", image.Name)
		}
	}
	all := map[string]string{}
	maps.Copy(all, annotations)
	all[AnnotationFormat] = Format

	children := []ocispec.Descriptor{
		{
			MediaType: content.MediaType, Digest: content.Digest, Size: content.Size,
			ArtifactType: ArtifactTypeContent,
			Annotations:  map[string]string{AnnotationRole: RoleContent},
		},
		{
			MediaType: attestations.MediaType, Digest: attestations.Digest, Size: attestations.Size,
			ArtifactType: ArtifactTypeAttestations,
			Platform:     unknownPlatform(),
			Annotations: map[string]string{
				AnnotationRole:            RoleAttestations,
				annotationReferenceType:   referenceAttestation,
				AnnotationReferenceDigest: content.Digest.String(),
			},
		},
	}
	children = append(children, imageChildren(repository, list)...)
	children = append(children, relatedChildren(list)...)

	data, err := engine.MarshalJSON(ocispec.Index{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageIndex,
		ArtifactType: ArtifactTypeApp,
		Manifests:    children,
		Annotations:  all,
	})
	if err != nil {
		return Blob{}, err
	}
	if len(data) > maxRoot {
		return Blob{}, tooLarge(len(data), list)
	}
	root := NewBlob(ocispec.MediaTypeImageIndex, data)
	root.Desc.ArtifactType = ArtifactTypeApp
	return root, nil
}

func unknownPlatform() *ocispec.Platform {
	return &ocispec.Platform{Architecture: "unknown", OS: "unknown"}
}

// imageChildren lists each digest once, with every name that it goes by.
func imageChildren(repository string, list []images.Image) []ocispec.Descriptor {
	byDigest := map[digest.Digest][]images.Image{}
	for _, image := range list {
		byDigest[image.Digest] = append(byDigest[image.Digest], image)
	}
	var out []ocispec.Descriptor
	for _, same := range byDigest {
		var sources, tags []string
		for _, image := range same {
			sources = append(sources, image.Name)
			tags = append(tags, TagIn(repository, image))
		}
		out = append(out, ocispec.Descriptor{
			MediaType: same[0].MediaType, Digest: same[0].Digest, Size: same[0].Size,
			Annotations: map[string]string{
				AnnotationRole:        RoleImage,
				AnnotationImageSource: joinSet(sources),
				AnnotationImageTag:    joinSet(tags),
			},
		})
	}
	slices.SortFunc(out, func(a, b ocispec.Descriptor) int {
		return cmp.Or(
			strings.Compare(a.Annotations[AnnotationImageSource], b.Annotations[AnnotationImageSource]),
			strings.Compare(string(a.Digest), string(b.Digest)),
		)
	})
	return out
}

// relatedChildren lists what was found beside the images. What travels inside
// an image's index is not listed again. What was found both by tag and as a
// referrer is listed with its tag.
func relatedChildren(list []images.Image) []ocispec.Descriptor {
	type key struct{ to, digest, tag string }
	found := map[key]images.Related{}
	for _, image := range list {
		for _, r := range image.Related {
			if r.Via != images.Inline {
				found[key{string(r.To), string(r.Digest), r.Tag}] = r
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(found), func(a, b key) int {
		return cmp.Or(strings.Compare(a.to, b.to), strings.Compare(a.digest, b.digest), strings.Compare(b.tag, a.tag))
	})
	var out []ocispec.Descriptor
	for i, k := range keys {
		if k.tag == "" && i > 0 && keys[i-1].to == k.to && keys[i-1].digest == k.digest {
			continue
		}
		r := found[k]
		child := ocispec.Descriptor{
			MediaType: r.MediaType, Digest: r.Digest, Size: r.Size,
			ArtifactType: r.ArtifactType,
			Platform:     unknownPlatform(),
			Annotations:  map[string]string{AnnotationRole: RoleRelated, AnnotationRelatedTo: string(r.To)},
		}
		if r.Tag != "" {
			child.Annotations[AnnotationRelatedTag] = r.Tag
		}
		out = append(out, child)
	}
	return out
}

func joinSet(values []string) string {
	slices.Sort(values)
	return strings.Join(slices.Compact(values), ",")
}

// tooLarge names what takes the most room in a root.
func tooLarge(size int, list []images.Image) error {
	type share struct {
		name    string
		related int
	}
	var shares []share
	for _, image := range list {
		n := 0
		for _, r := range image.Related {
			if r.Via != images.Inline {
				n++
			}
		}
		shares = append(shares, share{image.Name, n})
	}
	slices.SortFunc(shares, func(a, b share) int {
		return cmp.Or(cmp.Compare(b.related, a.related), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, s := range shares[:min(3, len(shares))] {
		names = append(names, fmt.Sprintf("%s (%s)", s.name, count.Of(s.related, "related manifest")))
	}
	return advice.Add(fmt.Errorf("the root index of %s would have %.1f MiB, and registries accept 4: most is of %s",
		count.Of(len(list), "image"), float64(size)/(1<<20), strings.Join(names, ", ")), advice.PackageRelated)
}
