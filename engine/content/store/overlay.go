// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/internal/blob"
)

// trustedSize is the most memory to allocate in advance based on a descriptor; for larger
// blobs memory grows as data arrives.
const trustedSize = 64 << 20

// Overlay is an in-memory store on top of another: it reads from both and writes to memory,
// so that what a run creates is gone afterwards. Its methods may be called concurrently and
// return the context's cause once it has ended.
//
// An ingest belongs to its writer: it ends with Commit or Close, and several may use the
// same ref.
type Overlay struct {
	base Blobs
	*layer
}

// layer is what is in memory.
type layer struct {
	mu    sync.RWMutex
	blobs map[digest.Digest]memoryBlob
	uses  map[digest.Digest]int // that were counted
}

// Blobs is the part of [content.Store] that reads and writes blobs.
type Blobs interface {
	content.Provider
	content.InfoProvider
	content.Ingester
}

type memoryBlob struct {
	data []byte // immutable
	at   time.Time
}

// NewOverlay returns an empty overlay on top of base, which may be nil.
func NewOverlay(base Blobs) *Overlay {
	return &Overlay{base, &layer{blobs: map[digest.Digest]memoryBlob{}, uses: map[digest.Digest]int{}}}
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

// KeepBytes writes a blob of which the caller knows the digest, unless it is there. It keeps
// data, which must not be changed afterwards.
func (o *Overlay) KeepBytes(ctx context.Context, dgst digest.Digest, data []byte) error {
	ra, err := o.ReaderAt(ctx, ocispec.Descriptor{Digest: dgst, Size: int64(len(data))})
	if err == nil {
		return ra.Close()
	}
	if !errdefs.IsNotFound(err) {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.blobs[dgst]; !ok {
		o.blobs[dgst] = memoryBlob{data: data, at: time.Now()}
	}
	return nil
}

// ReaderAt implements [content.Provider].
func (o *Overlay) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if kept, ok := o.memory(desc.Digest); ok {
		return blob.InMemory(kept.data), nil
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

// Retain counts one more use of blobs; one that is not in memory has none.
func (o *Overlay) Retain(digests ...digest.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, dgst := range digests {
		o.uses[dgst]++
	}
}

// Release ends uses that were counted, and removes from memory what has none left.
func (o *Overlay) Release(digests ...digest.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, dgst := range digests {
		if o.uses[dgst]--; o.uses[dgst] <= 0 {
			delete(o.uses, dgst)
			delete(o.blobs, dgst)
		}
	}
}

// Closure returns what a blob in memory refers to, directly or not, as far as it is in memory:
// the blob first. The end of ctx does not matter, because nothing is waited for.
func (o *Overlay) Closure(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return Closure(context.WithoutCancel(ctx), &Overlay{layer: o.layer}, desc)
}

// Hold is one user's view of the layer: what the user writes stays as long as the user holds
// it, even if others release the same blob.
type Hold struct {
	*Overlay

	mu   sync.Mutex
	held []digest.Digest
}

// Hold begins to hold what is written.
func (o *Overlay) Hold() *Hold { return &Hold{Overlay: o} }

// Writer implements [content.Ingester].
func (h *Hold) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	wanted, err := writerOpts(opts)
	if err != nil {
		return nil, err
	}
	if wanted.Desc.Digest != "" {
		h.hold(wanted.Desc.Digest) // before it is found to be there
	}
	w, err := h.Overlay.Writer(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return &holdingWriter{w, h}, nil
}

// KeepBytes is [Overlay.KeepBytes], and holds the blob.
func (h *Hold) KeepBytes(ctx context.Context, dgst digest.Digest, data []byte) error {
	h.hold(dgst) // before it is found to be there
	return h.Overlay.KeepBytes(ctx, dgst, data)
}

func (h *Hold) hold(dgst digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = append(h.held, dgst)
	h.Retain(dgst)
}

// LetGo ends the hold.
func (h *Hold) LetGo() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Release(h.held...)
	h.held = nil
}

type holdingWriter struct {
	content.Writer
	hold *Hold
}

func (w *holdingWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	expected = cmp.Or(expected, w.Digest())
	w.hold.hold(expected)
	return w.Writer.Commit(ctx, size, expected, opts...)
}

// Writer implements [content.Ingester]. It returns an error of class ErrAlreadyExists if
// either layer has the blob.
func (o *Overlay) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	wanted, err := writerOpts(opts)
	if err != nil {
		return nil, err
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

func (l *layer) memory(dgst digest.Digest) (memoryBlob, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	blob, ok := l.blobs[dgst]
	return blob, ok
}

func (b memoryBlob) info(dgst digest.Digest) content.Info {
	return content.Info{Digest: dgst, Size: int64(len(b.data)), CreatedAt: b.at, UpdatedAt: b.at}
}

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

var _ Blobs = (*Overlay)(nil)
