// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/artifact"
)

// children checks that each child of the root is complete.
func (c *chain) children(ctx context.Context) []Link {
	w := &walker{chain: c, checks: map[node]func() error{}, left: map[digest.Digest]bool{}}
	if list := c.app.Root.Annotations[artifact.AnnotationPlatforms]; list != "" {
		w.platforms = strings.Split(list, ",")
	}
	children := c.app.Index.Manifests
	errs := w.all(ctx, children, listed{})
	links := make([]Link, len(children))
	for i, child := range children {
		about := digest.Digest(child.Annotations[artifact.AnnotationRelatedTo])
		switch {
		case errdefs.IsNotFound(errs[i]) && w.left[about]:
			links[i] = Link{Name: childName(child), Subject: child.Digest, OK: true, Reason: leftOut(w.platforms)}
		default:
			links[i] = c.link(childName(child), child.Digest, errs[i])
		}
	}
	if len(w.left) > 0 {
		c.warn("%s: %s of images", leftOut(w.platforms), count.Of(len(w.left), "manifest"))
	}
	return links
}

func leftOut(platforms []string) string {
	return "left out: only " + strings.Join(platforms, ", ") + " is in the archive"
}

// childName names a child of the root by its role.
func childName(desc ocispec.Descriptor) string {
	switch role := desc.Annotations[artifact.AnnotationRole]; role {
	case artifact.RoleImage:
		name, _, _ := strings.Cut(desc.Annotations[artifact.AnnotationImageSource], ",")
		return "image " + name
	case artifact.RoleRelated:
		return "related " + cmp.Or(desc.Annotations[artifact.AnnotationRelatedTag], desc.ArtifactType, "manifest")
	case artifact.RoleAttestations:
		return "statements"
	case artifact.RoleOrigin:
		return "origin root" // not the link of the sources, which is called origin
	case artifact.RoleProof:
		return "origin proof"
	case "":
		return "child"
	default:
		return role
	}
}

// walker checks that manifests and everything below them exist, each once.
type walker struct {
	*chain
	platforms []string // if the layout lacks all others

	mu     sync.Mutex
	checks map[node]func() error
	left   map[digest.Digest]bool // manifests left out, of other platforms
}

// node identifies a check: the fields of a descriptor that it depends on.
type node struct {
	digest    digest.Digest
	size      int64
	mediaType string
	elsewhere bool // the descriptor has URLs
	part      bool
}

// listed describes how a manifest refers to descriptors.
type listed struct {
	part     bool // as blobs: config and layers
	optional bool // as platforms of an image, which a layout may lack
	depth    int  // of the manifest
}

// all checks the descriptors concurrently.
func (w *walker) all(ctx context.Context, list []ocispec.Descriptor, as listed) []error {
	errs := make([]error, len(list))
	var wait sync.WaitGroup
	for i, desc := range list {
		wait.Go(func() {
			if errs[i] = w.check(ctx, desc, as); as.optional && w.leftOut(desc, errs[i]) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.left[desc.Digest] = true
				errs[i] = nil
			}
		})
	}
	wait.Wait()
	return errs
}

// missing is the error for a manifest or blob that does not exist itself, as opposed to one
// below it.
type missing struct {
	digest digest.Digest
	err    error
}

func (m *missing) Error() string { return m.err.Error() }
func (m *missing) Unwrap() error { return m.err }

// leftOut reports whether err means that a manifest is missing because the layout lacks its
// platform.
func (w *walker) leftOut(desc ocispec.Descriptor, err error) bool {
	m, ok := errors.AsType[*missing](err)
	if !ok || m.digest != desc.Digest || len(w.platforms) == 0 || desc.Platform == nil {
		return false
	}
	return !slices.Contains(w.platforms, platforms.Format(*desc.Platform))
}

// check checks a descriptor, once even if several manifests refer to it.
func (w *walker) check(ctx context.Context, desc ocispec.Descriptor, as listed) error {
	key := node{desc.Digest, desc.Size, desc.MediaType, registry.MayBeElsewhere(desc), as.part}
	w.mu.Lock()
	check, ok := w.checks[key]
	if !ok {
		check = sync.OnceValue(func() error {
			err := w.checkOnce(ctx, desc, as)
			if _, below := errors.AsType[*missing](err); errdefs.IsNotFound(err) && !below {
				return &missing{desc.Digest, err}
			}
			return err
		})
		w.checks[key] = check
	}
	w.mu.Unlock()
	return check()
}

func (w *walker) checkOnce(ctx context.Context, desc ocispec.Descriptor, as listed) error {
	if as.part {
		return w.blob(ctx, desc)
	}
	manifest, err := registry.Listed(ctx, w.place, desc)
	switch {
	case err != nil:
		return err
	case !manifest:
		return w.blob(ctx, desc)
	case as.depth > registry.MaxDepth:
		return fmt.Errorf("manifest %s is nested in more than %d indexes", desc.Digest, registry.MaxDepth)
	}
	data, err := w.read(ctx, desc, registry.MaxManifest)
	if err != nil {
		return err
	}
	parts, children, err := registry.Children(desc, data)
	if err != nil {
		return err
	}
	below := slices.Concat(w.all(ctx, parts, listed{part: true}), w.all(ctx, children, listed{optional: true, depth: as.depth + 1}))
	for _, err := range below {
		if err != nil {
			return fmt.Errorf("in %s: %w", desc.Digest, err)
		}
	}
	return nil
}

// blob checks that a blob exists, and reads it if the place is a layout or Deep is set.
func (w *walker) blob(ctx context.Context, desc ocispec.Descriptor) error {
	err := w.slot(ctx, func() error {
		repository, ok := w.place.(*registry.Repository) // which tells without reading it
		if !ok || w.o.Deep {
			return w.readThrough(ctx, desc)
		}
		there, err := repository.Exists(ctx, desc)
		if err == nil && !there {
			err = fmt.Errorf("blob %s does not exist: %w", desc.Digest, errdefs.ErrNotFound)
		}
		return err
	})
	if errdefs.IsNotFound(err) && registry.MayBeElsewhere(desc) {
		return nil // it is at its URLs, and may not be redistributed
	}
	return err
}

// readThrough reads a whole blob. The place checks its digest.
func (w *walker) readThrough(ctx context.Context, desc ocispec.Descriptor) (err error) {
	body, err := w.place.Blob(ctx, desc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	n, err := io.Copy(io.Discard, body)
	if err == nil && n != desc.Size {
		err = fmt.Errorf("blob %s has %d bytes, not %d: %w", desc.Digest, n, desc.Size, errdefs.ErrDataLoss)
	}
	return err
}
