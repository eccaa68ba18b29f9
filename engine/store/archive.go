// SPDX-License-Identifier: Apache-2.0

package store

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxEntries bounds the entries of an archive: an application of 1,000 images
// has some 20,000 blobs.
const maxEntries = 1 << 20

// trailer is how many bytes come at least after the last entry of a tar that is
// whole: two blocks of zeroes.
const trailer = 1024

// archive is a tar that is read in place: it is gone through once for where
// everything lies, and nothing is unpacked.
type archive struct {
	file  *os.File
	info  os.FileInfo
	at    map[digest.Digest]extent
	other map[string]extent // oci-layout, index.json
}

// extent is where an entry's bytes lie.
type extent struct{ offset, size int64 }

// OpenArchive opens an OCI image layout in a tar that is not compressed. Names
// that lead elsewhere, links, an entry twice, and an archive that ends too
// early are errors; files that belong to no layout are passed over. The caller
// closes the layout.
func OpenArchive(file string) (*Layout, error) {
	l, err := openArchive(file)
	if err != nil {
		return nil, fmt.Errorf("open archive %s: %w", file, err)
	}
	return l, nil
}

func openArchive(name string) (*Layout, error) {
	r, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	a := &archive{file: r.file, info: r.info, at: map[digest.Digest]extent{}, other: map[string]extent{}}
	if err := a.scan(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	l, err := openLayout(name, a, func(name string, limit int64) ([]byte, error) {
		at, ok := a.other[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return readLimited(a.section(at), limit)
	})
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return l, nil
}

// scan goes through the tar.
func (a *archive) scan() error {
	if err := a.checkPlain(); err != nil {
		return err
	}
	tr := tar.NewReader(a.file)
	end := int64(0) // of the last entry
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			// Between two entries an archive may end without a sign. What is
			// needed most comes last in it, by the order of names.
			if _, ok := a.other[ocispec.ImageLayoutFile]; !ok && end > a.info.Size()-trailer {
				return classed(errdefs.ErrDataLoss, "it is cut off, copy it again")
			}
			return nil
		}
		if n == 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) && a.info.Size() < trailer) {
			return classed(errdefs.ErrInvalidArgument, "it is no tar archive, such as tape save writes")
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return classed(errdefs.ErrDataLoss, "it is cut off, copy it again: %w", err)
		}
		if err != nil {
			return classed(errdefs.ErrDataLoss, "it is damaged, copy it again: %w", err)
		}
		if n >= maxEntries {
			return classed(errdefs.ErrInvalidArgument, "it has more than %d entries", maxEntries)
		}
		// The reader reads no further than the header, and skips by seeking:
		// here the entry's bytes begin.
		offset, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if err := a.add(h, offset); err != nil {
			return err
		}
		end = offset + h.Size
	}
}

// checkPlain refuses what people commonly have instead of a plain tar.
func (a *archive) checkPlain() error {
	magic := make([]byte, 4)
	n, err := a.file.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch magic = magic[:n]; {
	case n == 0:
		return classed(errdefs.ErrInvalidArgument, "it is empty")
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return classed(errdefs.ErrInvalidArgument, "it is compressed, unpack it first with gunzip")
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return classed(errdefs.ErrInvalidArgument, "it is compressed, unpack it first with unzstd")
	}
	return nil
}

func (a *archive) add(h *tar.Header, offset int64) error {
	name := strings.TrimPrefix(h.Name, "./")
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if name != "" && !fs.ValidPath(name) {
		return classed(errdefs.ErrInvalidArgument, "entry %q is not a relative and clean name", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeReg:
	default:
		return classed(errdefs.ErrInvalidArgument, "entry %q is neither a file nor a folder", h.Name)
	}
	if h.Size > a.info.Size()-offset {
		return classed(errdefs.ErrDataLoss, "entry %q ends outside, the archive is cut off, copy it again", h.Name)
	}
	at := extent{offset, h.Size}
	if name == ocispec.ImageLayoutFile || name == ocispec.ImageIndexFile {
		if _, twice := a.other[name]; twice {
			return classed(errdefs.ErrInvalidArgument, "it has %q twice", name)
		}
		a.other[name] = at
		return nil
	}
	dir, encoded := path.Split(name)
	algorithm, ok := strings.CutPrefix(dir, blobsDir+"/")
	if !ok {
		return nil
	}
	dgst := digest.NewDigestFromEncoded(digest.Algorithm(strings.TrimSuffix(algorithm, "/")), encoded)
	if err := dgst.Validate(); err != nil {
		return classed(errdefs.ErrInvalidArgument, "entry %q is not named by a digest: %w", h.Name, err)
	}
	if _, twice := a.at[dgst]; twice {
		return classed(errdefs.ErrInvalidArgument, "it has %q twice", name)
	}
	a.at[dgst] = at
	return nil
}

func (a *archive) section(at extent) *io.SectionReader {
	return io.NewSectionReader(a.file, at.offset, at.size)
}

func (a *archive) open(dgst digest.Digest) (*fileReader, error) {
	at, ok := a.at[dgst]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &fileReader{SectionReader: a.section(at), info: a.info}, nil
}

func (a *archive) list() ([]digest.Digest, error) {
	return slices.Collect(maps.Keys(a.at)), nil
}

func (a *archive) Close() error { return a.file.Close() }
