// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"io"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CopyBlob moves a blob between repositories, of one registry or of two. Within a
// registry it is mounted where that works. report, which may be nil, hears of the
// bytes as they arrive, and of a negative number when they have to arrive again.
//
// A small blob goes through memory, so that it is read once however often it takes
// to write it. A large one streams, and is read again when its upload breaks off.
func (c *Client) CopyBlob(ctx context.Context, dst, src *Repository, desc ocispec.Descriptor, report func(n int64)) (How, error) {
	if dst.name == src.name {
		return Existing, nil
	}
	if report == nil {
		report = func(int64) {}
	}
	transfers := c.host(dst.endpoint()).transfers
	if err := transfers.acquire(ctx); err != nil {
		return "", err
	}
	defer transfers.release()
	from := ""
	if dst.host == src.host {
		from = src.path
	}
	if desc.Size > maxBuffered {
		return dst.pushBlob(ctx, desc, from, func() (io.ReadCloser, error) {
			body, err := src.Blob(ctx, desc)
			if err != nil {
				return nil, err
			}
			return &reported{ReadCloser: body, size: desc.Size, report: report}, nil
		})
	}
	if err := c.buffers.Acquire(ctx, desc.Size); err != nil {
		return "", context.Cause(ctx)
	}
	defer c.buffers.Release(desc.Size)
	var data []byte
	read := func() (err error) {
		if data == nil {
			if data, err = src.readBlob(ctx, desc); err == nil {
				report(desc.Size)
			}
		}
		return err
	}
	if from == "" {
		// Nothing is begun at the destination that the source does not have.
		if err := read(); err != nil {
			return "", err
		}
	}
	return dst.pushBlob(ctx, desc, from, func() (io.ReadCloser, error) {
		if err := read(); err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}

// endpoint is the host that takes pushes.
func (r *Repository) endpoint() string {
	hosts, err := r.hosts(r.host)
	if err != nil {
		return r.host
	}
	for _, h := range hosts {
		if h.Capabilities.Has(docker.HostCapabilityPush) {
			return h.Host
		}
	}
	return r.host
}

// reported tells of what is read, and takes it back if that is not all.
type reported struct {
	io.ReadCloser
	size   int64
	n      int64
	report func(int64)
}

func (r *reported) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n += int64(n)
	r.report(int64(n))
	return n, err
}

func (r *reported) Close() error {
	if r.n < r.size {
		r.report(-r.n)
	}
	return r.ReadCloser.Close()
}
