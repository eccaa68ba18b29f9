// SPDX-License-Identifier: Apache-2.0

package images

import (
	"cmp"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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

// words map parts of artifact types, media types and predicate types to a kind. Notation, cosign,
// syft, BuildKit and the SBOM formats have nothing else in common. The first match wins, so an
// in-toto statement that contains an SBOM is an SBOM.
var words = []struct{ word, kind string }{
	{"spdx", SBOM},
	{"cyclonedx", SBOM},
	{"syft", SBOM},
	{"sbom", SBOM},
	{"signature", Signature},     // application/vnd.cncf.notary.signature
	{"simplesigning", Signature}, // cosign
	{".sig.", Signature},         // application/vnd.dev.cosign.artifact.sig.v1+json
	{"attestation", Attestation},
	{"in-toto", Attestation},
	{"dsse", Attestation},
	{".att.", Attestation},
}

// KindOf returns the kind of manifest or layer that a media type or artifact type identifies.
func KindOf(mediaType string, annotations map[string]string) string {
	if strings.HasPrefix(mediaType, bundleType) {
		if annotations[bundlePredicate] == signPredicate || annotations[bundleContent] == "message-signature" {
			return Signature
		}
		return Attestation
	}
	text := strings.ToLower(annotations[predicateType] + " " + mediaType)
	for _, w := range words {
		if strings.Contains(text, w.word) {
			return w.kind
		}
	}
	return Other
}

// TellsKind reports whether the descriptor of a referrer is sufficient to determine its kind.
// Registries may leave out annotations, and some put the media type of the config into
// artifactType.
func TellsKind(desc ocispec.Descriptor) bool {
	if strings.HasPrefix(desc.ArtifactType, bundleType) {
		return desc.Annotations[bundlePredicate] != "" || desc.Annotations[bundleContent] == "message-signature"
	}
	return KindOf(desc.ArtifactType, desc.Annotations) != Other && !strings.Contains(desc.ArtifactType, "attestation.manifest")
}

// KindsOf returns the kind of a manifest or, if that is unknown, those of its layers,
// sorted. BuildKit puts provenance and SBOM into one manifest.
func KindsOf(m ocispec.Manifest) []string {
	kind := KindOf(cmp.Or(m.ArtifactType, m.Config.MediaType), m.Annotations)
	if kind != Other && !strings.Contains(m.ArtifactType, "attestation.manifest") {
		return []string{kind}
	}
	var out []string
	for _, layer := range m.Layers {
		if kind := KindOf(layer.MediaType, layer.Annotations); kind != Other {
			out = append(out, kind)
		}
	}
	if len(out) == 0 {
		out = []string{kind}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// InlineKindsOf returns the kinds of a manifest that is in the index of an image where
// attestations are. If its kind is unknown, it is an attestation.
func InlineKindsOf(m ocispec.Manifest) []string {
	kinds := KindsOf(m)
	for i, kind := range kinds {
		if kind == Other {
			kinds[i] = Attestation
		}
	}
	return kinds
}

// KindOfTag returns the kind of what cosign stores under a tag, by the suffix of the tag.
func KindOfTag(tag string) string {
	switch path.Ext(tag) {
	case ".sig":
		return Signature
	case ".att":
		return Attestation
	case ".sbom":
		return SBOM
	}
	return Other
}
