// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/internal/blob"
	"github.com/taped-dev/tape/engine/content/internal/class"
)

const (
	// maxEntries bounds the entries of an archive: an application of 1,000 images has about
	// 20,000 blobs.
	maxEntries = 1 << 18
	// maxOther bounds the remembered entries that are not part of a layout.
	maxOther = 1 << 10
	// maxTrailer bounds the zeroes after the last entry: other programs pad to their own
	// block size, by default 10 KiB.
	maxTrailer = 1 << 20
	// maxEntryName bounds the name of an entry in bytes. The longest in a layout has 141.
	maxEntryName = 4096
)

// archive is a tar that is read in place: one pass records the position of every entry, and
// nothing is unpacked.
type archive struct {
	file  *os.File
	info  os.FileInfo
	end   func() error
	at    map[digest.Digest]extent
	other map[string]extent // all other files: oci-layout, index.json, and unexpected ones
	// linked are files in other that blobs are hard links to.
	linked map[string]bool
	// unexpected describes what is not part of a layout.
	unexpected []string
}

// extent is the position of an entry's content.
type extent struct{ offset, size int64 }

// OpenArchive opens an OCI image layout in a tar. A tar compressed with gzip or zstd is
// first unpacked to a temporary file, until ctx ends. Names that lead outside, links other
// than to an earlier entry, duplicate entries, and a truncated archive are errors. Anything
// else that is not part of a layout is ignored and listed by [Layout.Unexpected]. The
// caller closes the layout.
func OpenArchive(ctx context.Context, file string) (*Layout, error) {
	l, err := openArchive(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("open archive %s: %w", file, err)
	}
	return l, nil
}

func openArchive(ctx context.Context, name string) (*Layout, error) {
	file, info, end, err := OpenPlain(ctx, name)
	if err != nil {
		return nil, err
	}
	a := &archive{file: file, info: info, end: end, at: map[digest.Digest]extent{}, other: map[string]extent{}, linked: map[string]bool{}}
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
	if _, ok := a.other[ocispec.ImageLayoutFile]; ok && err != nil {
		err = class.Errorf(errdefs.ErrDataLoss, "%w", err) // it is a layout, but its files are invalid
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return l, nil
}

// scan reads the headers of the tar.
func (a *archive) scan() error {
	if a.info.Size() == 0 {
		return class.Errorf(errdefs.ErrInvalidArgument, "it is empty")
	}
	tr := tar.NewReader(a.file)
	end := int64(0) // of the last entry, in whole blocks
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a.finish(end)
		}
		if n == 0 && !a.hasMagic() && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) && a.info.Size() < trailer) {
			return class.Errorf(errdefs.ErrInvalidArgument, "it is not a tar archive as written by tape save")
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return class.Errorf(errdefs.ErrDataLoss, "it is truncated, copy it again: %w", err)
		}
		if err != nil {
			return class.Errorf(errdefs.ErrDataLoss, "it is damaged, copy it again: %w", err)
		}
		if n >= maxEntries {
			return class.Errorf(errdefs.ErrDataLoss, "it has more than %d entries", maxEntries)
		}
		// The tar reader has read exactly the header, and skips content by seeking, so the
		// content begins here.
		offset, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if len(h.Name) > maxEntryName {
			return class.Errorf(errdefs.ErrDataLoss, "the name of an entry has %d bytes, more than the %d allowed", len(h.Name), maxEntryName)
		}
		if err := a.checkHeaders(h, end, offset); err != nil {
			return err
		}
		if err := a.add(h, offset); err != nil {
			return err
		}
		size := h.Size
		if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeXGlobalHeader {
			size = 0 // no content follows, whatever the header says
		}
		end = padded(offset + size)
		if err := a.checkZero(offset+size, end, "bytes between entries"); err != nil {
			return err
		}
	}
}

// hasMagic reports whether the file begins like a tar.
func (a *archive) hasMagic() bool {
	magic := make([]byte, 5)
	_, err := a.file.ReadAt(magic, 257)
	return err == nil && string(magic) == "ustar"
}

// finish checks what follows the last entry.
func (a *archive) finish(end int64) error {
	// A tar that is truncated between two entries looks complete. The files that are needed
	// most come last in the order of names.
	whole := a.info.Size()-end >= trailer
	if _, ok := a.other[ocispec.ImageLayoutFile]; !ok && !whole {
		return class.Errorf(errdefs.ErrDataLoss, "it is truncated, copy it again")
	}
	if !whole {
		a.expectNot("an end without two blocks of zeroes")
	}
	if err := a.checkZero(end, min(a.info.Size(), end+maxTrailer), "bytes after its end"); err != nil {
		return err
	}
	if a.info.Size() > end+maxTrailer {
		a.expectNot("%d bytes after its end", a.info.Size()-end)
	}
	for _, name := range slices.Sorted(maps.Keys(a.other)) {
		if name != ocispec.ImageLayoutFile && name != ocispec.ImageIndexFile && !a.linked[name] {
			a.expectNot("a file %q", name)
		}
	}
	return nil
}

// checkZero records if a range of the file is not all zero. The range may extend beyond the
// end of the file.
func (a *archive) checkZero(from, to int64, what string) error {
	var buf [4096]byte
	for from < to {
		n, err := a.file.ReadAt(buf[:min(to-from, int64(len(buf)))], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for _, b := range buf[:n] {
			if b != 0 {
				a.expectNot("%s", what)
				return nil
			}
		}
		if from += int64(n); n == 0 {
			return nil
		}
	}
	return nil
}

// mostUnexpected bounds the list of what is unexpected.
const mostUnexpected = 10

func (a *archive) expectNot(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if len(a.unexpected) < mostUnexpected && !slices.Contains(a.unexpected, what) {
		a.unexpected = append(a.unexpected, what)
	}
}

// harmlessRecords are the keys of PAX records that affect neither the content nor the name
// of an entry. Those that end in a dot are prefixes.
var harmlessRecords = []string{
	"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment", "LIBARCHIVE.", "SCHILY.",
}

// checkHeaders checks the blocks between two entries' contents: one header, or an extension
// and a header. Programs differ in how they combine extensions and could thus see different
// files, so none is expected unless it is needed.
func (a *archive) checkHeaders(h *tar.Header, from, to int64) error {
	for key := range h.PAXRecords {
		switch {
		case strings.HasPrefix(key, "GNU.sparse."):
			return class.Errorf(errdefs.ErrDataLoss, "entry %q is a sparse file; only files and folders are allowed", h.Name)
		case key == "path" && h.Typeflag != tar.TypeXGlobalHeader && len(h.Name) > 100,
			key == "size" && h.Typeflag != tar.TypeXGlobalHeader && h.Size >= 1<<33,
			slices.ContainsFunc(harmlessRecords, func(k string) bool {
				return key == k || strings.HasSuffix(k, ".") && strings.HasPrefix(key, k)
			}):
		default:
			a.expectNot("a header that changes the %q of an entry", key)
		}
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	var extensions []byte
	for from+block < to {
		var header [block]byte
		if _, err := a.file.ReadAt(header[:], from); err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.Trim(string(header[124:136]), " \x00"), 8, 63)
		if err != nil || size < 0 || size > to-from {
			a.expectNot("a header extension that programs read differently")
			return nil
		}
		extensions = append(extensions, header[156])
		from += block + padded(size)
	}
	switch string(extensions) {
	case "", "x":
	case "L":
		if len(h.Name) > 100 {
			return nil
		}
		fallthrough
	default:
		a.expectNot("header extensions that programs read differently")
	}
	return nil
}

// appleDouble is the prefix of files in which macOS keeps metadata of other files.
const appleDouble = "._"

func (a *archive) add(h *tar.Header, offset int64) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := strings.TrimPrefix(h.Name, "./")
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if name != "" && !fs.ValidPath(name) {
		return class.Errorf(errdefs.ErrDataLoss, "entry %q: want a clean relative name", h.Name)
	}
	at := extent{offset, h.Size}
	switch h.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeReg:
	case tar.TypeLink:
		target := strings.TrimPrefix(h.Linkname, "./")
		var ok bool
		if at, ok = a.other[target]; !ok || path.Base(target) != path.Base(name) {
			return class.Errorf(errdefs.ErrDataLoss, "entry %q is a link: want a file, a folder, or a link to an earlier file of the same name", h.Name)
		}
		a.linked[target] = true
	default:
		return class.Errorf(errdefs.ErrDataLoss, "entry %q is neither a file nor a folder", h.Name)
	}
	if at.size > a.info.Size()-at.offset {
		return class.Errorf(errdefs.ErrDataLoss, "entry %q is incomplete: the archive is truncated, copy it again", h.Name)
	}
	if strings.HasPrefix(path.Base(name), appleDouble) {
		return nil
	}
	dgst, isBlob, err := blobDigest(name)
	if err != nil {
		return class.Errorf(errdefs.ErrDataLoss, "entry %q: want a digest as its name: %w", h.Name, err)
	}
	if isBlob {
		if _, twice := a.at[dgst]; twice {
			return class.Errorf(errdefs.ErrDataLoss, "it has %q twice", name)
		}
		a.at[dgst] = at
		return nil
	}
	if _, twice := a.other[name]; twice {
		return class.Errorf(errdefs.ErrDataLoss, "it has %q twice", name)
	}
	if len(a.other) == maxOther {
		a.expectNot("more than %d files that are not part of a layout", maxOther)
		if name != ocispec.ImageLayoutFile && name != ocispec.ImageIndexFile {
			return nil
		}
	}
	a.other[name] = at
	return nil
}

// blobDigest returns the digest in the name of an entry, if that is the name of a blob.
func blobDigest(name string) (dgst digest.Digest, isBlob bool, err error) {
	dir, encoded := path.Split(name)
	algorithm, ok := strings.CutPrefix(dir, ocispec.ImageBlobsDir+"/")
	if !ok {
		return "", false, nil
	}
	dgst = digest.NewDigestFromEncoded(digest.Algorithm(strings.TrimSuffix(algorithm, "/")), encoded)
	return dgst, true, dgst.Validate()
}

func (a *archive) section(at extent) *io.SectionReader {
	return io.NewSectionReader(a.file, at.offset, at.size)
}

func (a *archive) open(dgst digest.Digest) (*blob.Reader, error) {
	at, ok := a.at[dgst]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &blob.Reader{SectionReader: a.section(at), Info: a.info}, nil
}

func (a *archive) list() ([]digest.Digest, error) {
	return slices.Collect(maps.Keys(a.at)), nil
}

func (a *archive) Close() error { return a.end() }
