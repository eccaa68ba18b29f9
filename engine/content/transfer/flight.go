// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
)

// flightKey distinguishes a manifest, which is copied with everything below it, from a blob of
// the same bytes.
type flightKey struct {
	digest digest.Digest
	blob   bool
}

// flight is the copying of one manifest or blob for all that ask for it. It runs under a
// context of its own, which ends when no one waits for it any more, so that an image that fails
// or is cancelled does not fail others that share a part of it. (BuildKit's flightcontrol is
// the model.)
type flight struct {
	from   layout.Repository
	desc   ocispec.Descriptor
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it has ended
	there  bool
	err    error

	// Guarded by the copier's lock: how many wait, and whether all that did have given up.
	waiting   int
	abandoned bool
}

// once runs do for several callers, with one flight at a time. Work that succeeded is not
// repeated. If the flight of another caller failed, with its source or its descriptor, the
// caller tries again with its own.
func (c *Copier) once(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, blob bool, do func(context.Context) (there bool, err error)) (there bool, err error) {
	for {
		f := c.join(ctx, flightKey{desc.Digest, blob}, from, desc, do)
		select {
		case <-f.done:
		case <-ctx.Done():
			c.leave(f, context.Cause(ctx))
			return false, context.Cause(ctx)
		}
		if f.err == nil {
			return f.there, sameSize(desc, f.desc.Size)
		}
		c.mu.Lock()
		mine := !f.abandoned && f.from == from && f.desc.Size == desc.Size && registry.MayBeElsewhere(f.desc) == registry.MayBeElsewhere(desc)
		c.mu.Unlock()
		if mine {
			return false, f.err
		}
	}
}

// join waits for a flight together with others, or starts it.
func (c *Copier) join(ctx context.Context, key flightKey, from layout.Repository, desc ocispec.Descriptor, do func(context.Context) (bool, error)) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil {
		f.waiting++
		return f
	}
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f := &flight{from: from, desc: desc, cancel: cancel, waiting: 1, done: make(chan struct{})}
	c.flights[key] = f
	go func() {
		defer close(f.done)
		defer cancel(nil)
		f.there, f.err = do(own)
		if f.err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.flights, key)
		}
	}()
	return f
}

// leave ends the wait for a flight. The last caller to leave cancels the flight, and waits
// until it has ended.
func (c *Copier) leave(f *flight, cause error) {
	c.mu.Lock()
	f.waiting--
	last := f.waiting == 0
	f.abandoned = f.abandoned || last
	c.mu.Unlock()
	if last {
		f.cancel(cause)
		<-f.done
	}
}

// has reports whether a manifest was copied with everything below it.
func (c *Copier) has(dgst digest.Digest) bool {
	c.mu.Lock()
	f := c.flights[flightKey{digest: dgst}]
	c.mu.Unlock()
	if f == nil {
		return false
	}
	select {
	case <-f.done:
		return f.err == nil
	default:
		return false
	}
}
