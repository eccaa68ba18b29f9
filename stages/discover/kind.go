// SPDX-License-Identifier: Apache-2.0

package discover

import (
	"cmp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/images"
)

const (
	// Annotations of a Sigstore bundle (sigstore/cosign, specs/BUNDLE_SPEC.md).
	bundleType      = "application/vnd.dev.sigstore.bundle"
	bundleContent   = "dev.sigstore.bundle.content"
	bundlePredicate = "dev.sigstore.bundle.predicateType"
	signPredicate   = "https://sigstore.dev/cosign/sign/v1"

	// Annotation of a layer that is an in-toto statement (BuildKit).
	predicateType = "in-toto.io/predicate-type"
)

// words map parts of artifact types, media types and predicate types to a kind.
// Notation, cosign, syft, BuildKit and the SBOM formats agree on nothing more. The
// first match wins, so an in-toto statement that holds an SBOM is an SBOM.
var words = []struct{ word, kind string }{
	{"spdx", images.SBOM},
	{"cyclonedx", images.SBOM},
	{"syft", images.SBOM},
	{"sbom", images.SBOM},
	{"signature", images.Signature},     // application/vnd.cncf.notary.signature
	{"simplesigning", images.Signature}, // cosign
	{".sig.", images.Signature},         // application/vnd.dev.cosign.artifact.sig.v1+json
	{"attestation", images.Attestation},
	{"in-toto", images.Attestation},
	{"dsse", images.Attestation},
	{".att.", images.Attestation},
}

// kindOf returns the kind of manifest or layer that a media type or artifact type
// stands for.
func kindOf(mediaType string, annotations map[string]string) string {
	if strings.HasPrefix(mediaType, bundleType) {
		if annotations[bundlePredicate] == signPredicate || annotations[bundleContent] == "message-signature" {
			return images.Signature
		}
		return images.Attestation
	}
	text := strings.ToLower(annotations[predicateType] + " " + mediaType)
	for _, w := range words {
		if strings.Contains(text, w.word) {
			return w.kind
		}
	}
	return images.Other
}

// telling reports whether a referrer's descriptor is enough to tell its kind.
// Registries may leave out annotations, and some put the config's media type into
// artifactType.
func telling(desc ocispec.Descriptor) bool {
	if strings.HasPrefix(desc.ArtifactType, bundleType) {
		return desc.Annotations[bundlePredicate] != "" || desc.Annotations[bundleContent] == "message-signature"
	}
	return kindOf(desc.ArtifactType, desc.Annotations) != images.Other && !strings.Contains(desc.ArtifactType, "attestation.manifest")
}

// kinds returns the kind of the manifest or, if that is unknown, those of its layers,
// sorted. BuildKit puts provenance and SBOM into one manifest.
func (m manifest) kinds() []string {
	kind := kindOf(cmp.Or(m.ArtifactType, m.Config.MediaType), m.Annotations)
	if kind != images.Other && !strings.Contains(m.ArtifactType, "attestation.manifest") {
		return []string{kind}
	}
	var out []string
	for _, layer := range m.Layers {
		if kind := kindOf(layer.MediaType, layer.Annotations); kind != images.Other {
			out = append(out, kind)
		}
	}
	if len(out) == 0 {
		out = []string{kind}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
