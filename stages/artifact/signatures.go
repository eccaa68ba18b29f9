// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
)

// PutSignatures writes the output of sign for push: an index of the manifests that carry
// signatures, which thereby belong to the output.
func PutSignatures(ctx context.Context, store content.Ingester, signatures []ocispec.Descriptor) (ocispec.Descriptor, error) {
	return engine.PutJSON(ctx, store, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append([]ocispec.Descriptor{}, signatures...),
	})
}

// Signatures reads what [PutSignatures] wrote.
func Signatures(ctx context.Context, store content.Provider, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var index ocispec.Index
	err := engine.GetJSON(ctx, store, desc, ocispec.MediaTypeImageIndex, &index)
	return index.Manifests, err
}
