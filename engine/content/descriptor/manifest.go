// SPDX-License-Identifier: Apache-2.0

package descriptor

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Manifest holds the fields of a manifest or index that are needed here.
type Manifest struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       *ocispec.Descriptor  `json:"config"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`
}

// ManifestType returns the media type of a manifest or index, as stated or, since stating
// it is optional, derived from its fields. It returns "" for other content.
func ManifestType(data []byte) string {
	var m Manifest
	if Unmarshal(data, &m) != nil {
		return ""
	}
	return m.Type()
}

// Type returns the media type as stated or, since stating it is optional, derived from the
// fields, or "" if it is neither a manifest nor an index.
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

// Artifact returns the artifact type, by default the config's media type, as the
// distribution specification defines it.
func (m Manifest) Artifact() string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}
