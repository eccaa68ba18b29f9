// SPDX-License-Identifier: Apache-2.0

package discover

import (
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/images"
)

// The types in the test are those that the tools write.
func TestKinds(t *testing.T) {
	layer := func(mediaType, predicate string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Annotations: map[string]string{predicateType: predicate}}
	}
	for _, tt := range []struct {
		name string
		m    manifest
		want []string
	}{
		{"cosign 3 signature", manifest{ArtifactType: bundleType + ".v0.3+json", Annotations: map[string]string{bundlePredicate: signPredicate}}, []string{images.Signature}},
		{"cosign 3 message signature", manifest{ArtifactType: bundleType + ".v0.3+json", Annotations: map[string]string{bundleContent: "message-signature"}}, []string{images.Signature}},
		{"cosign 3 attestation", manifest{ArtifactType: bundleType + ".v0.3+json", Annotations: map[string]string{bundlePredicate: "https://spdx.dev/Document"}}, []string{images.Attestation}},
		{"GitHub attestation", manifest{ArtifactType: bundleType + ".v0.3+json"}, []string{images.Attestation}},
		{"cosign experimental", manifest{ArtifactType: "application/vnd.dev.cosign.artifact.sig.v1+json"}, []string{images.Signature}},
		{"cosign attestation", manifest{ArtifactType: "application/vnd.dev.cosign.artifact.att.v1+json"}, []string{images.Attestation}},
		{"cosign SBOM", manifest{ArtifactType: "application/vnd.dev.cosign.artifact.sbom.v1+json"}, []string{images.SBOM}},
		{"cosign signature by subject", manifest{Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig}, Layers: []ocispec.Descriptor{layer("application/vnd.dev.cosign.simplesigning.v1+json", "")}}, []string{images.Signature}},
		{"notation", manifest{ArtifactType: "application/vnd.cncf.notary.signature"}, []string{images.Signature}},
		{"notation 1.0", manifest{Config: ocispec.Descriptor{MediaType: "application/vnd.cncf.notary.signature"}}, []string{images.Signature}},
		{"SPDX", manifest{ArtifactType: "application/spdx+json"}, []string{images.SBOM}},
		{"SPDX text", manifest{ArtifactType: "text/spdx"}, []string{images.SBOM}},
		{"CycloneDX", manifest{ArtifactType: "application/vnd.cyclonedx+xml"}, []string{images.SBOM}},
		{"syft", manifest{ArtifactType: "application/vnd.syft+json"}, []string{images.SBOM}},
		{"ORAS example", manifest{ArtifactType: "example/sbom"}, []string{images.SBOM}},
		{"BuildKit", manifest{Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig}, Layers: []ocispec.Descriptor{
			layer("application/vnd.in-toto+json", "https://spdx.dev/Document"), layer("application/vnd.in-toto+json", "https://slsa.dev/provenance/v0.2"), layer("application/vnd.in-toto+json", "https://spdx.dev/Document"),
		}}, []string{images.Attestation, images.SBOM}},
		{"BuildKit with artifact type", manifest{ArtifactType: "application/vnd.docker.attestation.manifest.v1+json", Layers: []ocispec.Descriptor{
			layer("application/vnd.in-toto+json", "https://cyclonedx.org/bom"),
		}}, []string{images.SBOM}},
		{"BuildKit, empty", manifest{ArtifactType: "application/vnd.docker.attestation.manifest.v1+json"}, []string{images.Attestation}},
		{"Helm chart", manifest{Config: ocispec.Descriptor{MediaType: "application/vnd.cncf.helm.config.v1+json"}}, []string{images.Other}},
		{"nothing", manifest{}, []string{images.Other}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.m.kinds(); !slices.Equal(got, tt.want) {
				t.Errorf("kinds %q, want %q", got, tt.want)
			}
		})
	}
}
