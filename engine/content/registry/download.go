// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// resuming is the body of a blob that is requested again, from where it broke off.
type resuming struct {
	io.ReadCloser
	ctx    context.Context // of the request that it is the body of
	client *Client
	open   func(offset int64) (io.ReadCloser, error)
	size   int64

	offset  int64
	came    int // bytes since the last try
	tries   int // tries since enough bytes arrived to justify another
	resumes int
}

// maxResumes bounds how often the download of one blob is resumed.
const maxResumes = 100

func (r *resuming) Read(p []byte) (int, error) {
	for {
		n, err := r.ReadCloser.Read(p)
		r.offset += int64(n)
		if r.came += n; r.came >= slowest {
			r.came, r.tries = 0, 0
		}
		broken := r.broke(err)
		switch {
		case broken == nil:
			return n, err
		case n > 0:
			return n, nil // the next Read returns the error again
		}
		if err := r.resume(broken, err); err != nil {
			return 0, err
		}
	}
}

// broke returns the error of a body that can be resumed, or nil. A body that ends too early may
// have been cut off by a proxy that declares the part to be the whole.
func (r *resuming) broke(err error) *requestError {
	if r.offset >= r.size {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return &requestError{worth: fewTries, again: true}
	}
	if broken, ok := errors.AsType[*requestError](err); ok && broken.again {
		return broken
	}
	return nil
}

// resume requests the remaining bytes, unless that was tried often enough.
func (r *resuming) resume(broken *requestError, err error) error {
	for {
		r.tries++
		r.resumes++
		r.came = 0
		if r.tries >= broken.worth || r.resumes > maxResumes || context.Cause(r.ctx) != nil {
			if errors.Is(err, io.EOF) {
				return err
			}
			final := *broken
			final.again, final.tried = false, r.tries
			return &final
		}
		r.client.log.InfoContext(r.ctx, "resuming a blob", "at", r.offset, "of", r.size, "after", err)
		if err := sleep(r.ctx, max(broken.wait, backoff(r.tries))); err != nil {
			return err
		}
		body, failed := r.open(r.offset)
		if failed == nil {
			r.ReadCloser.Close()
			r.ReadCloser = body
			return nil
		}
		var ok bool
		if broken, ok = errors.AsType[*requestError](failed); !ok || !broken.again {
			return failed
		}
		err = failed
	}
}

// openBlob requests a blob from an offset. If the registry does not support ranges, the whole
// blob is requested and the beginning is skipped.
func (r *Repository) openBlob(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	ask := request{method: http.MethodGet, path: "/blobs/" + desc.Digest.String(), wanted: []int{http.StatusOK}, page: desc.Size}
	if offset > 0 {
		part := ask
		part.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", offset)}}
		part.wanted = []int{http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable}
		resp, err := r.read(ctx, docker.HostCapabilityPull, part)
		_, refused := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
		switch {
		case refused: // some refuse ranges
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusOK:
			return skip(resp, desc, offset)
		case resp.StatusCode == http.StatusPartialContent && len(codings(resp.Header)) == 0 &&
			strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)):
			return resp.Body, nil
		default:
			drain(resp) // it is another part than the requested one
		}
	}
	resp, err := r.read(ctx, docker.HostCapabilityPull, ask)
	if err != nil {
		return nil, err
	}
	return skip(resp, desc, offset)
}

// skip returns the part of an answer that begins at an offset of the blob.
func skip(resp *http.Response, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	body, err := plainBlob(resp, desc)
	if err == nil {
		if _, err = io.CopyN(io.Discard, body, offset); errors.Is(err, io.EOF) {
			err = fmt.Errorf("sent less than %d bytes, which it had sent before: %w", offset, errdefs.ErrDataLoss)
		}
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return body, nil
}

// maxCodings bounds the number of content codings.
const maxCodings = 3

// codings returns the content codings of an answer, outermost last. tape requests none: they
// were added by a proxy, or describe a blob that is stored and sent compressed.
func codings(header http.Header) []string {
	var out []string
	for _, value := range header.Values("Content-Encoding") {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "x-")
			if name != "" && name != "identity" {
				out = append(out, name)
			}
		}
	}
	if len(out) > maxCodings {
		return nil
	}
	return out
}

// decoder undoes content codings.
func decoder(body io.Reader, codings []string) (io.Reader, error) {
	for _, name := range slices.Backward(codings) {
		var err error
		switch name {
		case "gzip":
			body, err = gzip.NewReader(body)
		case "deflate":
			// RFC 9110 means zlib; some servers send a bare deflate stream.
			buffered := bufio.NewReader(body)
			if head, failed := buffered.Peek(2); failed == nil && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
				body, err = zlib.NewReader(buffered)
			} else {
				body = flate.NewReader(buffered)
			}
		case "zstd":
			var r *zstd.Decoder
			r, err = zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
			body = r
		default:
			return nil, fmt.Errorf("content coding %q: %w", oneLine(name), errdefs.ErrNotImplemented)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
		}
	}
	return body, nil
}

// maxWindow bounds the memory of a decoder, in bytes.
const maxWindow = 8 << 20

// plainJSON undoes the content codings that a proxy added to a manifest or another document,
// unless it only declared them. At most one byte more than limit is returned.
func plainJSON(data []byte, codings []string, limit int64) ([]byte, error) {
	if len(codings) == 0 || bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return data, nil
	}
	body, err := decoder(bytes.NewReader(data), codings)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("sent a document as %s: %w: %w", strings.Join(codings, ", "), err, errdefs.ErrDataLoss)
	}
	return out, nil
}

// plainBlob returns the body of an answer in the form that has the digest of desc. A
// Content-Encoding may have been added by a proxy or describe the blob itself: the sizes tell
// which, or else the first bytes and the media type.
func plainBlob(resp *http.Response, desc ocispec.Descriptor) (io.ReadCloser, error) {
	codings := codings(resp.Header)
	if len(codings) == 0 || resp.ContentLength == desc.Size {
		return resp.Body, nil
	}
	buffered := bufio.NewReaderSize(resp.Body, peeked)
	head, _ := buffered.Peek(peeked) // a failure here shows up later as an error of reading
	as := func(body io.Reader) io.ReadCloser {
		return struct {
			io.Reader
			io.Closer
		}{body, resp.Body}
	}
	if !encoded(head, codings, desc, resp.ContentLength >= 0) {
		return as(buffered), nil
	}
	body, err := decoder(buffered, codings)
	if err != nil {
		return nil, err
	}
	return as(&decoding{body}), nil
}

// peeked is how many bytes of a blob are examined.
const peeked = 4 << 10

// encoded reports whether data that begins with head is really in the codings that the header
// declares. sized means that its length is known and is not that of the blob.
func encoded(head []byte, codings []string, desc ocispec.Descriptor, sized bool) bool {
	inner, err := decoder(bytes.NewReader(head), codings)
	if err != nil {
		return false
	}
	var first [4]byte
	n, _ := io.ReadFull(inner, first[:])
	if n == 0 && desc.Size > 0 {
		return false
	}
	compressed := strings.Contains(desc.MediaType, "gzip") || strings.Contains(desc.MediaType, "zstd")
	return sized || !compressed || bytes.HasPrefix(first[:n], []byte{0x1f, 0x8b}) || bytes.Equal(first[:n], []byte{0x28, 0xb5, 0x2f, 0xfd})
}

// decoding marks the errors of a decoder, as opposed to those of the connection, as errors in
// the data.
type decoding struct{ io.Reader }

func (d *decoding) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if _, ok := errors.AsType[*requestError](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return n, err
	}
	return n, fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
}
