// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/images"
)

// mirroring copies images into one repository.
type mirroring struct {
	*Stage
	dst    *registry.Repository
	copier *transfer.Copier

	mu    sync.Mutex
	known map[digest.Digest]bool // whether it is there, if that is known without asking
	moved images.Moved
}

// copy copies images and their related manifests. After an error the destination has some of
// them, and no manifest without everything that it names.
func (m *mirroring) copy(ctx context.Context, list []images.Image, report func(engine.Event)) (images.Moved, error) {
	m.known, m.moved.Copied = map[digest.Digest]bool{}, []digest.Digest{}
	if err := m.trust(ctx); err != nil {
		return images.Moved{}, err
	}
	target := transfer.ToRepository(m.origins.Registry, m.dst)
	progress := transfer.NewProgress(func(current, total int64) {
		report(engine.Event{Current: current, Total: total, Unit: "bytes"})
	})
	if m.shared != nil {
		target = m.shared.Into(target, m.dst)
	}
	if m.config.DryRun {
		target = &foreseen{Target: target, client: m.origins.Registry, dst: m.dst}
	}
	m.copier = transfer.NewCopier(target, transfer.Options{Check: m.config.Check, Empty: m.moved.Empty, Known: m.isKnown, Progress: progress})
	err := atonce.Each(ctx, atonce.Requests, list, func(ctx context.Context, _ int, image images.Image) error {
		if err := m.image(ctx, image); err != nil {
			return fmt.Errorf("copy image %s%s: %w", image.Source, place(image), err)
		}
		return nil
	})
	if err != nil {
		return images.Moved{}, err
	}
	progress.End()
	slices.Sort(m.moved.Copied)
	m.moved.Copied = slices.Compact(m.moved.Copied)
	m.moved.Moved, m.moved.Referrers = m.copier.Moved(), m.copier.Unlisted()
	return m.moved, nil
}

// place describes where the manifests name an image.
func place(image images.Image) string {
	if len(image.Locations) == 0 {
		return ""
	}
	return " (" + image.Locations[0].Place() + ")"
}

// trust finds out which content need not be asked for: one request answers for everything that
// did not change since the last root was pushed, and one for a new repository.
func (m *mirroring) trust(ctx context.Context) error {
	if m.config.Check {
		return nil
	}
	data, err := m.dst.Remembered(ctx)
	if m.config.DryRun && unreadable(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if data == nil {
		if m.config.DryRun {
			return nil // the writer asks only once whether it is empty
		}
		m.moved.Empty, err = m.dst.Empty(ctx)
		return err
	}
	var root ocispec.Index
	if err := json.Unmarshal(data, &root); err != nil {
		return fmt.Errorf("read the root pushed last: %w", err)
	}
	for _, child := range root.Manifests {
		m.known[child.Digest] = true
	}
	return nil
}

// isKnown reports whether something need not be asked for: what the last root there names, what
// is in the destination already, and what is related to an image that was not there, which is
// missing as well or does no harm twice.
func (m *mirroring) isKnown(from layout.Repository, desc ocispec.Descriptor) (there, known bool) {
	if m.config.Check {
		return false, false
	}
	if repository, ok := from.(*registry.Repository); ok && repository.Name() == m.dst.Name() {
		return true, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	there, known = m.known[desc.Digest]
	return there, known
}

// image copies an image, and then its related manifests.
func (m *mirroring) image(ctx context.Context, image images.Image) error {
	from, err := m.origins.Open(ctx, image.Name, image.From)
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size}
	near, err := m.nearer(ctx, image, from, desc)
	if err != nil {
		return err
	}
	there, err := m.copier.Manifest(ctx, near, desc)
	if registry.Refused(err) && containerdimages.IsIndexType(desc.MediaType) {
		return advice.Add(err, advice.SaveIndexInstead)
	}
	if err != nil {
		return err
	}
	m.took(desc, there)
	return atonce.Each(ctx, 0, image.Related, func(ctx context.Context, _ int, related images.Related) error {
		if related.Via == images.Inline { // it is in the image's index
			return nil
		}
		return m.related(ctx, image, from, related, there)
	})
}

// nearer returns the repository to copy a manifest of an image, or a related one, from.
func (m *mirroring) nearer(ctx context.Context, image images.Image, from layout.Repository, desc ocispec.Descriptor) (layout.Repository, error) {
	if m.config.DryRun {
		return from, nil
	}
	return m.shared.Nearer(ctx, m.dst, image.Digest, from, desc)
}

// related copies the related manifests of an image. beside reports whether the image was there.
func (m *mirroring) related(ctx context.Context, image images.Image, from layout.Repository, related images.Related, beside bool) error {
	desc := ocispec.Descriptor{MediaType: related.MediaType, Digest: related.Digest, Size: related.Size}
	m.mu.Lock()
	trusted := m.known[desc.Digest]
	if !trusted && !beside {
		m.known[desc.Digest] = false
	}
	m.mu.Unlock()
	near, err := m.nearer(ctx, image, from, desc)
	if err != nil {
		return err
	}
	there, err := m.copier.Manifest(ctx, near, desc)
	if registry.Refused(err) || registry.Lost(err) {
		err = advice.Add(err, advice.LeaveRelated)
	}
	if err != nil {
		return fmt.Errorf("the %s of %s, %s: %w", related.Kind, related.To, related.Digest, err)
	}
	m.took(desc, there)
	if there && related.Via == images.Referrer && !trusted {
		m.copier.Note(transfer.Referrer{Subject: related.To, Manifest: desc, Existing: true})
	}
	return nil
}

// took records what the destination did not have.
func (m *mirroring) took(desc ocispec.Descriptor, there bool) {
	if !there {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.moved.Copied = append(m.moved.Copied, desc.Digest)
	}
}

// foreseen is a target that nothing is written to. A destination that cannot be read counts as
// empty.
type foreseen struct {
	transfer.Target
	client *registry.Client
	dst    *registry.Repository
}

func (f *foreseen) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	there, err := f.Target.Exists(ctx, desc)
	if unreadable(err) {
		return false, nil
	}
	return there, err
}

func (f *foreseen) Blob(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, report func(int64)) (registry.How, error) {
	repository, _ := from.(*registry.Repository)
	how, err := f.client.Foresee(ctx, f.dst, repository, desc)
	if unreadable(err) {
		how, err = registry.Streamed, nil
	}
	if how == registry.Streamed {
		report(desc.Size)
	}
	return how, err
}

func (*foreseen) Manifest(context.Context, layout.Repository, ocispec.Descriptor, []byte) (listed bool, err error) {
	return true, nil
}

func unreadable(err error) bool {
	return errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) || errdefs.IsUnavailable(err)
}
