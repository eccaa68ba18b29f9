// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/taped-dev/tape/engine/content/internal/blob"
	"github.com/taped-dev/tape/engine/content/internal/class"
)

const (
	// unpacks and unpacksAtLeast bound the unpacked size of a compressed archive: a
	// multiple of its size, but at least that many bytes. Archives consist mostly of
	// layers, which are compressed already.
	unpacks        = 100
	unpacksAtLeast = 1 << 30
	// maxWindow is the maximum window size of zstd in bytes: the largest that its own
	// program accepts by default.
	maxWindow = 128 << 20
)

// OpenPlain opens a regular file for reading. A file compressed with gzip or zstd is
// unpacked to a temporary file, until ctx ends. The caller must call end, which also
// removes that.
func OpenPlain(ctx context.Context, name string) (f *os.File, info os.FileInfo, end func() error, err error) {
	r, err := openRegular(name)
	if err != nil {
		return nil, nil, nil, err
	}
	unpack, err := decompressor(r.File)
	if err != nil || unpack == nil {
		if err != nil {
			return nil, nil, nil, errors.Join(err, r.Close())
		}
		return r.File, r.Info, r.Close, nil
	}
	f, info, end, err = spill(ctx, unpack, max(unpacks*r.Info.Size(), unpacksAtLeast))
	return f, info, end, errors.Join(err, r.Close())
}

// decompressor returns a reader that decompresses a file, or nil if it is not compressed.
func decompressor(f *os.File) (io.Reader, error) {
	magic := make([]byte, 5)
	n, err := f.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch magic = magic[:n]; {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(f)
		if err != nil {
			return nil, class.Errorf(errdefs.ErrDataLoss, "it is damaged, copy it again: gzip: %w", err)
		}
		return r, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(magic) > 4 && magic[0]>>4 == 5 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18}):
		// The second is a frame to skip, with which pzstd begins.
		r, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("unpack zstd: %w", err)
		}
		return r.IOReadCloser(), nil
	}
	for name, begin := range map[string]string{"bzip2": "BZh", "xz": "\xfd7zXZ", "lz4": "\x04\x22\x4d\x18", "zip": "PK\x03\x04"} {
		if bytes.HasPrefix(magic, []byte(begin)) {
			return nil, class.Errorf(errdefs.ErrInvalidArgument, "it is compressed with %s: unpack it first, or use gzip or zstd", name)
		}
	}
	return nil, nil
}

// spill writes at most limit bytes to a temporary file.
func spill(ctx context.Context, r io.Reader, limit int64) (f *os.File, info os.FileInfo, end func() error, err error) {
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	f, err = os.CreateTemp("", "tape-archive-*")
	if err != nil {
		return nil, nil, nil, fmt.Errorf("unpack it: %w", err)
	}
	end = f.Close
	if err := os.Remove(f.Name()); err != nil { // some systems cannot remove open files
		end = func() error { return errors.Join(f.Close(), os.Remove(f.Name())) }
	}
	n, err := io.Copy(f, io.LimitReader(blob.WithContext(ctx, r), limit+1))
	switch {
	case context.Cause(ctx) != nil:
		err = context.Cause(ctx)
	case err != nil && errors.As(err, new(*os.PathError)):
		err = fmt.Errorf("unpack it: %w", err)
	case err != nil:
		err = class.Errorf(errdefs.ErrDataLoss, "it is damaged, copy it again: %w", err)
	case n > limit:
		err = class.Errorf(errdefs.ErrDataLoss, "it unpacks to more than %d bytes: if that is intended, unpack it first", limit)
	default:
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			info, err = f.Stat()
		}
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, end())
	}
	return f, info, end, nil
}
