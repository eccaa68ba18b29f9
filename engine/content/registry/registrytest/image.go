// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types that are not in the image specification.
const (
	InToto         = "application/vnd.in-toto+json"
	SigstoreBundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	SimpleSigning  = "application/vnd.dev.cosign.simplesigning.v1+json"
	DSSE           = "application/vnd.dsse.envelope.v1+json"
	SPDX           = "application/spdx+json"
)

// Image describes what [Upstream] makes for a name. The zero value is an index of two platforms
// with one small layer each and nothing attached.
type Image struct {
	Platforms []string // os/arch[/variant]; none: linux/amd64 and linux/arm64
	Layers    []int64  // sizes in bytes of each platform's own layers; none: one of 1000
	Shared    []int64  // sizes of layers that every image with a layer of this size has in common, below its own
	Single    bool     // only the manifest of the first platform, without an index
	Docker    bool     // Docker's media types
	Schema1   bool     // a manifest of Docker's obsolete schema 1
	Salt      string   // changes the layers, as if the tag was pushed again

	// Inline is the number of statements in the BuildKit attestation manifest of
	// each platform: provenance, then SBOMs. 0 makes no such manifest.
	Inline int
	// Signatures, Attestations and SBOMs are layers of the manifests tagged
	// sha256-<hex>.sig, .att and .sbom; 0 makes no such tag.
	Signatures, Attestations, SBOMs int
	// Referrers are manifests whose subject is the image.
	Referrers []Artifact
	// Deep also attaches the tags and referrers to the manifest of every platform.
	Deep bool
}

// Artifact is a manifest with a subject.
type Artifact struct {
	Type        string            // artifactType
	Annotations map[string]string // of the manifest
}

// Bundle returns what cosign 3 attaches: a Sigstore bundle for the predicate type,
// which is a signature if that is https://sigstore.dev/cosign/sign/v1.
func Bundle(predicateType string) Artifact {
	return Artifact{Type: SigstoreBundle, Annotations: map[string]string{
		"dev.sigstore.bundle.content":       "dsse-envelope",
		"dev.sigstore.bundle.predicateType": predicateType,
	}}
}

// Published returns an image as large projects publish it: two platforms with
// inline provenance and SBOM, a cosign signature under a tag, and an SBOM as a
// referrer.
func Published() Image {
	return Image{Inline: 2, Signatures: 1, Referrers: []Artifact{{Type: SPDX}}}
}

// maker makes the blobs and manifests of one image into a repository.
type maker struct {
	*repository
	up   *Upstream
	seed string // name and tag
	img  Image
}

// make makes the image and returns its descriptor.
func (m maker) make() ocispec.Descriptor {
	if m.img.Schema1 {
		return m.manifest(images.MediaTypeDockerSchema1Manifest, map[string]any{
			"schemaVersion": 1, "name": m.seed, "tag": "", "architecture": "amd64", "fsLayers": []any{}, "history": []any{},
		})
	}
	platforms := m.img.Platforms
	if len(platforms) == 0 {
		platforms = []string{"linux/amd64", "linux/arm64"}
	}
	if m.img.Single {
		desc := m.platform(platforms[0])
		m.attach(desc)
		return desc
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	if m.img.Docker {
		index.MediaType = images.MediaTypeDockerSchema2ManifestList
	}
	for _, p := range platforms {
		desc := m.platform(p)
		if m.img.Deep {
			m.attach(desc)
		}
		desc.Platform = parsePlatform(p)
		index.Manifests = append(index.Manifests, desc)
	}
	if m.img.Inline > 0 {
		for i, p := range platforms {
			index.Manifests = append(index.Manifests, m.inline(p, index.Manifests[i].Digest))
		}
	}
	desc := m.manifest(index.MediaType, index)
	m.attach(desc)
	return desc
}

func parsePlatform(s string) *ocispec.Platform {
	parts := append(strings.Split(s, "/"), "", "")
	return &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// platform makes the manifest of one platform with its config and layers.
func (m maker) platform(platform string) ocispec.Descriptor {
	manifestType, configType, layerType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip
	if m.img.Docker {
		manifestType, configType, layerType = images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2Config, images.MediaTypeDockerSchema2LayerGzip
	}
	var layers []ocispec.Descriptor
	for i, size := range m.img.Shared {
		layers = append(layers, m.noise(layerType, fmt.Sprintf("shared %d", i), size))
	}
	own := m.img.Layers
	if len(own) == 0 {
		own = []int64{1000}
	}
	for i, size := range own {
		layers = append(layers, m.noise(layerType, fmt.Sprintf("%s %s %s %d", m.seed, m.img.Salt, platform, i), size))
	}
	config := ocispec.Image{Platform: *parsePlatform(platform), RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	return m.manifest(manifestType, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: manifestType,
		Config:    m.blob(configType, mustJSON(config)),
		Layers:    layers,
	})
}

// inline makes the attestation manifest that BuildKit adds to an index for one of
// its manifests (docs/attestations/attestation-storage.md of moby/buildkit).
func (m maker) inline(platform string, about digest.Digest) ocispec.Descriptor {
	var layers []ocispec.Descriptor
	for i := range m.img.Inline {
		predicate := "https://spdx.dev/Document"
		if i == 0 {
			predicate = "https://slsa.dev/provenance/v0.2"
		}
		layer := m.blob(InToto, mustJSON(map[string]any{
			"_type":         "https://in-toto.io/Statement/v0.1",
			"predicateType": predicate,
			"subject":       []any{map[string]any{"name": m.seed, "digest": map[string]string{"sha256": about.Encoded()}}},
			"predicate":     map[string]any{"platform": platform, "number": i},
		}))
		layer.Annotations = map[string]string{"in-toto.io/predicate-type": predicate}
		layers = append(layers, layer)
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	desc := m.manifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    m.blob(ocispec.MediaTypeImageConfig, mustJSON(config)),
		Layers:    layers,
	})
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": about.String(),
	}
	return desc
}

// attach attaches signatures, attestations and SBOMs to a manifest, under
// cosign's tags and as referrers.
func (m maker) attach(to ocispec.Descriptor) {
	tag := "sha256-" + to.Digest.Encoded()
	for _, a := range []struct {
		suffix, layerType string
		count             int
	}{
		{".sig", SimpleSigning, m.img.Signatures},
		{".att", DSSE, m.img.Attestations},
		{".sbom", SPDX, m.img.SBOMs},
	} {
		if a.count == 0 {
			continue
		}
		var layers []ocispec.Descriptor
		for i := range a.count {
			layer := m.blob(a.layerType, mustJSON(map[string]any{"about": to.Digest, "kind": a.suffix, "number": i}))
			if a.suffix == ".sig" {
				layer.Annotations = map[string]string{"dev.cosignproject.cosign/signature": "c2lnbmF0dXJl"}
			}
			layers = append(layers, layer)
		}
		m.tags[tag+a.suffix] = m.manifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageManifest,
			Config: m.blob(ocispec.MediaTypeImageConfig, mustJSON(map[string]any{
				"architecture": "", "os": "", "config": map[string]any{},
				"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layers[0].Digest}},
			})),
			Layers: layers,
		})
	}
	m.referrers[to.Digest] = nil
	for i, a := range m.img.Referrers {
		subject := ocispec.Descriptor{MediaType: to.MediaType, Digest: to.Digest, Size: to.Size}
		desc := m.manifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned:    specs.Versioned{SchemaVersion: 2},
			MediaType:    ocispec.MediaTypeImageManifest,
			ArtifactType: a.Type,
			Config:       m.blob(ocispec.MediaTypeEmptyJSON, []byte("{}")),
			Layers:       []ocispec.Descriptor{m.blob(a.Type, mustJSON(map[string]any{"about": to.Digest, "type": a.Type, "number": i}))},
			Subject:      &subject,
			Annotations:  a.Annotations,
		})
		desc.ArtifactType, desc.Annotations = a.Type, a.Annotations
		m.referrers[to.Digest] = append(m.referrers[to.Digest], desc)
	}
}

// noise adds a layer of the given size.
func (m maker) noise(mediaType, seed string, size int64) ocispec.Descriptor {
	n, d := m.up.layer(seed, size)
	m.blobs[d] = n
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: size}
}

// blob adds a small blob.
func (m maker) blob(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	m.blobs[d] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// manifest adds a manifest.
func (m maker) manifest(mediaType string, v any) ocispec.Descriptor {
	data := mustJSON(v)
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	m.manifests[desc.Digest] = manifest{mediaType: mediaType, data: data}
	return desc
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only plain values come here
	}
	return data
}
