// SPDX-License-Identifier: Apache-2.0

package images

import (
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The types in the test are those that the tools write.
func TestKinds(t *testing.T) {
	layer := func(mediaType, predicate string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Annotations: map[string]string{predicateType: predicate}}
	}
	for _, tt := range []struct {
		name string
		m    ocispec.Manifest
		want []string
	}{
		{"cosign 3 signature", ocispec.Manifest{ArtifactType: bundleType + ".v0.3+json", Annotations: map[string]string{bundlePredicate: signPredicate}}, []string{Signature}},
		{"cosign 3 message signature", ocispec.Manifest{ArtifactType: bundleType + ".v0.3+json", Annotations: map[string]string{bundleContent: "message-signature"}}, []string{Signature}},
		{"cosign 3 attestation", ocispec.Manifest{ArtifactType: bundleType + ".v0.3+json", Annotations: map[string]string{bundlePredicate: "https://spdx.dev/Document"}}, []string{Attestation}},
		{"GitHub attestation", ocispec.Manifest{ArtifactType: bundleType + ".v0.3+json"}, []string{Attestation}},
		{"cosign experimental", ocispec.Manifest{ArtifactType: "application/vnd.dev.cosign.artifact.sig.v1+json"}, []string{Signature}},
		{"cosign attestation", ocispec.Manifest{ArtifactType: "application/vnd.dev.cosign.artifact.att.v1+json"}, []string{Attestation}},
		{"cosign SBOM", ocispec.Manifest{ArtifactType: "application/vnd.dev.cosign.artifact.sbom.v1+json"}, []string{SBOM}},
		{"cosign signature by subject", ocispec.Manifest{Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig}, Layers: []ocispec.Descriptor{layer("application/vnd.dev.cosign.simplesigning.v1+json", "")}}, []string{Signature}},
		{"notation", ocispec.Manifest{ArtifactType: "application/vnd.cncf.notary.signature"}, []string{Signature}},
		{"notation 1.0", ocispec.Manifest{Config: ocispec.Descriptor{MediaType: "application/vnd.cncf.notary.signature"}}, []string{Signature}},
		{"SPDX", ocispec.Manifest{ArtifactType: "application/spdx+json"}, []string{SBOM}},
		{"SPDX text", ocispec.Manifest{ArtifactType: "text/spdx"}, []string{SBOM}},
		{"CycloneDX", ocispec.Manifest{ArtifactType: "application/vnd.cyclonedx+xml"}, []string{SBOM}},
		{"syft", ocispec.Manifest{ArtifactType: "application/vnd.syft+json"}, []string{SBOM}},
		{"ORAS example", ocispec.Manifest{ArtifactType: "example/sbom"}, []string{SBOM}},
		{"BuildKit", ocispec.Manifest{Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig}, Layers: []ocispec.Descriptor{
			layer("application/vnd.in-toto+json", "https://spdx.dev/Document"), layer("application/vnd.in-toto+json", "https://slsa.dev/provenance/v0.2"), layer("application/vnd.in-toto+json", "https://spdx.dev/Document"),
		}}, []string{Attestation, SBOM}},
		{"BuildKit with artifact type", ocispec.Manifest{ArtifactType: "application/vnd.docker.attestation.manifest.v1+json", Layers: []ocispec.Descriptor{
			layer("application/vnd.in-toto+json", "https://cyclonedx.org/bom"),
		}}, []string{SBOM}},
		{"BuildKit, empty", ocispec.Manifest{ArtifactType: "application/vnd.docker.attestation.manifest.v1+json"}, []string{Attestation}},
		{"Helm chart", ocispec.Manifest{Config: ocispec.Descriptor{MediaType: "application/vnd.cncf.helm.config.v1+json"}}, []string{Other}},
		{"nothing", ocispec.Manifest{}, []string{Other}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := KindsOf(tt.m); !slices.Equal(got, tt.want) {
				t.Errorf("kinds %q, want %q", got, tt.want)
			}
		})
	}
}
