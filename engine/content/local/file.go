// SPDX-License-Identifier: Apache-2.0

package local

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/layout"
)

// opened is an open OCI layout, and the state of the file that changes whenever the layout
// does.
type opened struct {
	*layout.Layout
	info os.FileInfo
}

// openFile finds an image in a layout or archive.
func (p *Places) openFile(ctx context.Context, place Place, named reference.Named) (*Source, error) {
	file, version, err := layout.SplitReference(string(place))
	if err != nil {
		return nil, err
	}
	l, err := p.layout(ctx, string(place), file)
	if errdefs.IsInvalidArgument(err) || errdefs.IsDataLoss(err) {
		wanted := named
		if version != "" {
			var tagErr error
			if wanted, tagErr = reference.WithTag(reference.TrimNamed(named), version); tagErr != nil {
				return nil, fmt.Errorf("take %s from %s: %w", reference.FamiliarString(named), file, tagErr)
			}
		}
		choose := func(index ocispec.Index) (ocispec.Descriptor, error) { return pick(index, wanted) }
		source, ok, savedErr := p.openSaved(ctx, place, file, choose)
		switch {
		case savedErr != nil:
			return nil, fmt.Errorf("take %s from %s: %w", reference.FamiliarString(named), file, savedErr)
		case ok:
			source.tag = tag(named)
			return source, nil
		}
	}
	if err != nil {
		return nil, err
	}
	var desc ocispec.Descriptor
	if version == "" {
		desc, err = pick(l.Index(), named)
	} else {
		desc, err = l.Resolve(ctx, version)
	}
	if err != nil {
		return nil, fmt.Errorf("take %s from %s: %w", reference.FamiliarString(named), place, err)
	}
	return &Source{Repository: l, tag: tag(named), image: desc}, nil
}

// layout opens a layout, or returns one that is open and unchanged.
func (p *Places) layout(ctx context.Context, place, file string) (*layout.Layout, error) {
	changes := file
	if Place(place).Kind() == "oci" {
		changes = filepath.Join(file, ocispec.ImageIndexFile)
	}
	info, err := os.Stat(changes)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.layouts[place]
	if known != nil && os.SameFile(known.info, info) && known.info.Size() == info.Size() && known.info.ModTime().Equal(info.ModTime()) {
		return known.Layout, nil
	}
	l, _, err := layout.OpenReference(ctx, place)
	if err != nil {
		return nil, err
	}
	p.layouts[place] = &opened{l, info}
	p.closers = append(p.closers, l)
	return l, nil
}

// Saved finds the image with a tag in an archive in Docker's own format, as written by
// docker save and podman save; "" means the only image. It also returns the image's tag. ok
// is false if the file is not such an archive, or is also an OCI layout.
func (p *Places) Saved(ctx context.Context, file, wanted string) (source *Source, tag string, ok bool, err error) {
	source, ok, err = p.openSaved(ctx, Place("archive:"+file), file, pickTag(wanted))
	if err != nil {
		return nil, "", ok, fmt.Errorf("open archive %s: %w", file, err)
	}
	if ok {
		tag = source.tag
	}
	return source, tag, ok, nil
}

func (p *Places) openSaved(ctx context.Context, place Place, file string, choose chooser) (source *Source, ok bool, err error) {
	if place.Kind() != "archive" {
		return nil, false, nil
	}
	f, info, end, err := layout.OpenPlain(ctx, file)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, end()) }()
	whole := func() *io.SectionReader { return io.NewSectionReader(f, 0, info.Size()) }
	saved, links := isDockerSave(whole())
	if !saved {
		return nil, false, nil
	}
	spool, err := p.spooled()
	if err != nil {
		return nil, true, err
	}
	stat, err := os.Stat(file)
	if err != nil {
		return nil, true, err
	}
	key := fmt.Sprintf("%s %d %d", file, stat.Size(), stat.ModTime().UnixNano())
	source, err = spool.image(ctx, key, choose, "", func() (io.ReadCloser, error) {
		if links {
			return softLinks(whole()), nil
		}
		return io.NopCloser(whole()), nil
	})
	return source, true, err
}

// maxSavedJSON bounds manifest.json of such an archive, which is read into memory.
const maxSavedJSON = 4 << 20

// isDockerSave reports whether a tar has the format of docker save before version 25, which
// is not also an OCI layout, and whether it has hard links. It rejects sparse entries: a
// few bytes could unpack to more than the disk holds.
func isDockerSave(f *io.SectionReader) (saved, links bool) {
	left := f.Size()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			return saved && errors.Is(err, io.EOF), links
		}
		if left -= h.Size; left < 0 {
			return false, false
		}
		links = links || h.Typeflag == tar.TypeLink
		switch path.Clean(h.Name) {
		case ocispec.ImageLayoutFile:
			return false, false
		case "manifest.json":
			saved = true
			if h.Size > maxSavedJSON {
				return false, false
			}
		}
	}
}
