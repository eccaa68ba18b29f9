// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
)

// Shared has a blob that several repositories of a registry need sent there once: the
// first copier sends it, the others wait for that and have the registry mount it. The
// zero value is ready; its methods may be called concurrently.
type Shared struct {
	mu    sync.Mutex
	blobs map[sharedBlob]*placing
}

type sharedBlob struct {
	host   string
	digest digest.Digest
}

// placing is a blob on its way to a registry.
type placing struct {
	done chan struct{}        // closed when it has ended
	at   *registry.Repository // that has the blob; nil where it failed
}

// Into returns a target that copies into a repository, as the given one does, and
// shares blobs with the other targets of s.
func (s *Shared) Into(target Target, repository *registry.Repository) Target {
	host, _, _ := strings.Cut(repository.Name(), "/")
	return &sharing{Target: target, shared: s, repository: repository, host: host}
}

type sharing struct {
	Target
	shared     *Shared
	repository *registry.Repository
	host       string
}

func (t *sharing) Blob(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, report func(int64)) (registry.How, error) {
	key := sharedBlob{t.host, desc.Digest}
	for {
		p, first := t.shared.join(key)
		if first {
			how, err := t.Target.Blob(ctx, from, desc, report)
			t.shared.end(key, p, t.repository, err)
			return how, err
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
		if p.at == nil {
			continue // it failed for another; this source may have it
		}
		how, err := t.Target.Blob(ctx, p.at, desc, report)
		if errdefs.IsNotFound(err) {
			return t.Target.Blob(ctx, from, desc, report)
		}
		return how, err
	}
}

func (s *Shared) join(key sharedBlob) (p *placing, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.blobs[key]; ok {
		return p, false
	}
	if s.blobs == nil {
		s.blobs = map[sharedBlob]*placing{}
	}
	p = &placing{done: make(chan struct{})}
	s.blobs[key] = p
	return p, true
}

func (s *Shared) end(key sharedBlob, p *placing, at *registry.Repository, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.blobs, key)
	} else {
		p.at = at
	}
	close(p.done)
}
