// SPDX-License-Identifier: Apache-2.0

// Package files holds a folder of files as one deterministic tar: what sources,
// renders and contents are, between stages and in the artifact.
//
// The tar is USTAR (PAX only where a name forces it): explicit directory entries
// before their files, bytewise path order, directories 0755, files 0644, uid,
// gid and mtime 0, no names, and exactly two zero blocks at the end. Reading
// trusts nothing: names are checked, links refused and sizes limited.
package files

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
)

// MediaType of the blob.
const MediaType = "application/vnd.tape.files.v1.tar"

const (
	block   = 512     // of a tar
	trusted = 1 << 20 // bytes that are set aside for a file on the word of its header
)

// File is a regular file in a folder.
type File struct {
	// Name is slash-separated, relative and clean.
	Name string
	Data []byte
}

// Limits bound what Read takes from a tar that somebody else made.
type Limits struct {
	Files int   // entries, and folders whether they are entries or not
	Bytes int64 // of all files together
	File  int64 // of one file; 0 is Bytes
}

// DefaultLimits are far above any application: the largest known has 5,000 files and 60 MB.
func DefaultLimits() Limits { return Limits{Files: 100_000, Bytes: 1 << 30} }

// ContentLimits are those of what is packed, which every reader is to hold in memory.
func ContentLimits() Limits { return Limits{Files: 100_000, Bytes: 256 << 20, File: 64 << 20} }

// Check reports how files exceed the limits.
func (l Limits) Check(list []File) error {
	left := l.Bytes
	folders := folders{}
	for _, f := range list {
		if err := l.checkFile(f.Name, int64(len(f.Data))); err != nil {
			return err
		}
		if left -= int64(len(f.Data)); left < 0 {
			return fmt.Errorf("%d files have more than %d bytes together", len(list), l.Bytes)
		}
		folders.add(f.Name)
		if n := len(list) + len(folders); n > l.Files {
			return fmt.Errorf("there are %d files and folders, more than %d", n, l.Files)
		}
	}
	return nil
}

func (l Limits) checkFile(name string, size int64) error {
	if most := cmp.Or(l.File, l.Bytes); size > most {
		return fmt.Errorf("%q has %d bytes, more than %d", name, size, most)
	}
	return nil
}

// folders are those that files are in.
type folders map[string]bool

// add adds those of a file, by its name.
func (f folders) add(name string) {
	for dir := path.Dir(name); dir != "." && !f[dir]; dir = path.Dir(dir) {
		f[dir] = true
	}
}

// Write writes the files as a tar. The order of the slice does not matter; two
// files of one name, or a name that is not clean, are an error.
func Write(w io.Writer, files []File) error {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	data := make(map[string][]byte, len(sorted))
	var names []string
	folders := folders{}
	for i, f := range sorted {
		if err := CheckName(f.Name); err != nil {
			return err
		}
		if i > 0 && sorted[i-1].Name == f.Name {
			return fmt.Errorf("two files are named %q", f.Name)
		}
		data[f.Name] = f.Data
		names = append(names, f.Name)
		folders.add(f.Name)
	}
	for dir := range folders {
		names = append(names, dir+"/")
	}
	slices.Sort(names)

	// A buffer that has to find out how much comes copies all of it several times.
	if b, ok := w.(*bytes.Buffer); ok {
		size := (len(names) + 2) * 2 * block // a header each, and padding
		for _, f := range sorted {
			size += len(f.Data)
		}
		b.Grow(size)
	}
	tw := tar.NewWriter(w)
	for _, name := range names {
		h := &tar.Header{Name: name, ModTime: time.Unix(0, 0)}
		if strings.HasSuffix(name, "/") {
			if _, clash := data[strings.TrimSuffix(name, "/")]; clash {
				return fmt.Errorf("%q is both a file and a folder", strings.TrimSuffix(name, "/"))
			}
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		} else {
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, 0o644, int64(len(data[name]))
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
		if _, err := tw.Write(data[name]); err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
	}
	return tw.Close()
}

// Read reads a tar, in its order. Folders are checked and left out. Anything
// but regular files and folders, a name that is not relative and clean (a
// leading "./" and the entry "." are fine), two entries of one name, and more
// than the limits allow are errors.
func Read(r io.Reader, limits Limits) ([]File, error) {
	return read(r, limits, func(content io.Reader, size int64) ([]byte, error) {
		// It grows with what is there, not with what the header promises, but for
		// as much as is no harm.
		var buf bytes.Buffer
		buf.Grow(int(min(size, trusted)) + bytes.MinRead)
		_, err := io.Copy(&buf, content)
		return buf.Bytes(), err
	})
}

// read is Read where take gives the content of the file at hand, of which the
// header says the size.
func read(r io.Reader, limits Limits, take func(content io.Reader, size int64) ([]byte, error)) ([]File, error) {
	var (
		out  []File
		seen = map[string]bool{}
		dirs = folders{}
		left = limits.Bytes
		tr   = tar.NewReader(r)
	)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read tar: %w", err)
		}
		if n >= limits.Files || len(out)+len(dirs) >= limits.Files {
			return nil, fmt.Errorf("archive has more than %d entries", limits.Files)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeDir {
			if name = strings.TrimSuffix(name, "/"); name != "" && name != "." {
				if err := CheckName(name); err != nil {
					return nil, err
				}
			}
			continue
		}
		if h.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("archive entry %q is neither a file nor a folder (type %q)", h.Name, string(h.Typeflag))
		}
		if err := CheckName(name); err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, fmt.Errorf("archive has %q twice", name)
		}
		seen[name] = true
		dirs.add(name)
		if err := limits.checkFile(name, h.Size); err != nil {
			return nil, fmt.Errorf("archive entry %w", err)
		}
		if left -= h.Size; h.Size < 0 || left < 0 {
			return nil, fmt.Errorf("archive unpacks to more than %d bytes", limits.Bytes)
		}
		data, err := take(tr, h.Size)
		if err != nil {
			return nil, fmt.Errorf("read %q from tar: %w", h.Name, err)
		}
		out = append(out, File{Name: name, Data: data})
	}
}

const (
	maxName   = 4096 // bytes, which is what file systems take
	maxLevels = 255
)

// CheckName reports whether a name may be a file's: relative, clean, slash-separated,
// not leading outside, free of NUL, of at most 4096 bytes and 255 levels.
func CheckName(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("file name %.40q… has %d bytes, more than %d", name, len(name), maxName)
	case strings.Count(name, "/") >= maxLevels:
		return fmt.Errorf("file name %.40q… has %d levels, more than %d", name, strings.Count(name, "/")+1, maxLevels)
	case name == "" || name == "." || path.IsAbs(name) || path.Clean(name) != name,
		name == ".." || strings.HasPrefix(name, "../"),
		strings.ContainsRune(name, 0):
		return fmt.Errorf("file name %q is not relative and clean", name)
	}
	return nil
}

// Unpack reads what Write wrote, sorted by name. The files are pieces of data and
// not copies: a folder is in memory once.
func Unpack(data []byte) ([]File, error) {
	at := bytes.NewReader(data)
	return read(at, DefaultLimits(), func(_ io.Reader, size int64) ([]byte, error) {
		if int64(at.Len()) < size {
			return nil, io.ErrUnexpectedEOF
		}
		start := len(data) - at.Len()
		end := start + int(size)
		return data[start:end:end], nil
	})
}

// Put writes the files into the store as one blob.
func Put(ctx context.Context, store content.Ingester, files []File) (ocispec.Descriptor, error) {
	var buf bytes.Buffer
	if err := Write(&buf, files); err != nil {
		return ocispec.Descriptor{}, err
	}
	return engine.Put(ctx, store, MediaType, buf.Bytes())
}

// Get reads what Put wrote, as Unpack does.
func Get(ctx context.Context, store content.Provider, desc ocispec.Descriptor) ([]File, error) {
	if desc.MediaType != MediaType {
		return nil, fmt.Errorf("blob %s is %s, not %s", desc.Digest, desc.MediaType, MediaType)
	}
	data, err := engine.Get(ctx, store, desc)
	if err != nil {
		return nil, err
	}
	return Unpack(data)
}
