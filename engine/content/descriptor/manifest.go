// SPDX-License-Identifier: Apache-2.0

package descriptor

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Manifest is what there is to know of a manifest or index here.
type Manifest struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       *ocispec.Descriptor  `json:"config"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`
}

// ManifestType is the media type of a manifest or index, by what it says of itself
// or, where it need not say, by what it looks like; "" where it is none.
func ManifestType(data []byte) string {
	var m Manifest
	if Unmarshal(data, &m) != nil {
		return ""
	}
	return m.Type()
}

// Type is what the manifest says it is, or, where it need not say, what it
// looks like; "" where it is none.
func (m Manifest) Type() string {
	switch {
	case m.MediaType != "":
		return m.MediaType
	case m.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case m.Config != nil:
		return ocispec.MediaTypeImageManifest
	}
	return ""
}

// Artifact is the type of artifact: the config's where it states none, as the distribution spec has it.
func (m Manifest) Artifact() string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}
