// SPDX-License-Identifier: Apache-2.0

package descriptor

import (
	"encoding/json"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/internal/class"
)

// Manifest holds the fields of a manifest or index that are needed here.
type Manifest struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       *ocispec.Descriptor  `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Blobs        []ocispec.Descriptor `json:"blobs"` // of an artifact manifest
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

// Unambiguous returns an error of class ErrInvalidArgument for a manifest that another reader
// may take for one of another kind (CVE-2021-41190): an index with layers or a config, or an
// image manifest with manifests. Fields that are empty or null count.
func Unambiguous(mediaType string, data []byte) error {
	var m struct {
		Config    json.RawMessage `json:"config"`
		Layers    json.RawMessage `json:"layers"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(data, &m) != nil {
		return nil // there is a better error about it
	}
	switch {
	case images.IsIndexType(mediaType) && (m.Config != nil || m.Layers != nil):
		return class.Errorf(errdefs.ErrInvalidArgument, "it is an index with layers or a config, which other programs may take for an image: push it again without them")
	case images.IsManifestType(mediaType) && m.Manifests != nil:
		return class.Errorf(errdefs.ErrInvalidArgument, "it is an image manifest with a list of manifests, which other programs may take for an index: push it again without the list")
	}
	return nil
}

// Artifact returns the artifact type, by default the config's media type, as the
// distribution specification defines it.
func (m Manifest) Artifact() string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}

// Parts returns the blobs that the manifest consists of: layers, other blobs, and the config.
func (m Manifest) Parts() []ocispec.Descriptor {
	parts := slices.Concat(m.Layers, m.Blobs)
	if m.Config != nil {
		parts = append(parts, *m.Config)
	}
	return parts
}
