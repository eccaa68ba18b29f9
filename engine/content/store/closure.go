// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
)

// Closure returns a blob and everything that it refers to, directly or not, as far as the place
// has it: the blob first, each once. Manifests and indexes refer to others. Children of an
// index that the place does not have, such as images in a registry, are left out; the blob
// itself must exist.
func Closure(ctx context.Context, from Blobs, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	var add func(desc ocispec.Descriptor) error
	add = func(desc ocispec.Descriptor) error {
		if seen[desc.Digest] {
			return nil
		}
		seen[desc.Digest] = true
		if _, err := from.Info(ctx, desc.Digest); errdefs.IsNotFound(err) && len(out) > 0 {
			return nil
		} else if err != nil {
			return err
		}
		out = append(out, desc)
		if !descriptor.IsManifest(desc.MediaType) {
			return nil
		}
		if err := descriptor.Check(desc); err != nil {
			return err
		}
		data, err := content.ReadBlob(ctx, from, desc)
		if err != nil {
			return err
		}
		var m descriptor.Manifest
		if err := descriptor.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("read manifest %s: %w", desc.Digest, err)
		}
		for _, child := range slices.Concat(m.Parts(), m.Manifests) {
			if err := descriptor.Check(child); err != nil {
				return fmt.Errorf("manifest %s: %w", desc.Digest, err)
			}
			if err := add(child); err != nil {
				return err
			}
		}
		return nil
	}
	return out, add(desc)
}
