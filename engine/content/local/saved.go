// SPDX-License-Identifier: Apache-2.0

package local

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/internal/temporary"
)

// spool is an OCI layout in a temporary folder, with the content of tars from docker save
// and the daemon. It reads one tar at a time, since they share a disk.
type spool struct {
	folder *temporary.Folder

	mu   sync.Mutex
	tars map[string]ocispec.Index             // tars that were read, by key
	made map[digest.Digest]ocispec.Descriptor // generated manifests, by the digest of that in the tar
}

// spooled returns the spool, which is created for the first tar.
func (p *Places) spooled() (*spool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spool != nil {
		return p.spool, nil
	}
	folder, err := temporary.New(p.tempDir, "tape-images-")
	if err != nil {
		return nil, fmt.Errorf("make room for images: %w", err)
	}
	p.spool = &spool{folder: folder, tars: map[string]ocispec.Index{}, made: map[digest.Digest]ocispec.Descriptor{}}
	return p.spool, nil
}

// chooser selects an image in an index of images.
type chooser func(index ocispec.Index) (ocispec.Descriptor, error)

// image reads the tar from open, unless one with this key was read before, and selects an
// image in it. If the digest of its manifest is kept, the manifest is original; otherwise a
// manifest is generated.
func (s *spool) image(ctx context.Context, key string, choose chooser, kept digest.Digest, open func() (io.ReadCloser, error)) (*Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := layout.Create(s.folder.Dir())
	if err != nil {
		return nil, err
	}
	index, read := s.tars[key]
	if !read {
		if index, err = importTar(ctx, w.Store(), open); err != nil {
			return nil, err
		}
		s.tars[key] = index
	}
	desc, err := choose(index)
	if err != nil {
		return nil, err
	}
	tagged := tagOf(desc)
	made := desc.Digest != kept
	if made {
		if s.made[desc.Digest].Digest == "" {
			if s.made[desc.Digest], err = remake(ctx, w.Store(), desc); err != nil {
				return nil, err
			}
		}
		found := desc.Digest
		desc = s.made[found]
		made = desc.Digest != found // an index is not changed
	}
	w.Add(desc)
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := layout.Open(s.folder.Dir())
	if err != nil {
		return nil, err
	}
	return &Source{Repository: l, tag: tagged, image: desc, made: made}, nil
}

func importTar(ctx context.Context, into content.Store, open func() (io.ReadCloser, error)) (index ocispec.Index, err error) {
	body, err := open()
	if err != nil {
		return index, err
	}
	defer body.Close()
	desc, err := archive.ImportIndex(ctx, into, body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("it is truncated: %w: %w", err, errdefs.ErrDataLoss)
	}
	if err != nil {
		return index, err
	}
	return index, engine.GetJSON(ctx, into, desc, ocispec.MediaTypeImageIndex, &index)
}

// remake generates the manifest of an image whose store kept none. It depends only on the
// content of the image (config unchanged, layers compressed), so its digest is the same
// whichever version of Docker wrote the tar.
func remake(ctx context.Context, in content.Store, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	if !images.IsManifestType(desc.MediaType) {
		return desc, nil // an index: only the builder of the image can have made it
	}
	data, err := engine.Get(ctx, in, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var m ocispec.Manifest
	if err := descriptor.Unmarshal(data, &m); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	diffIDs, err := images.RootFS(ctx, in, m.Config)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("read config %s: %w", m.Config.Digest, err)
	}
	if len(diffIDs) != len(m.Layers) {
		return ocispec.Descriptor{}, fmt.Errorf("image has %s, but %d in its config: %w", count.Of(len(m.Layers), "layer"), len(diffIDs), errdefs.ErrDataLoss)
	}
	layers := make([]ocispec.Descriptor, len(m.Layers))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, layer := range m.Layers {
		group.Go(func() (err error) {
			layers[i], err = compressed(groupCtx, in, layer, diffIDs[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return ocispec.Descriptor{}, err
	}
	return engine.PutJSON(ctx, in, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: m.Config.Digest, Size: m.Config.Size},
		Layers:    layers,
	})
}

// compressed compresses a layer unless it is compressed already.
func compressed(ctx context.Context, in content.Store, layer ocispec.Descriptor, diffID digest.Digest) (ocispec.Descriptor, error) {
	out := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: layer.Digest, Size: layer.Size}
	if layer.MediaType != images.MediaTypeDockerSchema2Layer && layer.MediaType != ocispec.MediaTypeImageLayer {
		return out, nil
	}
	if layer.Digest != diffID {
		return out, fmt.Errorf("layer %s does not match %s in the image's config: %w", layer.Digest, diffID, errdefs.ErrDataLoss)
	}
	ra, err := in.ReaderAt(ctx, layer)
	if err != nil {
		return out, err
	}
	defer ra.Close()
	w, err := content.OpenWriter(ctx, in, content.WithRef("gzip-"+layer.Digest.String()))
	if err != nil {
		return out, fmt.Errorf("compress layer %s: %w", layer.Digest, err)
	}
	defer w.Close()
	// Not the standard library's gzip, whose output differs between versions of Go.
	zip := gzip.NewWriter(w)
	_, err = io.Copy(zip, content.NewReader(ra))
	if err = errors.Join(err, zip.Close()); err != nil {
		return out, fmt.Errorf("compress layer %s: %w", layer.Digest, err)
	}
	status, err := w.Status()
	if err != nil {
		return out, fmt.Errorf("compress layer %s: %w", layer.Digest, err)
	}
	out.Digest, out.Size = w.Digest(), status.Offset
	if err := w.Commit(ctx, out.Size, out.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return out, fmt.Errorf("compress layer %s: %w", layer.Digest, err)
	}
	return out, nil
}

// tagOf returns the tag in an image's name in an index, or "".
func tagOf(desc ocispec.Descriptor) string {
	named, _ := imageref.Parse(desc.Annotations[images.AnnotationImageName])
	return named.Tag
}

// namesIn returns the names of the images in an index, which are in the annotations.
func namesIn(index ocispec.Index, annotations ...string) []string {
	var all []string
	for _, desc := range index.Manifests {
		for _, annotation := range annotations {
			all = append(all, desc.Annotations[annotation])
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(name string) bool { return name == "" })
}

// pickTag selects the image with the tag; "" selects the only image.
func pickTag(wanted string) chooser {
	return func(index ocispec.Index) (ocispec.Descriptor, error) {
		desc, n := layout.Only(index, func(desc ocispec.Descriptor) bool { return wanted == "" || tagOf(desc) == wanted })
		switch {
		case n == 1:
			return desc, nil
		case len(index.Manifests) == 0:
			return ocispec.Descriptor{}, fmt.Errorf("it has no image: %w", errdefs.ErrNotFound)
		case n == 0:
			return ocispec.Descriptor{}, fmt.Errorf("it has no image with tag %q, only %s: %w", wanted, list(namesIn(index, images.AnnotationImageName)), errdefs.ErrNotFound)
		}
		return ocispec.Descriptor{}, fmt.Errorf("it has %d images, name the tag of one: %s: %w", n, list(namesIn(index, images.AnnotationImageName)), errdefs.ErrInvalidArgument)
	}
}

// softLinks replaces hard links in a tar by symbolic ones, which the reader of such
// archives follows.
func softLinks(r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		tr, tw := tar.NewReader(r), tar.NewWriter(in)
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				_ = in.CloseWithError(tw.Close())
				return
			}
			if err == nil && h.Typeflag == tar.TypeLink {
				h.Typeflag = tar.TypeSymlink
				h.Linkname, err = filepath.Rel(path.Dir(path.Clean(h.Name)), path.Clean(h.Linkname))
			}
			if err == nil {
				h.Name, h.Format, h.PAXRecords = path.Clean(h.Name), tar.FormatUnknown, nil
				err = tw.WriteHeader(h)
			}
			if err == nil {
				_, err = io.Copy(tw, tr)
			}
			if err != nil {
				_ = in.CloseWithError(err) // also if the reader was closed
				return
			}
		}
	}()
	return out
}

// pick selects an image in an index: by its name, by its tag, or as the only one.
func pick(index ocispec.Index, named reference.Named) (ocispec.Descriptor, error) {
	names := func(desc ocispec.Descriptor) []string {
		return []string{desc.Annotations[images.AnnotationImageName], desc.Annotations[ocispec.AnnotationRefName]}
	}
	rules := []func(ocispec.Descriptor) bool{
		func(desc ocispec.Descriptor) bool {
			return slices.ContainsFunc(names(desc), func(name string) bool {
				other, err := reference.ParseNormalizedNamed(name)
				return err == nil && !reference.IsNameOnly(other) && other.String() == named.String()
			})
		},
		func(desc ocispec.Descriptor) bool {
			return tag(named) != "" && desc.Annotations[ocispec.AnnotationRefName] == tag(named)
		},
		// Any name except those that cosign gives to what it attaches.
		func(desc ocispec.Descriptor) bool {
			name := cmp.Or(names(desc)...)
			return name != "" && !strings.HasPrefix(name, "sha256-")
		},
		func(ocispec.Descriptor) bool { return true },
	}
	for _, rule := range rules {
		if desc, n := layout.Only(index, rule); n == 1 {
			return desc, nil
		}
	}
	all := namesIn(index, images.AnnotationImageName, ocispec.AnnotationRefName)
	switch {
	case len(index.Manifests) == 0:
		return ocispec.Descriptor{}, fmt.Errorf("it has no image: %w", errdefs.ErrNotFound)
	case len(all) == 0:
		return ocispec.Descriptor{}, fmt.Errorf("it has %s without names: %w", count.Of(len(index.Manifests), "manifest"), errdefs.ErrNotFound)
	}
	return ocispec.Descriptor{}, fmt.Errorf("it has no %s, only %s: %w", reference.FamiliarString(named), list(all), errdefs.ErrNotFound)
}
