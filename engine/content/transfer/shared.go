// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
)

// Shared sends a blob that several repositories of a registry need only once: the first copier
// sends it, and the others wait and mount it. The zero value is ready; its methods may be
// called concurrently.
type Shared struct {
	blobs sync.Map // of *placing, by sharedBlob

	// Set by Through.
	through *registry.Repository
	copier  *Copier
	wanted  func(digest.Digest) bool
}

// Through sends wanted images through a repository, so that processes that do not know each
// other also send them to its registry only once. It must be called before anything is copied.
func (s *Shared) Through(client *registry.Client, repository *registry.Repository, wanted func(image digest.Digest) bool) {
	s.through, s.wanted = repository, wanted
	s.copier = NewCopier(s.Into(ToRepository(client, repository), repository), Options{})
}

// Nearer copies a manifest of an image to the repository that images are sent through, and
// returns that repository instead of the source, if the destination is at the same registry.
func (s *Shared) Nearer(ctx context.Context, to *registry.Repository, image digest.Digest, from layout.Repository, desc ocispec.Descriptor) (layout.Repository, error) {
	if s == nil || s.through == nil || hostOf(to) != hostOf(s.through) || !s.wanted(image) {
		return from, nil
	}
	if _, err := s.copier.Manifest(ctx, from, desc); err != nil {
		return nil, fmt.Errorf("by way of %s: %w", s.through.Name(), err)
	}
	return s.through, nil
}

func hostOf(r *registry.Repository) string {
	host, _, _ := strings.Cut(r.Name(), "/")
	return host
}

type sharedBlob struct {
	host   string
	digest digest.Digest
}

// placing is a blob that one target at a time sends to a registry, until it is there.
type placing struct {
	turn *semaphore.Weighted  // of the target that sends it, or looks at what follows
	at   *registry.Repository // that has the blob; nil if none has it yet
}

// Into returns a target that copies into a repository like the given one, and shares blobs with
// the other targets of s.
func (s *Shared) Into(target Target, repository *registry.Repository) Target {
	return &sharing{Target: target, shared: s, repository: repository, host: hostOf(repository)}
}

type sharing struct {
	Target
	shared     *Shared
	repository *registry.Repository
	host       string
}

func (t *sharing) Blob(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, report func(int64)) (registry.How, error) {
	known, _ := t.shared.blobs.LoadOrStore(sharedBlob{t.host, desc.Digest}, &placing{turn: semaphore.NewWeighted(1)})
	p := known.(*placing)
	if p.turn.Acquire(ctx, 1) != nil {
		return "", context.Cause(ctx)
	}
	if p.at == nil { // also if another failed to send it, whose source may lack it
		defer p.turn.Release(1)
		how, err := t.Target.Blob(ctx, from, desc, report)
		if err == nil {
			p.at = t.repository
		}
		return how, err
	}
	p.turn.Release(1) // p.at does not change any more
	how, err := t.Target.Blob(ctx, p.at, desc, report)
	if errdefs.IsNotFound(err) {
		return t.Target.Blob(ctx, from, desc, report)
	}
	return how, err
}
