// SPDX-License-Identifier: Apache-2.0

// Package descriptor checks descriptors and manifests that others wrote: media types,
// digests and sizes.
package descriptor

import (
	"encoding/json"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/internal/class"
)

const (
	// MaxManifest is the maximum size of a manifest in bytes; registries accept no more.
	MaxManifest = 4 << 20
	// MaxBlob is the maximum size of a blob in bytes. Registries accept layers of some
	// gigabytes; the sum of all blobs of an archive stays far below 2^63.
	MaxBlob = 1 << 40

	// artifactManifest is the media type in a draft of image-spec 1.1, which registries
	// still hold. It has blobs instead of config and layers.
	artifactManifest = "application/vnd.oci.artifact.manifest.v1+json"
)

// IsManifest reports whether a media type is that of a manifest or index, OCI's or
// Docker's.
func IsManifest(mediaType string) bool {
	return images.IsManifestType(mediaType) || images.IsIndexType(mediaType) || mediaType == artifactManifest
}

// Check returns an error of class ErrInvalidArgument if an untrusted descriptor
// has an invalid digest, or a size that is impossible for the digest. Every
// descriptor is checked where it is read.
func Check(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		text := desc.Digest.String()
		return class.Errorf(errdefs.ErrInvalidArgument, "digest %q: %w", text[:min(len(text), maxQuoted)], err)
	}
	limit := int64(MaxBlob)
	if IsManifest(desc.MediaType) {
		limit = MaxManifest
	}
	empty := desc.Digest == desc.Digest.Algorithm().FromBytes(nil)
	switch {
	case desc.Size < 0:
		return class.Errorf(errdefs.ErrInvalidArgument, "descriptor of %s has size %d", desc.Digest, desc.Size)
	case desc.Size > limit:
		return class.Errorf(errdefs.ErrInvalidArgument, "descriptor of %s has size %d, more than the %d allowed", desc.Digest, desc.Size, limit)
	case desc.Size == 0 && !empty:
		return class.Errorf(errdefs.ErrInvalidArgument, "descriptor of %s has size 0, but the digest is not that of empty content", desc.Digest)
	case desc.Size > 0 && empty:
		return class.Errorf(errdefs.ErrInvalidArgument, "descriptor of %s has size %d, but the digest is that of empty content", desc.Digest, desc.Size)
	}
	return nil
}

// maxQuoted bounds how much of a long text an error quotes.
const maxQuoted = 200

const (
	// maxObjects bounds the objects in a manifest: an empty one takes three bytes as JSON
	// and a hundred as a descriptor, and many manifests are read at once.
	maxObjects = 1 << 16
	// MaxIndexObjects bounds the objects in the index.json of a layout.
	MaxIndexObjects = 1 << 18
	// membersOfObject is the number of members that count as one more object.
	membersOfObject = 4
)

// Unmarshal is json.Unmarshal for an untrusted manifest or index, with a
// bound on the memory it takes.
func Unmarshal(data []byte, v any) error { return UnmarshalUpTo(data, maxObjects, v) }

// UnmarshalUpTo is [Unmarshal] with a given limit on the number of objects.
func UnmarshalUpTo(data []byte, objects int, v any) error {
	if n := Objects(data); n > objects {
		return class.Errorf(errdefs.ErrInvalidArgument, "it has %d objects, more than the %d allowed", n, objects)
	}
	return json.Unmarshal(data, v)
}

// Objects counts the objects that decoding one or more JSON documents allocates: objects
// and list elements of any kind, since json.Unmarshal allocates an element even if it
// cannot decode it. If there are many members, these are counted instead, as they may be
// entries of maps.
func Objects(data []byte) int {
	var (
		objects, members int
		lists            []bool // for each open object or list, whether it is a list
	)
	inList := func() bool { return len(lists) > 0 && lists[len(lists)-1] }
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if !inList() { // a list counts for its first element, commas for the others
				objects++
			}
			lists = append(lists, c == '[')
		case '}', ']':
			lists = lists[:max(len(lists)-1, 0)]
		case ',':
			if inList() {
				objects++
			} else {
				members++
			}
		}
	}
	return max(objects, members/membersOfObject)
}
