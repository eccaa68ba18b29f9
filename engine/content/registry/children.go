// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
)

const (
	// maxChildren bounds the children of one manifest. The root of an application of thousands
	// of images has fewer.
	maxChildren = 1 << 14
	// MaxDepth bounds the nesting of indexes; two levels are common.
	MaxDepth = 16
)

// MayBeManifest reports whether a media type is known neither as that of a manifest nor as that
// of a blob. An index may list either under such a type.
func MayBeManifest(mediaType string) bool {
	return mediaType != blobType && mediaType != ocispec.MediaTypeEmptyJSON &&
		!descriptor.IsManifest(mediaType) && !images.IsLayerType(mediaType) && !images.IsConfigType(mediaType)
}

// MayBeElsewhere reports whether a blob may be missing from its registry: it has URLs to read
// it from, or must not be distributed.
func MayBeElsewhere(desc ocispec.Descriptor) bool {
	return len(desc.URLs) > 0 || images.IsNonDistributable(desc.MediaType)
}

// Children returns what a manifest names: the blobs that are its parts, and the entries of an
// index, which [Listed] classifies. All of them pass [descriptor.Check]. In a manifest of an
// unknown type, anything that does not look like a descriptor is ignored.
func Children(desc ocispec.Descriptor, data []byte) (parts, listed []ocispec.Descriptor, err error) {
	var m descriptor.Manifest
	unknown := MayBeManifest(desc.MediaType)
	if err := descriptor.Unmarshal(data, &m); err != nil && !unknown {
		return nil, nil, fmt.Errorf("read manifest %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	parts, listed = m.Parts(), m.Manifests
	for i := range parts {
		if descriptor.IsManifest(parts[i].MediaType) {
			parts[i].MediaType = blobType // whatever it contains, it is stored as a blob
		}
	}
	if n := len(parts) + len(listed); n > maxChildren {
		return nil, nil, fmt.Errorf("manifest %s names %d others, more than the %d allowed: %w", desc.Digest, n, maxChildren, errdefs.ErrInvalidArgument)
	}
	if unknown {
		broken := func(d ocispec.Descriptor) bool { return descriptor.Check(d) != nil }
		return slices.DeleteFunc(parts, broken), slices.DeleteFunc(listed, broken), nil
	}
	if err := descriptor.Unambiguous(desc.MediaType, data); err != nil {
		return nil, nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if m.Subject != nil && m.Subject.Digest.Validate() != nil {
		return nil, nil, fmt.Errorf("manifest %s: the digest of its subject: %w", desc.Digest, descriptor.Check(*m.Subject))
	}
	sizes := make(map[digest.Digest]int64, len(parts)+len(listed))
	for _, child := range slices.Concat(parts, listed) {
		if err := descriptor.Check(child); err != nil {
			return nil, nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
		if size, twice := sizes[child.Digest]; twice && size != child.Size {
			return nil, nil, fmt.Errorf("manifest %s: %s is described with %d and with %d bytes: %w", desc.Digest, child.Digest, size, child.Size, errdefs.ErrInvalidArgument)
		}
		sizes[child.Digest] = child.Size
	}
	return parts, listed, nil
}

// Read reads a manifest by its descriptor, and returns the media type that the manifest itself
// declares. Its size is that of the descriptor.
func Read(ctx context.Context, from content.Provider, desc ocispec.Descriptor) (ocispec.Descriptor, []byte, error) {
	if err := descriptor.Check(desc); err != nil {
		return desc, nil, err
	}
	if desc.Size > MaxManifest {
		return desc, nil, fmt.Errorf("manifest %s is described with %d bytes, more than the %d allowed: %w", desc.Digest, desc.Size, MaxManifest, errdefs.ErrInvalidArgument)
	}
	data, err := engine.Get(ctx, from, desc)
	if err != nil {
		return desc, nil, err
	}
	if int64(len(data)) != desc.Size {
		return desc, nil, fmt.Errorf("manifest %s has %d bytes, and is described with %d: %w", desc.Digest, len(data), desc.Size, errdefs.ErrInvalidArgument)
	}
	if mediaType := descriptor.ManifestType(data); mediaType != "" {
		desc.MediaType = mediaType
	}
	return desc, data, nil
}

// Listed reports whether an entry of an index is a manifest. If its type is unknown, the blob
// itself decides: a registry then stores it as a manifest.
func Listed(ctx context.Context, from content.Provider, desc ocispec.Descriptor) (bool, error) {
	if !MayBeManifest(desc.MediaType) || desc.Size > MaxManifest {
		return descriptor.IsManifest(desc.MediaType), nil
	}
	data, err := engine.Get(ctx, from, desc)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var document struct {
		MediaType     string `json:"mediaType"`
		SchemaVersion int    `json:"schemaVersion"`
	}
	if json.Unmarshal(data, &document) != nil {
		return false, nil
	}
	return descriptor.IsManifest(document.MediaType) || document.MediaType == desc.MediaType && desc.MediaType != "" || document.SchemaVersion > 0, nil
}
