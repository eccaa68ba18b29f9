// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
)

// CopyBlob copies a blob between repositories of one registry or of two. Within a registry it
// is mounted if possible. report, which may be nil, is called with the bytes as they move, and
// with a negative number if they have to move again.
//
// A small blob is held in memory, so that it is read once even if writing it takes several
// tries. A large one is streamed, and read again if its upload breaks off.
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
		open, undo := Counted(func() (io.ReadCloser, error) { return src.Blob(ctx, desc) }, report)
		how, err := dst.PushBlob(ctx, desc, open)
		if err != nil {
			undo()
		}
		return how, err
	}
	if err := c.buffers.Acquire(ctx, desc.Size); err != nil {
		return "", context.Cause(ctx)
	}
	defer c.buffers.Release(desc.Size)
	data, err := src.readBlob(ctx, desc)
	if err != nil {
		return "", err
	}
	// Only now, so that other blobs can be written while this one is read.
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

// Foresee returns how CopyBlob, or PushBlob if src is nil, would move a blob, without moving
// it. It assumes that a registry mounts the blobs that it has.
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
	return Streamed, nil // CopyBlob does not ask for a small one either
}

// transfer waits for one of the places for blobs on their way to the host of a repository.
func (c *Client) transfer(ctx context.Context, dst *Repository) (release func(), err error) {
	transfers := c.host(dst.endpoint()).transfers
	return transfers.release, transfers.acquire(ctx)
}

// Counted reports the bytes that are read of the latest body that open returned, and takes back
// those of earlier bodies; undo takes back all. net/http may still read a body after the answer
// that ended its request.
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
		return Reported(body, func(n int64) {
			mu.Lock()
			defer mu.Unlock()
			if current == attempt {
				read += n
				report(n)
			}
		}), nil
	}
	return counted, func() { restart() }
}

// endpoint returns the name of the host that accepts pushes.
func (r *Repository) endpoint() string {
	host, err := r.pushHost()
	if err != nil {
		return r.host
	}
	return host.Host
}

// Reported returns the body, of which it reports the bytes that are read.
func Reported(body io.ReadCloser, report func(int64)) io.ReadCloser {
	return &reported{body, report}
}

type reported struct {
	io.ReadCloser
	report func(int64)
}

func (r *reported) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.report(int64(n))
	return n, err
}
