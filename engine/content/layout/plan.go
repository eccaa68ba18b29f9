// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/internal/blob"
)

// PartialSuffix is the suffix of an incomplete file.
const PartialSuffix = ".partial"

// Blob opens the content of a descriptor. Reading must fail if the content does not match
// the descriptor's digest.
type Blob func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)

// PlanOptions configure a write. The zero value is usable.
type PlanOptions struct {
	// Concurrency is the number of blobs to fetch concurrently; 0 means 8.
	Concurrency int
	// Resume continues FILE.partial from an interrupted write of the same layout. If it is
	// not set, such a file is discarded.
	Resume bool
	// Report is called with numbers of bytes that were written or already present,
	// concurrently; it may be nil.
	Report func(n int64)
}

// entry is a file in the tar and its position.
type entry struct {
	name   string
	size   int64
	data   []byte             // for the two small files
	desc   ocispec.Descriptor // for a blob
	header []byte
	at     int64 // offset of the header
}

func (e *entry) body() int64 { return e.at + int64(len(e.header)) }

// Plan is the arrangement of an archive: its entries with their positions.
type Plan struct {
	entries []*entry
	size    int64
}

// NewPlan plans an archive with this index.json and these blobs. Duplicate blobs are
// written once.
func NewPlan(index []byte, blobs []ocispec.Descriptor) (*Plan, error) {
	entries := []*entry{
		{name: ocispec.ImageIndexFile, size: int64(len(index)), data: index},
		{name: ocispec.ImageLayoutFile, data: []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)},
	}
	entries[1].size = int64(len(entries[1].data))
	seen := map[digest.Digest]int64{}
	for _, b := range blobs {
		if err := b.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("blob %q: %w", b.Digest, err)
		}
		if size, twice := seen[b.Digest]; twice {
			if size != b.Size {
				return nil, fmt.Errorf("blob %s has two sizes, %d and %d bytes", b.Digest, size, b.Size)
			}
			continue
		}
		seen[b.Digest] = b.Size
		entries = append(entries, &entry{
			name: ocispec.ImageBlobsDir + "/" + b.Digest.Algorithm().String() + "/" + b.Digest.Encoded(),
			size: b.Size, desc: b,
		})
	}
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.name, b.name) })
	p := &Plan{entries: entries}
	for _, e := range entries {
		var buf bytes.Buffer
		if err := tar.NewWriter(&buf).WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: e.name, Size: e.size, Mode: 0o644, ModTime: time.Unix(0, 0),
		}); err != nil {
			return nil, fmt.Errorf("lay out %s: %w", e.name, err)
		}
		e.header, e.at = buf.Bytes(), p.size
		p.size += int64(len(e.header)) + padded(e.size)
	}
	p.size += trailer
	return p, nil
}

const (
	// block is the block size of a tar.
	block = 512
	// trailer is the number of bytes after the last entry of a complete tar: two blocks of zeroes.
	trailer = 2 * block
)

func padded(n int64) int64 { return (n + block - 1) / block * block }

// Size returns the size of the file in bytes.
func (p *Plan) Size() int64 { return p.size }

// Check returns an error if an archive differs from the plan, except in the content of
// blobs, which have digests.
func (p *Plan) Check(ctx context.Context, file *io.SectionReader) error {
	if file.Size() != p.size {
		return fmt.Errorf("it has %d bytes, not %d", file.Size(), p.size)
	}
	var found [copyBuffer]byte
	same := func(want []byte, at int64, what string) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		for len(want) > 0 {
			part := found[:min(len(want), len(found))]
			if _, err := file.ReadAt(part, at); err != nil {
				return fmt.Errorf("read %s: %w", what, err)
			}
			if !bytes.Equal(part, want[:len(part)]) {
				return fmt.Errorf("%s differs", what)
			}
			want, at = want[len(part):], at+int64(len(part))
		}
		return nil
	}
	zeros := make([]byte, trailer)
	for _, e := range p.entries {
		if err := errors.Join(
			same(e.header, e.at, "the header of "+e.name),
			same(e.data, e.body(), e.name),
			same(zeros[:padded(e.size)-e.size], e.body()+e.size, "what follows "+e.name),
		); err != nil {
			return err
		}
	}
	return same(zeros, p.size-trailer, "its end")
}

// WriteFile writes the archive to a temporary file and renames it when complete. If
// interrupted, it leaves FILE.partial for Resume. It waits, until ctx ends, for other
// processes that write to the same file.
func (p *Plan) WriteFile(ctx context.Context, file string, open Blob, o PlanOptions) (err error) {
	partial := file + PartialSuffix
	f, unlock, err := openLocked(ctx, partial)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer unlock()
	defer f.Close()
	if !o.Resume {
		if err := f.Truncate(0); err != nil {
			return fmt.Errorf("write archive %s: %w", partial, err)
		}
	}
	before, err := f.Stat()
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	// A partial file of another layout has another size or other headers; its blobs fail
	// verification and are overwritten.
	resume := o.Resume && before.Size() == p.size
	if err := f.Truncate(p.size); err != nil {
		return fmt.Errorf("write archive %s: %w", partial, err)
	}
	o.Concurrency = cmp.Or(max(o.Concurrency, 0), 8)
	if o.Report == nil {
		o.Report = func(int64) {}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Concurrency)
	// Largest first, so that a large blob is not the last to start.
	order := slices.Clone(p.entries)
	slices.SortStableFunc(order, func(a, b *entry) int { return cmp.Compare(b.size, a.size) })
	for _, e := range order {
		g.Go(func() error { return p.place(ctx, f, e, open, resume, o.Report) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	// Do not sync, which takes half as long as writing: reading the archive detects data lost
	// in a power failure, and the archive is a copy.
	if err := f.Close(); err != nil {
		return fmt.Errorf("write archive %s: %w", partial, err)
	}
	if err := os.Rename(partial, file); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// lockDelay is the interval of attempts to lock a file.
const lockDelay = 100 * time.Millisecond

// openLocked creates or opens a file and locks it. On file systems without locks the file
// is not locked.
func openLocked(ctx context.Context, name string) (f *os.File, unlock func(), err error) {
	for {
		lock := flock.New(name, flock.SetFlag(os.O_RDWR|os.O_CREATE), flock.SetPermissions(0o644))
		_, err := lock.TryLockContext(ctx, lockDelay)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
			return f, func() {}, err
		case ctx.Err() != nil:
			return nil, nil, fmt.Errorf("wait for another process that writes to %s: %w", name, context.Cause(ctx))
		case err != nil:
			return nil, nil, err
		}
		unlock = func() { _ = lock.Close() } // nothing was written through it
		f, err = os.OpenFile(name, os.O_RDWR, 0o644)
		if err == nil {
			locked, lockErr := lock.Stat()
			opened, openErr := f.Stat()
			if lockErr == nil && openErr == nil && os.SameFile(locked, opened) {
				return f, unlock, nil
			}
			err = errors.Join(lockErr, openErr, f.Close())
		}
		unlock()
		// The process that held the lock has renamed the file; try again.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
	}
}

// place writes one entry at its position.
func (p *Plan) place(ctx context.Context, f *os.File, e *entry, open Blob, resume bool, report func(int64)) error {
	if _, err := f.WriteAt(e.header, e.at); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if resume && e.desc.Digest != "" {
		whole, err := holds(ctx, io.NewSectionReader(f, e.body(), e.size), e.desc.Digest)
		if err != nil {
			return fmt.Errorf("read archive %s: %w", f.Name(), err)
		}
		if whole {
			report(e.size)
			return nil
		}
	}
	return e.copy(ctx, io.NewOffsetWriter(f, e.body()), open, report)
}

// copyBuffer is the size of the buffer for copying a blob, in bytes.
const copyBuffer = 128 << 10

// copy writes one of the small files, or a blob, which the reader from open verifies.
func (e *entry) copy(ctx context.Context, w io.Writer, open Blob, report func(int64)) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if e.desc.Digest == "" {
		_, err := counting{w, report}.Write(e.data)
		return err
	}
	r, err := open(ctx, e.desc)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", e.desc.Digest, err)
	}
	defer r.Close()
	n, err := io.CopyBuffer(counting{w, report}, io.LimitReader(blob.WithContext(ctx, r), e.size+1), make([]byte, min(e.size+1, copyBuffer)))
	switch {
	case err != nil:
		return fmt.Errorf("fetch %s: %w", e.desc.Digest, err)
	case n != e.size:
		return fmt.Errorf("fetch %s: got %d bytes, not %d", e.desc.Digest, n, e.size)
	}
	return nil
}

// Write writes the archive to a stream, one blob after the other.
func (p *Plan) Write(ctx context.Context, w io.Writer, open Blob, report func(n int64)) error {
	if report == nil {
		report = func(int64) {}
	}
	zeros := make([]byte, trailer)
	for _, e := range p.entries {
		if _, err := w.Write(e.header); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		if err := e.copy(ctx, w, open, report); err != nil {
			return err
		}
		if _, err := w.Write(zeros[:padded(e.size)-e.size]); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	if _, err := w.Write(zeros); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// holds reports whether the content of a reader has the digest.
func holds(ctx context.Context, r io.Reader, want digest.Digest) (bool, error) {
	got, err := want.Algorithm().FromReader(blob.WithContext(ctx, r))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	return got == want, err
}

// counting reports the number of bytes written.
type counting struct {
	io.Writer
	report func(int64)
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.report(int64(n))
	return n, err
}
