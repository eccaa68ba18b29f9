// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/imageref"
)

// Archive describes the index.json of an archive.
type Archive struct {
	// Images are the root's images, and Names the names in the manifests.
	Images []ocispec.Descriptor
	Names  Naming
	// Root is listed under each of Tags; nil if the archive has only images.
	Root *ocispec.Descriptor
	Tags []string
	// Signatures of root and content.
	Signatures []ocispec.Descriptor
	// Platforms are the platforms of the images in the archive; none means all.
	Platforms []string
}

// Index returns the index.json. Each image is listed by its digest and by its tags, because
// container runtimes look for either. The root follows, with the annotation that marks it, and
// then the signatures, without names.
func (a Archive) Index() ([]byte, error) {
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{},
	}
	add := func(desc ocispec.Descriptor, artifactType string, annotations map[string]string) {
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: artifactType, Annotations: annotations,
		})
	}
	for _, image := range a.Images {
		names, err := a.names(image)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			add(image, "", map[string]string{containerdimages.AnnotationImageName: name})
		}
	}
	if a.Root != nil {
		for _, tag := range a.Tags {
			annotations := map[string]string{ocispec.AnnotationRefName: tag}
			if len(a.Platforms) > 0 {
				annotations[AnnotationPlatforms] = strings.Join(a.Platforms, ",")
			}
			add(*a.Root, ArtifactTypeApp, annotations)
		}
	}
	byDigest := func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) }
	for _, desc := range slices.SortedFunc(slices.Values(a.Signatures), byDigest) {
		add(desc, desc.ArtifactType, nil)
	}
	return engine.MarshalJSON(index)
}

// names returns all names that the manifests may use for an image: by digest, and by tag.
func (a Archive) names(image ocispec.Descriptor) ([]string, error) {
	if !a.Names.OneToOne {
		out := []string{a.Names.Repository + "@" + image.Digest.String()}
		for _, tag := range tagsOf(image) {
			out = append(out, a.Names.Repository+":"+tag)
		}
		return out, nil
	}
	var out []string
	for _, source := range Sources(image) {
		ref, err := a.Names.Ref(source, image.Digest)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", source, err)
		}
		named := imageref.Split(ref)
		out = append(out, named.Name+"@"+image.Digest.String())
		if named.Tag != "" {
			out = append(out, named.Tagged())
		}
	}
	return out, nil
}
