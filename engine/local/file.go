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

	"github.com/taped-dev/tape/engine/regular"
	"github.com/taped-dev/tape/engine/store"
)

// layout is an OCI layout that was opened, and what of it would change with it.
type layout struct {
	*store.Layout
	info os.FileInfo
}

// openFile finds an image in a layout or an archive.
func (p *Places) openFile(ctx context.Context, place Place, named reference.Named) (*Source, error) {
	file, version, err := store.SplitReference(string(place))
	if err != nil {
		return nil, err
	}
	opened, err := p.layout(string(place), file)
	if (errdefs.IsInvalidArgument(err) || errdefs.IsDataLoss(err)) && place.Kind() == "archive" && isDockerSave(file) {
		return p.openSaved(ctx, file, version, named)
	}
	if err != nil {
		return nil, err
	}
	var desc ocispec.Descriptor
	if version == "" {
		desc, err = pick(opened.Index(), named)
	} else {
		desc, err = opened.Resolve(ctx, version)
	}
	if err != nil {
		return nil, fmt.Errorf("take %s from %s: %w", familiar(named), place, err)
	}
	return &Source{blobs: opened, tag: tag(named), image: desc}, nil
}

// layout opens a layout, unless it is open and has stayed as it was.
func (p *Places) layout(place, file string) (*store.Layout, error) {
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
	opened, _, err := store.OpenReference(place)
	if err != nil {
		return nil, err
	}
	p.layouts[place] = &layout{opened, info}
	p.closers = append(p.closers, opened)
	return opened, nil
}

// openSaved finds an image in an archive as docker save writes it.
func (p *Places) openSaved(ctx context.Context, file, version string, named reference.Named) (*Source, error) {
	wanted := named
	if version != "" {
		var err error
		if wanted, err = reference.WithTag(reference.TrimNamed(named), version); err != nil {
			return nil, fmt.Errorf("take %s from %s: %w", familiar(named), file, err)
		}
	}
	spool, err := p.spooled()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%s %d %d", file, info.Size(), info.ModTime().UnixNano())
	source, err := spool.image(ctx, key, wanted, "", func() (io.ReadCloser, error) { return regular.Open(file) })
	if err != nil {
		return nil, fmt.Errorf("take %s from %s: %w", familiar(named), file, err)
	}
	source.tag = tag(named)
	return source, nil
}

// isDockerSave says whether a tar is what docker save writes, before version 25: one
// that is no OCI layout as well. Nor is one whose entries have holes: a few bytes
// could be more than the disk has.
func isDockerSave(file string) bool {
	f, err := regular.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	saved, left := false, info.Size()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			return saved && errors.Is(err, io.EOF)
		}
		if left -= h.Size; left < 0 {
			return false
		}
		switch path.Clean(h.Name) {
		case ocispec.ImageLayoutFile:
			return false
		case "manifest.json":
			saved = true
		}
	}
}
