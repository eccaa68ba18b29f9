// SPDX-License-Identifier: Apache-2.0

// Package descriptor checks what others say of manifests and blobs: types, digests and
// sizes, where they enter.
package descriptor

import (
	"encoding/json"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/internal/class"
)

const (
	// MaxManifest is the size in bytes that a manifest may have: registries take
	// no more.
	MaxManifest = 4 << 20
	// MaxBlob is the size in bytes that a blob may have. Registries take layers of
	// some gigabytes; the sum of all the blobs of an archive stays far below 2^63.
	MaxBlob = 1 << 40

	// artifactManifest is the type of a draft of image-spec 1.1. Registries keep
	// what was pushed then: it has blobs in place of config and layers.
	artifactManifest = "application/vnd.oci.artifact.manifest.v1+json"
)

// IsManifest tells manifests and indexes, OCI's and Docker's, from blobs.
func IsManifest(mediaType string) bool {
	return images.IsManifestType(mediaType) || images.IsIndexType(mediaType) || mediaType == artifactManifest
}

// Check reports what is wrong with a descriptor that somebody else
// wrote: its digest, or a size that nothing with that digest can have. Every
// descriptor is checked where it is read, before anything is done with it.
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
		return class.Errorf(errdefs.ErrInvalidArgument, "%s is described with %d bytes", desc.Digest, desc.Size)
	case desc.Size > limit:
		return class.Errorf(errdefs.ErrInvalidArgument, "%s is described with %d bytes, more than the %d allowed", desc.Digest, desc.Size, limit)
	case desc.Size == 0 && !empty:
		return class.Errorf(errdefs.ErrInvalidArgument, "%s is described with 0 bytes, and is not empty", desc.Digest)
	case desc.Size > 0 && empty:
		return class.Errorf(errdefs.ErrInvalidArgument, "%s is described with %d bytes, and is empty", desc.Digest, desc.Size)
	}
	return nil
}

// maxQuoted bounds what an error quotes of a text that may be long.
const maxQuoted = 200

const (
	// maxObjects bounds the objects in a manifest: one that is empty takes three bytes as
	// JSON and a hundred as a descriptor, and many manifests are read at once.
	maxObjects = 1 << 16
	// MaxIndexObjects bounds those in the index.json of a layout.
	MaxIndexObjects = 1 << 18
	// membersOfObject is how many members count as one more object.
	membersOfObject = 4
)

// Unmarshal is json.Unmarshal of a manifest or index that somebody else wrote,
// with a bound on what it takes of memory.
func Unmarshal(data []byte, v any) error { return UnmarshalUpTo(data, maxObjects, v) }

// UnmarshalUpTo is [Unmarshal] with another number of objects.
func UnmarshalUpTo(data []byte, objects int, v any) error {
	if n := Objects(data); n > objects {
		return class.Errorf(errdefs.ErrInvalidArgument, "it has %d objects, more than the %d allowed", n, objects)
	}
	return json.Unmarshal(data, v)
}

// Objects counts what makes objects of a JSON document, or of several, when it is read:
// objects, and the elements of lists, whatever they are, as json.Unmarshal makes a place for
// one that it cannot read too. Where members are many, they count instead, as they may
// be those of maps.
func Objects(data []byte) int {
	var (
		objects, members int
		lists            []bool // which of what is open is a list
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
			if !inList() { // where the list counts for the first, and commas for the others
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
