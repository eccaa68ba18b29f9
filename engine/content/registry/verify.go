// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/internal/blob"
)

// verifier reads a blob and holds back its last bytes until all of it is verified.
type verifier struct {
	body     io.ReadCloser
	desc     ocispec.Descriptor // with a valid digest
	digester digest.Digester
	left     int64
	err      error
	explain  func(error) error // names the blob
}

func (v *verifier) Read(p []byte) (n int, err error) {
	if v.err != nil {
		return 0, v.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if v.left > 0 {
		n, err = v.body.Read(p[:min(int64(len(p)), v.left)])
		v.digester.Hash().Write(p[:n])
		v.left -= int64(n)
	}
	switch {
	case v.left == 0:
		err = v.finish()
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("sent %d of %d bytes: %w", v.desc.Size-v.left, v.desc.Size, errdefs.ErrDataLoss)
	case err == nil:
		return n, nil
	}
	if v.err = err; errors.Is(err, io.EOF) {
		return n, err
	}
	clear(p[:n])
	v.err = v.explain(err)
	return 0, v.err
}

// finish returns io.EOF if the blob is correct.
func (v *verifier) finish() error {
	var more [1]byte
	if n, _ := io.ReadFull(v.body, more[:]); n > 0 {
		return fmt.Errorf("sent more than %d bytes: %w", v.desc.Size, errdefs.ErrDataLoss)
	}
	if got := v.digester.Digest(); got != v.desc.Digest {
		return fmt.Errorf("sent bytes with digest %s: %w", got, errdefs.ErrDataLoss)
	}
	return io.EOF
}

func (v *verifier) Close() error { return v.body.Close() }

// ReaderAt implements [content.Provider]. It reads the whole blob into memory; [Repository.Blob]
// suits a large one.
func (r *Repository) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	if descriptor.IsManifest(desc.MediaType) {
		_, data, err := r.Manifest(ctx, desc.Digest.String())
		if err != nil {
			return nil, err
		}
		return blob.InMemory(data), nil
	}
	data, err := r.readBlob(ctx, desc)
	if errdefs.IsNotFound(err) && MayBeManifest(desc.MediaType) {
		if _, manifest, found := r.Manifest(ctx, desc.Digest.String()); found == nil {
			return blob.InMemory(manifest), nil
		}
	}
	if err != nil {
		return nil, err
	}
	return blob.InMemory(data), nil
}
