// SPDX-License-Identifier: Apache-2.0

// Package files reads and writes a folder of files as one deterministic tar, which is the form
// of sources, renders and contents between stages and in the artifact.
//
// The tar is USTAR (PAX only if a name requires it): explicit directory entries before
// their files, bytewise path order, directories 0755, files 0644, uid, gid and mtime 0,
// no user or group names, and exactly two zero blocks at the end. Reading treats the
// tar as untrusted: names are checked, links rejected and sizes limited.
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
	"unicode"
	"unicode/utf8"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
)

// MediaType is the media type of the tar.
const MediaType = "application/vnd.tape.files.v1.tar"

const (
	block   = 512     // size of a block of a tar in bytes
	trusted = 1 << 20 // number of bytes that are allocated because a header announces them

	maxFiles       = 100_000
	maxBytes       = 256 << 20
	maxContent     = 256 << 20
	maxContentFile = 64 << 20
)

// File is a regular file in a folder.
type File struct {
	// Name is slash-separated, relative and clean.
	Name string
	Data []byte
}

// Limits limit what Each accepts from an untrusted tar.
type Limits struct {
	Files int   // number of entries and folders, including folders without an entry
	Bytes int64 // total size of all files
	File  int64 // size of one file; 0 means Bytes
}

// DefaultLimits are far above the largest known application, with 5,000 files and 60 MB.
func DefaultLimits() Limits { return Limits{Files: maxFiles, Bytes: maxBytes} }

// ContentLimits are the limits for the content, which readers hold in memory.
func ContentLimits() Limits {
	return Limits{Files: maxFiles, Bytes: maxContent, File: maxContentFile}
}

// Check returns an error if the files exceed the limits.
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

// folders is the set of folders that contain files.
type folders map[string]bool

// add adds the parent folders of the named file.
func (f folders) add(name string) {
	for dir := path.Dir(name); dir != "." && !f[dir]; dir = path.Dir(dir) {
		f[dir] = true
	}
}

// Write writes the files as a tar. The order of the slice does not matter. It is an
// error if two files have the same name or if CheckName rejects a name.
func Write(w io.Writer, files []File) error {
	data := make(map[string][]byte, len(files))
	var names []string
	folders := folders{}
	for _, f := range files {
		if err := CheckName(f.Name); err != nil {
			return err
		}
		if _, twice := data[f.Name]; twice {
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

	// A buffer that grows step by step copies its content several times.
	if b, ok := w.(*bytes.Buffer); ok {
		size := (len(names) + 2) * 2 * block // header and padding for each
		for _, f := range files {
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

// Each calls visit for each file in a tar, in order, until visit returns an error. It returns an
// error if the tar contains anything but regular files and folders, a name that is not relative
// and clean (a leading "./" and the entry "." are accepted), the same name twice, or more than
// the limits allow.
func Each(r io.Reader, limits Limits, visit func(File) error) error {
	return each(r, limits, readSized, visit)
}

// readSized reads size bytes. The buffer grows with the data, because the size in a header may be
// false. In the end it is size bytes long.
func readSized(r io.Reader, size int64) ([]byte, error) {
	data := make([]byte, 0, min(size, trusted))
	for int64(len(data)) < size {
		if len(data) == cap(data) {
			grown := make([]byte, len(data), min(size, 2*int64(cap(data))))
			copy(grown, data)
			data = grown
		}
		n, err := io.ReadFull(r, data[len(data):cap(data)])
		if data = data[:len(data)+n]; err != nil {
			return nil, io.ErrUnexpectedEOF
		}
	}
	return data, nil
}

// each implements Each. take returns the content of the current file, whose size is the one in
// the header.
func each(r io.Reader, limits Limits, take func(content io.Reader, size int64) ([]byte, error), visit func(File) error) error {
	var (
		seen = map[string]bool{}
		dirs = folders{}
		left = limits.Bytes
		tr   = tar.NewReader(r)
	)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if n >= limits.Files || len(seen)+len(dirs) >= limits.Files {
			return fmt.Errorf("archive has more than %d entries", limits.Files)
		}
		if len(h.Name) > maxName { // check this before any error that contains the whole name
			return CheckName(h.Name)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeDir {
			if name = strings.TrimSuffix(name, "/"); name != "" && name != "." {
				if err := CheckName(name); err != nil {
					return err
				}
			}
			continue
		}
		if h.Typeflag != tar.TypeReg {
			return fmt.Errorf("archive entry %q is neither a file nor a folder (type %q)", h.Name, string(h.Typeflag))
		}
		if err := CheckName(name); err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("archive has %q twice", name)
		}
		seen[name] = true
		dirs.add(name)
		if err := limits.checkFile(name, h.Size); err != nil {
			return fmt.Errorf("archive entry %w", err)
		}
		if left -= h.Size; h.Size < 0 || left < 0 {
			return fmt.Errorf("archive unpacks to more than %d bytes", limits.Bytes)
		}
		data, err := take(tr, h.Size)
		if err != nil {
			return fmt.Errorf("read %q from tar: %w", h.Name, err)
		}
		if err := visit(File{Name: name, Data: data}); err != nil {
			return err
		}
	}
}

const (
	maxName   = 4096 // bytes, the limit of Linux file systems
	maxLevels = 255
)

// CheckName returns an error unless name is relative, clean and slash-separated, stays within the
// folder, and has at most 4096 bytes and 255 levels. It must be UTF-8 without characters that end
// a line, control a terminal or change the direction of text, because names are written to
// comments, lists and terminals.
func CheckName(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("file name %.40q… has %d bytes, more than %d", name, len(name), maxName)
	case strings.Count(name, "/") >= maxLevels:
		return fmt.Errorf("file name %.40q… has %d levels, more than %d", name, strings.Count(name, "/")+1, maxLevels)
	case name == "" || name == "." || path.IsAbs(name) || path.Clean(name) != name,
		name == ".." || strings.HasPrefix(name, "../"):
		return fmt.Errorf("file name %q is not relative and clean", name)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable):
		return fmt.Errorf("file name %+q has a character that cannot be printed", name)
	}
	return nil
}

// unprintable reports whether a character ends a line somewhere, controls a terminal, or makes
// text read differently from its order in memory.
func unprintable(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// Unpack returns the files in a tar written by Write, sorted by name. Their content
// aliases data.
func Unpack(data []byte) ([]File, error) {
	at := bytes.NewReader(data)
	var out []File
	err := each(at, DefaultLimits(), func(_ io.Reader, size int64) ([]byte, error) {
		if int64(at.Len()) < size {
			return nil, io.ErrUnexpectedEOF
		}
		start := len(data) - at.Len()
		end := start + int(size)
		return data[start:end:end], nil
	}, func(f File) error {
		out = append(out, f)
		return nil
	})
	return out, err
}

// Put writes the files into the store as one blob.
func Put(ctx context.Context, store content.Ingester, files []File) (ocispec.Descriptor, error) {
	var buf bytes.Buffer
	if err := Write(&buf, files); err != nil {
		return ocispec.Descriptor{}, err
	}
	return engine.Put(ctx, store, MediaType, buf.Bytes())
}

// Get returns the files in a blob written by Put. See Unpack.
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
