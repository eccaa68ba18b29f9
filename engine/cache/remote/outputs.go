// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
)

// outputsDocument is the name of the document that lists the outputs of a node. Their blobs
// are documents too, named by their digests.
const outputsDocument = "outputs"

// Outputs returns a cache of nodes' outputs that looks into local first, then into c, and
// puts into both. The blobs of the outputs are in blobs, to which what comes from c is
// written.
func (c *Cache) Outputs(local engine.Cache, blobs engine.Store) engine.Cache {
	return &outputs{local: local, blobs: blobs, shared: c}
}

type outputs struct {
	local  engine.Cache
	blobs  engine.Store
	shared *Cache
}

// Get implements [engine.Cache].
func (o *outputs) Get(ctx context.Context, key digest.Digest) (map[string]ocispec.Descriptor, error) {
	found, err := o.local.Get(ctx, key)
	if err == nil {
		return found, nil
	}
	documents, err := o.shared.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	if found, err = readOutputs(documents); err != nil {
		return nil, o.shared.miss(ctx, key, err)
	}
	writes, writing := errgroup.WithContext(ctx) // each waits for the disk
	for _, desc := range found {
		writes.Go(func() error {
			dgst := desc.Digest.String()
			err := content.WriteBlob(writing, o.blobs, dgst, bytes.NewReader(documents[dgst]), ocispec.Descriptor{Digest: desc.Digest, Size: desc.Size})
			if err != nil && !errdefs.IsAlreadyExists(err) {
				return fmt.Errorf("keep output %s of the cache: %w", dgst, err)
			}
			return nil
		})
	}
	if err := writes.Wait(); err != nil {
		return nil, err
	}
	return found, o.local.Put(ctx, key, found)
}

// readOutputs returns the outputs that documents list, with the blob of each.
func readOutputs(documents map[string][]byte) (map[string]ocispec.Descriptor, error) {
	var found map[string]ocispec.Descriptor
	if err := descriptor.Unmarshal(documents[outputsDocument], &found); err != nil {
		return nil, fmt.Errorf("read its list of outputs: %w", err)
	}
	for name, desc := range found {
		if err := descriptor.Check(desc); err != nil {
			return nil, fmt.Errorf("output %q: %w", name, err)
		}
		data, ok := documents[desc.Digest.String()]
		if !ok || int64(len(data)) != desc.Size || desc.Digest.Algorithm().FromBytes(data) != desc.Digest {
			return nil, fmt.Errorf("output %q does not match its digest", name)
		}
	}
	return found, nil
}

// Put implements [engine.Cache]. Outputs that cannot be shared are still kept locally.
func (o *outputs) Put(ctx context.Context, key digest.Digest, made map[string]ocispec.Descriptor) error {
	if err := o.local.Put(ctx, key, made); err != nil {
		return err
	}
	documents, err := o.documents(ctx, made)
	if err == nil {
		err = o.shared.Put(ctx, key, documents)
	}
	if err != nil {
		o.shared.o.Log.DebugContext(ctx, "a result is not shared", "key", key, "reason", err)
	}
	return context.Cause(ctx)
}

func (o *outputs) documents(ctx context.Context, made map[string]ocispec.Descriptor) (map[string][]byte, error) {
	var size int64
	for _, desc := range made {
		if size += desc.Size; size > maxPack {
			return nil, fmt.Errorf("the outputs have more than %d bytes", int64(maxPack))
		}
	}
	list, err := engine.MarshalJSON(made)
	if err != nil {
		return nil, err
	}
	documents := map[string][]byte{outputsDocument: list}
	for _, desc := range made {
		if documents[desc.Digest.String()], err = engine.Get(ctx, o.blobs, desc); err != nil {
			return nil, err
		}
	}
	return documents, nil
}
