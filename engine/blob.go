// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxBlob limits what Get reads into memory.
const maxBlob = 2 << 30

// Put writes data into the store and returns its descriptor. A blob that the store already has
// is not written again. The data must not be changed afterwards: a store in memory keeps it
// instead of a copy.
func Put(ctx context.Context, store content.Ingester, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if memory, ok := store.(keeper); ok {
		return desc, memory.KeepBytes(ctx, desc.Digest, data)
	}
	err := content.WriteBlob(ctx, store, desc.Digest.String(), bytes.NewReader(data), desc)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, fmt.Errorf("store %s: %w", mediaType, err)
	}
	return desc, nil
}

// Get reads a whole blob. The result must not be changed: a blob in memory is not copied.
func Get(ctx context.Context, store content.Provider, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxBlob {
		return nil, fmt.Errorf("read %s: %d bytes are more than the %d allowed", desc.Digest, desc.Size, int64(maxBlob))
	}
	if memory, ok := store.(inMemory); ok {
		if data, ok := memory.Bytes(desc.Digest); ok {
			return data, nil
		}
	}
	data, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return data, nil
}

// Read reads a blob by an untrusted descriptor: it must have the size in the descriptor, at most
// limit bytes, and its digest. It is read from the store even if the descriptor embeds its
// content.
func Read(ctx context.Context, store content.Provider, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%q: %w", desc.Digest, err)
	}
	if desc.Size < 0 || desc.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d allowed", desc.Digest, desc.Size, limit)
	}
	ra, err := store.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer ra.Close()
	if ra.Size() != desc.Size {
		return nil, fmt.Errorf("%s has %d bytes, not %d: %w", desc.Digest, ra.Size(), desc.Size, errdefs.ErrDataLoss)
	}
	data, err := io.ReadAll(content.NewReader(ra))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, fmt.Errorf("%s came as %s: %w", desc.Digest, got, errdefs.ErrDataLoss)
	}
	return data, nil
}

// inMemory is a store that can return a blob without copying it, such as the memory layer of a
// run.
type inMemory interface {
	Bytes(dgst digest.Digest) ([]byte, bool)
}

// keeper is a store that can keep a blob without copying it.
type keeper interface {
	KeepBytes(ctx context.Context, dgst digest.Digest, data []byte) error
}

// PutJSON writes v as canonical JSON: fields in the order of the struct, sorted map keys, no
// HTML escaping, no final newline.
func PutJSON(ctx context.Context, store content.Ingester, mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := MarshalJSON(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return Put(ctx, store, mediaType, data)
}

// GetJSON reads the document that desc names into v. A document of another media
// type is an error: inputs were wired to the wrong output.
func GetJSON(ctx context.Context, store content.Provider, desc ocispec.Descriptor, mediaType string, v any) error {
	if desc.Digest == "" {
		return errors.New("no input of type " + mediaType)
	}
	if desc.MediaType != mediaType {
		return fmt.Errorf("input is %s, not %s", desc.MediaType, mediaType)
	}
	data, err := Get(ctx, store, desc)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", mediaType, err)
	}
	return nil
}

// GetAllJSON reads the documents of a list, like GetJSON.
func GetAllJSON[T any](ctx context.Context, store content.Provider, list []ocispec.Descriptor, mediaType string) ([]T, error) {
	var all []T
	for _, desc := range list {
		var v T
		if err := GetJSON(ctx, store, desc, mediaType, &v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// MarshalJSON encodes v in the form in which tape writes all its JSON.
func MarshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}
