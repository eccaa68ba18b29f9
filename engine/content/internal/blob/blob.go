// SPDX-License-Identifier: Apache-2.0

// Package blob reads blobs from files and verifies each one once.
package blob

import (
	"bytes"
	"context"
	_ "crypto/sha512" // an image may be named by such a digest; sha256 is there anyway
	"errors"
	"io"
	"os"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/internal/regular"
)

// Reader reads a section of an open file.
type Reader struct {
	*io.SectionReader
	File *os.File // nil if the file has another owner
	Info os.FileInfo
}

// Open opens a regular file for reading.
func Open(name string) (*Reader, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Reader{SectionReader: io.NewSectionReader(f, 0, info.Size()), File: f, Info: info}, nil
}

// Close closes the file.
func (r *Reader) Close() error {
	if r.File == nil {
		return nil
	}
	return r.File.Close()
}

// ErrWrongDigest is returned for a blob whose content does not match its digest.
var ErrWrongDigest = errors.New("its content has another digest")

// Sound remembers which files have been verified. The zero value is ready to use.
type Sound struct {
	mu    sync.Mutex
	files map[digest.Digest]os.FileInfo
}

// Verify reads the whole blob, until ctx ends, and returns ErrWrongDigest if its content
// does not match. A file that was verified and has not changed since is not read again.
func (s *Sound) Verify(ctx context.Context, r *Reader, dgst digest.Digest) error {
	s.mu.Lock()
	was, ok := s.files[dgst]
	s.mu.Unlock()
	if ok && os.SameFile(was, r.Info) && was.Size() == r.Info.Size() && was.ModTime().Equal(r.Info.ModTime()) {
		return nil
	}
	verifier := dgst.Verifier()
	if _, err := io.Copy(verifier, WithContext(ctx, io.NewSectionReader(r, 0, r.Size()))); err != nil {
		return err
	}
	if !verifier.Verified() {
		return ErrWrongDigest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[digest.Digest]os.FileInfo{}
	}
	s.files[dgst] = r.Info
	return nil
}

// Verify returns a blob that is verified on the way: at the end of content with another digest,
// reading fails with the error that damaged returns for ErrWrongDigest.
func Verify(r io.Reader, c io.Closer, dgst digest.Digest, damaged func(error) error) io.ReadCloser {
	return &verifying{r, c, dgst.Verifier(), damaged}
}

type verifying struct {
	io.Reader
	io.Closer
	verifier digest.Verifier
	damaged  func(error) error
}

func (v *verifying) Read(p []byte) (int, error) {
	n, err := v.Reader.Read(p)
	_, _ = v.verifier.Write(p[:n])
	if errors.Is(err, io.EOF) && !v.verifier.Verified() {
		err = v.damaged(ErrWrongDigest)
	}
	return n, err
}

// WithContext returns a reader that fails when ctx ends, for reading local files, which
// cannot be interrupted.
func WithContext(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// InMemory returns a reader of a blob that is in memory.
func InMemory(data []byte) content.ReaderAt { return memory{bytes.NewReader(data)} }

// memory's Size is that of bytes.Reader.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }
