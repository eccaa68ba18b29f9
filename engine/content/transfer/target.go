// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/internal/atonce"
)

// ToRepository returns a target that copies into a repository.
func ToRepository(client *registry.Client, repository *registry.Repository) Target {
	return &repositoryTarget{client: client, Repository: repository}
}

type repositoryTarget struct {
	*registry.Repository
	client *registry.Client
}

// Blob hides the method of the repository, which reads.
func (t *repositoryTarget) Blob(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, report func(int64)) (registry.How, error) {
	if source, ok := from.(*registry.Repository); ok {
		return t.client.CopyBlob(ctx, t.Repository, source, desc, report)
	}
	open, _ := registry.Counted(func() (io.ReadCloser, error) {
		body, err := from.Blob(ctx, desc)
		switch {
		case errdefs.IsNotFound(err):
			return nil, err
		case err != nil:
			return nil, &SourceError{err}
		}
		return final{body}, nil
	}, report)
	return t.PushBlob(ctx, desc, open)
}

// SourceError is the failure to read a file that is copied from. Unlike a registry, a damaged
// file is not worth another try, so the error does not unwrap, and the class of Err stays
// hidden.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }

// final is read from a file.
type final struct{ io.ReadCloser }

func (f final) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &SourceError{err}
	}
	return n, err
}

// Manifest hides the method of the repository, which reads.
func (t *repositoryTarget) Manifest(ctx context.Context, _ layout.Repository, desc ocispec.Descriptor, data []byte) (listed bool, err error) {
	return t.PushSubject(ctx, desc, data)
}

// List asks the registry if it probably lists one already.
func (t *repositoryTarget) List(ctx context.Context, subject digest.Digest, referrers []Referrer) (err error) {
	var listed, entries []ocispec.Descriptor
	if slices.ContainsFunc(referrers, func(r Referrer) bool { return r.Existing }) {
		if listed, err = t.Referrers(ctx, subject); err != nil {
			return err
		}
	}
	for _, r := range referrers {
		if slices.ContainsFunc(listed, func(d ocispec.Descriptor) bool { return d.Digest == r.Manifest.Digest }) {
			continue
		}
		desc, data, err := t.Repository.Manifest(ctx, r.Manifest.Digest.String())
		if err != nil {
			return err
		}
		_, entry, err := registry.Referrer(desc, data)
		if err != nil {
			return err
		}
		entries = append(entries, entry)
	}
	if len(entries) == 0 {
		return nil
	}
	return t.AddReferrers(ctx, subject, entries...)
}

func (t *repositoryTarget) Tag(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error {
	return t.PushManifest(ctx, desc, data, tag)
}

func (*repositoryTarget) Close() error { return nil }

// ToLayout returns a target that copies into an OCI layout in a folder, which is created.
func ToLayout(dir string) (Target, error) {
	w, err := layout.Create(dir)
	if err != nil {
		return nil, err
	}
	return &layoutTarget{writer: w, slots: semaphore.NewWeighted(atonce.Files)}, nil
}

type layoutTarget struct {
	slots  *semaphore.Weighted
	writer *layout.Writer

	mu            sync.Mutex
	named, listed []ocispec.Descriptor // for the layout's index
}

// Empty returns false, because looking on the disk costs nothing.
func (*layoutTarget) Empty(context.Context) (bool, error) { return false, nil }

func (t *layoutTarget) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	_, err := t.writer.Store().Info(ctx, desc.Digest)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// tries is how often a blob is started that breaks off.
const tries = 3

func (t *layoutTarget) Blob(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, report func(int64)) (registry.How, error) {
	if t.slots.Acquire(ctx, 1) != nil {
		return "", context.Cause(ctx)
	}
	defer t.slots.Release(1)
	if there, err := t.Exists(ctx, desc); there || err != nil {
		return registry.Existing, err
	}
	for n := 1; ; n++ {
		err := t.write(ctx, from, desc, report)
		if err == nil || n == tries || context.Cause(ctx) != nil || !errdefs.IsUnavailable(err) && !errdefs.IsDataLoss(err) {
			return registry.Streamed, err
		}
	}
}

func (t *layoutTarget) write(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, report func(int64)) error {
	body, err := from.Blob(ctx, desc)
	if err != nil {
		return err
	}
	defer body.Close()
	var arrived int64
	r := registry.Reported(body, func(n int64) { arrived += n; report(n) })
	err = content.WriteBlob(ctx, t.writer.Store(), desc.Digest.String(), r, desc)
	if err != nil {
		report(-arrived)
		return fmt.Errorf("write %s: %w", desc.Digest, err)
	}
	return nil
}

func (t *layoutTarget) Manifest(ctx context.Context, _ layout.Repository, desc ocispec.Descriptor, data []byte) (listed bool, err error) {
	err = content.WriteBlob(ctx, t.writer.Store(), desc.Digest.String(), bytes.NewReader(data), desc)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return false, fmt.Errorf("write %s: %w", desc.Digest, err)
	}
	return false, nil
}

// List adds the manifests themselves to the index of the layout: readers of a layout search its
// whole index for what is attached to a manifest.
func (t *layoutTarget) List(ctx context.Context, _ digest.Digest, referrers []Referrer) error {
	for _, r := range referrers {
		data, err := engine.Get(ctx, t.writer.Store(), r.Manifest)
		if err != nil {
			return err
		}
		_, entry, err := registry.Referrer(r.Manifest, data)
		if err != nil {
			return err
		}
		entry.Annotations = nil
		t.mu.Lock()
		t.listed = append(t.listed, entry)
		t.mu.Unlock()
	}
	return nil
}

func (t *layoutTarget) Digest(_ context.Context, tag string) (digest.Digest, error) {
	desc, err := t.writer.Resolve(tag)
	return desc.Digest, err
}

func (t *layoutTarget) Tag(_ context.Context, desc ocispec.Descriptor, _ []byte, tag string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	desc.Annotations = maps.Clone(desc.Annotations)
	if desc.Annotations == nil {
		desc.Annotations = map[string]string{}
	}
	delete(desc.Annotations, ocispec.AnnotationRefName)
	if tag != "" {
		desc.Annotations[ocispec.AnnotationRefName] = tag
	}
	t.named = append(t.named, desc)
	return nil
}

// Close writes the index: first manifests with a tag, then those that are attached to others.
func (t *layoutTarget) Close() error {
	byName := func(a, b ocispec.Descriptor) int {
		return cmp.Or(cmp.Compare(a.Annotations[ocispec.AnnotationRefName], b.Annotations[ocispec.AnnotationRefName]), cmp.Compare(a.Digest, b.Digest))
	}
	slices.SortFunc(t.named, byName)
	slices.SortFunc(t.listed, byName)
	for _, desc := range slices.Concat(t.named, t.listed) {
		t.writer.Add(desc)
	}
	return t.writer.Close()
}
