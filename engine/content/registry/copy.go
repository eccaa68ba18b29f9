// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
)

// CopyBlob moves a blob between repositories, of one registry or of two. Within a
// registry it is mounted where that works. report, which may be nil, hears of the
// bytes as they move, and of a negative number when they have to move again.
//
// A small blob goes through memory, so that it is read once however often it takes
// to write it. A large one streams, and is read again when its upload breaks off.
func (c *Client) CopyBlob(ctx context.Context, dst, src *Repository, desc ocispec.Descriptor, report func(n int64)) (How, error) {
	if err := descriptor.Check(desc); err != nil {
		return "", dst.explain(ctx, "copy", src.Ref(desc.Digest.String()), err)
	}
	if dst.name == src.name {
		return Existing, nil
	}
	if report == nil {
		report = func(int64) {}
	}
	if dst.host == src.host {
		if mounted, err := dst.mount(ctx, desc, src); mounted || err != nil {
			return Mounted, err
		}
	}
	if desc.Size > maxBuffered {
		release, err := c.transfer(ctx, dst)
		if err != nil {
			return "", err
		}
		defer release()
		return dst.stream(ctx, src, desc, report)
	}
	if err := c.buffers.Acquire(ctx, desc.Size); err != nil {
		return "", context.Cause(ctx)
	}
	defer c.buffers.Release(desc.Size)
	data, err := src.readBlob(ctx, desc)
	if err != nil {
		return "", err
	}
	// Only now: while some blobs are read, others are written.
	release, err := c.transfer(ctx, dst)
	if err != nil {
		return "", err
	}
	defer release()
	how, err := dst.pushSmall(ctx, desc, data)
	if err == nil {
		report(desc.Size)
	}
	return how, err
}

// Foresee is how CopyBlob, or PushBlob where src is nil, would move a blob, found out
// without moving it: that a registry mounts what it has is taken for granted.
func (c *Client) Foresee(ctx context.Context, dst, src *Repository, desc ocispec.Descriptor) (How, error) {
	switch {
	case src != nil && dst.name == src.name:
		return Existing, nil
	case src != nil && dst.host == src.host:
		return Mounted, nil
	case desc.Size > maxBuffered:
		there, err := dst.Exists(ctx, ocispec.Descriptor{MediaType: blobType, Digest: desc.Digest})
		if there {
			return Existing, nil
		}
		return Streamed, err
	}
	return Streamed, nil // a small one is not asked for
}

// transfer waits for a place among the blobs on their way to a repository's host.
func (c *Client) transfer(ctx context.Context, dst *Repository) (release func(), err error) {
	transfers := c.host(dst.endpoint()).transfers
	return transfers.release, transfers.acquire(ctx)
}

func (r *Repository) stream(ctx context.Context, src *Repository, desc ocispec.Descriptor, report func(int64)) (How, error) {
	open, undo := Counted(func() (io.ReadCloser, error) { return src.Blob(ctx, desc) }, report)
	how, err := r.PushBlob(ctx, desc, open)
	if err != nil {
		undo()
	}
	return how, err
}

// Counted reports what is read of the last body that open opened, in bytes, and
// takes back what was read of those before it; undo takes back all. A body may
// still be read by net/http after the answer that ended its request.
func Counted(open func() (io.ReadCloser, error), report func(int64)) (counted func() (io.ReadCloser, error), undo func()) {
	var (
		mu      sync.Mutex
		attempt int
		read    int64
	)
	restart := func() int {
		mu.Lock()
		defer mu.Unlock()
		report(-read)
		read = 0
		attempt++
		return attempt
	}
	counted = func() (io.ReadCloser, error) {
		current := restart()
		body, err := open()
		if err != nil {
			return nil, err
		}
		return &reported{ReadCloser: body, report: func(n int64) {
			mu.Lock()
			defer mu.Unlock()
			if current == attempt {
				read += n
				report(n)
			}
		}}, nil
	}
	return counted, func() { restart() }
}

// endpoint is the name of the host that takes pushes.
func (r *Repository) endpoint() string {
	host, err := r.pushHost()
	if err != nil {
		return r.host
	}
	return host.Host
}

// reported tells of what is read.
type reported struct {
	io.ReadCloser
	report func(int64)
}

func (r *reported) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.report(int64(n))
	return n, err
}
