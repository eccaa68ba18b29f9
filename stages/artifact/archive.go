// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/imageref"
)

// annotationImageName is how containerd names what it imports, in full.
const annotationImageName = "io.containerd.image.name"

// Archive is what the index.json of an archive lists.
type Archive struct {
	// Images are the root's, Names what the manifests call them.
	Images []ocispec.Descriptor
	Names  Naming
	// Root, by each of Tags; none where an archive is of images alone.
	Root *ocispec.Descriptor
	Tags []string
	// Signatures of root and content.
	Signatures []ocispec.Descriptor
	// Platforms that the archive has of the images; none is all.
	Platforms []string
}

// Index is the index.json. Each image comes by its digest and by its tags, as
// container runtimes look for either; then the root, by the annotation that finds
// it, and then the signatures, which have no name.
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
			add(image, "", map[string]string{annotationImageName: name})
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

// names are all that the manifests may call an image: by digest, and by tag.
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
