// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	_ "crypto/sha512" // an image may be named by such a digest; sha256 is there anyway
	"errors"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/regular"
)

// fileReader reads part of an open file.
type fileReader struct {
	*io.SectionReader
	file *os.File // nil where somebody else closes it
	info os.FileInfo
}

func openFile(name string) (*fileReader, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileReader{SectionReader: io.NewSectionReader(f, 0, info.Size()), file: f, info: info}, nil
}

func (r *fileReader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// errWrongDigest is what a blob is that is not what its name says.
var errWrongDigest = errors.New("its bytes have another digest")

// sound remembers which files have been hashed and had their digest.
type sound struct {
	mu    sync.Mutex
	files map[digest.Digest]os.FileInfo
}

// verify reads all of a blob, or until ctx ends; none of one that it knows and
// whose file has stayed the same.
func (s *sound) verify(ctx context.Context, r *fileReader, dgst digest.Digest) error {
	s.mu.Lock()
	was, ok := s.files[dgst]
	s.mu.Unlock()
	if ok && os.SameFile(was, r.info) && was.Size() == r.info.Size() && was.ModTime().Equal(r.info.ModTime()) {
		return nil
	}
	verifier := dgst.Verifier()
	if _, err := io.Copy(verifier, contextReader{ctx, io.NewSectionReader(r, 0, r.Size())}); err != nil {
		return err
	}
	if !verifier.Verified() {
		return errWrongDigest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[digest.Digest]os.FileInfo{}
	}
	s.files[dgst] = r.info
	return nil
}

// contextReader lives no longer than the call that makes it.
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
