// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"slices"
	"strings"

	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/images"
)

// whatTypeIs describes manifests by their artifact type, or by the media type of their config.
var whatTypeIs = map[string]string{
	ArtifactTypeContent:                        `the content of one: name its root, whose tag has no "` + contentTagPrefix + `" before it`,
	originalContent:                            "the content of one of format v1alpha1: name its root",
	ArtifactTypeAttestations:                   "an attestation manifest",
	originalAttestations:                       "an attestation manifest",
	ArtifactTypeApp:                            "one that was converted to a manifest",
	"application/vnd.cncf.helm.config.v1+json": "a Helm chart (which is a source to package: oci://…)",
	"application/vnd.cncf.flux.config.v1+json": "a Flux artifact",
	"application/vnd.timoni.config.v1+json":    "a Timoni module",
	"application/vnd.cncf.notary.signature":    "a Notation signature",
}

// whatIs describes a manifest that is not a taped application, for an error.
func whatIs(desc ocispec.Descriptor, data []byte) string {
	var m descriptor.Manifest
	if err := descriptor.Unmarshal(data, &m); err != nil {
		return "what cannot be read as a manifest"
	}
	mediaType := cmp.Or(m.MediaType, desc.MediaType)
	if strings.HasPrefix(mediaType, "application/vnd.docker.distribution.manifest.v1") {
		return "an image in the schema 1 that Docker gave up"
	}
	if m.Manifests != nil || mediaType == ocispec.MediaTypeImageIndex {
		return whatIndexIs(m.ArtifactType, m.Manifests, m.Annotations)
	}

	kind := m.Artifact()
	if known := whatTypeIs[kind]; known != "" {
		return known
	}
	switch kind {
	case ocispec.MediaTypeImageConfig, containerdimages.MediaTypeDockerSchema2Config:
		for _, layer := range m.Layers {
			if strings.HasPrefix(layer.MediaType, "application/vnd.dev.cosign.") {
				return "a cosign signature"
			}
		}
		return "an image"
	case ocispec.MediaTypeEmptyJSON, "":
		if len(m.Layers) == 0 {
			return "a manifest without layers"
		}
		return "an artifact of " + m.Layers[0].MediaType
	}
	if strings.HasPrefix(kind, "application/vnd.dev.sigstore.bundle") {
		return "a Sigstore bundle (a signature)"
	}
	return "an artifact of type " + kind
}

func whatIndexIs(artifactType string, children []ocispec.Descriptor, annotations map[string]string) string {
	if strings.HasPrefix(artifactType, "application/vnd.cnab.") || annotations["io.cnab.runtime_version"] != "" {
		return "a CNAB bundle"
	}
	if artifactType != "" {
		return "an index of type " + artifactType
	}
	var names []string
	for _, child := range children {
		if images.HasPlatform(child) {
			names = append(names, platforms.Format(*child.Platform))
		}
	}
	if len(names) == 0 {
		return "an index of " + count.Of(len(children), "manifest")
	}
	slices.Sort(names)
	return "an image for " + strings.Join(slices.Compact(names), ", ")
}
