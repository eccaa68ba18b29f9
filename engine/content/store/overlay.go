// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// trustedSize is the most memory to allocate in advance based on a descriptor; for larger
// blobs memory grows as data arrives.
const trustedSize = 64 << 20

// Overlay is an in-memory store on top of another: it reads from both and writes to memory,
// so that what a run creates is gone afterwards. Its methods may be called concurrently and
// return the context's cause once it has ended.
//
// An ingest belongs to its writer: it ends with Commit or Close, is not listed, and several
// may use the same ref.
type Overlay struct {
	base content.Store

	mu    sync.RWMutex
	blobs map[digest.Digest]memoryBlob
}

type memoryBlob struct {
	data []byte // immutable
	at   time.Time
}

// NewOverlay returns an empty overlay on top of base, which may be nil.
func NewOverlay(base content.Store) *Overlay {
	return &Overlay{base: base, blobs: map[digest.Digest]memoryBlob{}}
}

// Keep copies a blob from memory to the base. It returns an error if neither has the blob.
func (o *Overlay) Keep(ctx context.Context, desc ocispec.Descriptor) error {
	if o.base == nil {
		return fmt.Errorf("keep %s: the overlay has no base: %w", desc.Digest, errdefs.ErrFailedPrecondition)
	}
	blob, ok := o.memory(desc.Digest)
	if !ok {
		ra, err := o.base.ReaderAt(ctx, desc)
		if err != nil {
			return fmt.Errorf("keep %s: %w", desc.Digest, err)
		}
		return ra.Close()
	}
	desc.Size = int64(len(blob.data))
	if err := content.WriteBlob(ctx, o.base, desc.Digest.String(), bytes.NewReader(blob.data), desc); err != nil {
		return fmt.Errorf("keep %s: %w", desc.Digest, err)
	}
	return nil
}

// Bytes returns a blob that is in memory. The caller must not modify it.
func (o *Overlay) Bytes(dgst digest.Digest) ([]byte, bool) {
	blob, ok := o.memory(dgst)
	return blob.data, ok
}

// ReaderAt implements [content.Provider].
func (o *Overlay) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if blob, ok := o.memory(desc.Digest); ok {
		return memoryReader{bytes.NewReader(blob.data)}, nil
	}
	if o.base == nil {
		return nil, notFound(desc.Digest)
	}
	return o.base.ReaderAt(ctx, desc)
}

// Info implements [content.InfoProvider].
func (o *Overlay) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	if blob, ok := o.memory(dgst); ok {
		return blob.info(dgst), nil
	}
	if o.base == nil {
		return content.Info{}, notFound(dgst)
	}
	return o.base.Info(ctx, dgst)
}

// Update implements [content.Manager]. It always fails: labels are not supported.
func (o *Overlay) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, fmt.Errorf("labels: %w", errdefs.ErrNotImplemented)
}

// Walk implements [content.Manager]: first blobs in memory, in any order, then those that
// only the base has. Filters are not supported.
func (o *Overlay) Walk(ctx context.Context, fn content.WalkFunc, filters ...string) error {
	if len(filters) > 0 {
		return fmt.Errorf("filters: %w", errdefs.ErrNotImplemented)
	}
	o.mu.RLock()
	var infos []content.Info
	for dgst, blob := range o.blobs {
		infos = append(infos, blob.info(dgst))
	}
	o.mu.RUnlock()
	seen := map[digest.Digest]bool{}
	for _, info := range infos {
		seen[info.Digest] = true
		if err := fn(info); err != nil {
			return err
		}
	}
	if o.base == nil {
		return nil
	}
	return o.base.Walk(ctx, func(info content.Info) error {
		if seen[info.Digest] {
			return nil
		}
		return fn(info)
	})
}

// Delete implements [content.Manager]. It deletes from memory only.
func (o *Overlay) Delete(_ context.Context, dgst digest.Digest) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.blobs[dgst]; !ok {
		return notFound(dgst)
	}
	delete(o.blobs, dgst)
	return nil
}

// Status implements [content.IngestManager]; see [Overlay].
func (o *Overlay) Status(_ context.Context, ref string) (content.Status, error) {
	return content.Status{}, fmt.Errorf("ingest %q: %w", ref, errdefs.ErrNotFound)
}

// ListStatuses implements [content.IngestManager]; see [Overlay].
func (o *Overlay) ListStatuses(context.Context, ...string) ([]content.Status, error) { return nil, nil }

// Abort implements [content.IngestManager]; see [Overlay].
func (o *Overlay) Abort(_ context.Context, ref string) error {
	return fmt.Errorf("ingest %q: %w", ref, errdefs.ErrNotFound)
}

// Writer implements [content.Ingester]. It returns an error of class ErrAlreadyExists if
// either layer has the blob.
func (o *Overlay) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var wanted content.WriterOpts
	for _, opt := range opts {
		if err := opt(&wanted); err != nil {
			return nil, err
		}
	}
	algorithm := digest.Canonical
	if dgst := wanted.Desc.Digest; dgst != "" {
		if err := dgst.Validate(); err != nil {
			return nil, fmt.Errorf("write %q: %w: %w", dgst, err, errdefs.ErrInvalidArgument)
		}
		ra, err := o.ReaderAt(ctx, wanted.Desc)
		if err == nil {
			ra.Close()
			return nil, fmt.Errorf("blob %s: %w", dgst, errdefs.ErrAlreadyExists)
		}
		if !errdefs.IsNotFound(err) {
			return nil, err
		}
		algorithm = dgst.Algorithm()
	}
	w := &memoryWriter{overlay: o, ref: wanted.Ref, total: wanted.Desc.Size, digester: algorithm.Digester(), started: time.Now()}
	w.buf.Grow(int(min(max(wanted.Desc.Size, 0), trustedSize)))
	return w, nil
}

func (o *Overlay) memory(dgst digest.Digest) (memoryBlob, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	blob, ok := o.blobs[dgst]
	return blob, ok
}

func (b memoryBlob) info(dgst digest.Digest) content.Info {
	return content.Info{Digest: dgst, Size: int64(len(b.data)), CreatedAt: b.at, UpdatedAt: b.at}
}

// memoryReader's Size is that of bytes.Reader.
type memoryReader struct{ *bytes.Reader }

func (memoryReader) Close() error { return nil }

type memoryWriter struct {
	overlay  *Overlay
	ref      string
	total    int64
	digester digest.Digester
	started  time.Time
	buf      bytes.Buffer
	closed   bool
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	if w.closed {
		return 0, fmt.Errorf("write to closed ingest %q: %w", w.ref, errdefs.ErrFailedPrecondition)
	}
	w.digester.Hash().Write(p)
	return w.buf.Write(p)
}

func (w *memoryWriter) Close() error {
	w.closed = true
	return nil
}

func (w *memoryWriter) Digest() digest.Digest { return w.digester.Digest() }

func (w *memoryWriter) Status() (content.Status, error) {
	return content.Status{Ref: w.ref, Offset: int64(w.buf.Len()), Total: w.total, StartedAt: w.started, UpdatedAt: w.started}, nil
}

func (w *memoryWriter) Truncate(size int64) error {
	if size != 0 {
		return fmt.Errorf("truncate to %d: %w", size, errdefs.ErrInvalidArgument)
	}
	w.buf.Reset()
	w.digester.Hash().Reset()
	return nil
}

func (w *memoryWriter) Commit(ctx context.Context, size int64, expected digest.Digest, _ ...content.Opt) error {
	if w.closed {
		return fmt.Errorf("commit closed ingest %q: %w", w.ref, errdefs.ErrFailedPrecondition)
	}
	w.closed = true
	if err := context.Cause(ctx); err != nil {
		return err
	}
	data := w.buf.Bytes()
	if size > 0 && size != int64(len(data)) {
		return fmt.Errorf("commit %d bytes, expected %d: %w", len(data), size, errdefs.ErrFailedPrecondition)
	}
	dgst := w.digester.Digest()
	if expected != "" && expected.Algorithm() != dgst.Algorithm() && expected.Validate() == nil {
		dgst = expected.Algorithm().FromBytes(data)
	}
	if expected != "" && expected != dgst {
		return fmt.Errorf("commit %s, expected %s: %w", dgst, expected, errdefs.ErrFailedPrecondition)
	}
	w.overlay.mu.Lock()
	defer w.overlay.mu.Unlock()
	if _, ok := w.overlay.blobs[dgst]; ok {
		return fmt.Errorf("blob %s: %w", dgst, errdefs.ErrAlreadyExists)
	}
	w.overlay.blobs[dgst] = memoryBlob{data: data, at: time.Now()}
	return nil
}

func notFound(dgst digest.Digest) error {
	return fmt.Errorf("blob %s: %w", dgst, errdefs.ErrNotFound)
}

var _ content.Store = (*Overlay)(nil)
