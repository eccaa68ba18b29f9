// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
)

// parallelQuestions leaves most of what a source answers at once to what is copied:
// some look through all that they have for referrers.
const parallelQuestions = 32

// Whole copies a manifest with all that it names and then what is about the
// subjects, and about that, and has it listed. What there is of that is found out
// while the manifest is on its way. It returns the digests of what is about them, which
// includes what only a list says to be.
func (c *Copier) Whole(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, subjects []digest.Digest) ([]digest.Digest, error) {
	var about [][]listing
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := c.Manifest(groupCtx, from, desc)
		return err
	})
	group.Go(func() (err error) {
		about, err = c.ask(groupCtx, from, subjects)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var found []digest.Digest
	for _, level := range about {
		group, ctx := errgroup.WithContext(ctx)
		for _, l := range level {
			found = append(found, l.desc.Digest)
			group.Go(func() error {
				if err := c.referrer(ctx, from, l); err != nil {
					return fmt.Errorf("what is about %s: %w", l.subject, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// listing is what the list of a subject's referrers has.
type listing struct {
	subject digest.Digest
	desc    ocispec.Descriptor
}

// ask finds out what is about the subjects, what is about that, and so on. Nothing is
// asked for twice: lists are a stranger's, and may lead in a circle. To a target that
// was empty it copies all that is named there: what is left then are manifests, which
// come after their subjects.
func (c *Copier) ask(ctx context.Context, from layout.Repository, subjects []digest.Digest) ([][]listing, error) {
	var levels [][]listing
	asked := map[digest.Digest]bool{}
	copying, copyCtx := errgroup.WithContext(ctx)
	for len(subjects) > 0 {
		if len(levels) > registry.MaxDepth || len(asked) > maxNodes {
			copying.Go(func() error {
				return fmt.Errorf("what is about %s leads on after %d levels: %w", subjects[0], len(levels), errdefs.ErrInvalidArgument)
			})
			return nil, copying.Wait()
		}
		lists := make([][]ocispec.Descriptor, len(subjects))
		asking, askCtx := errgroup.WithContext(copyCtx)
		asking.SetLimit(parallelQuestions)
		for i, subject := range subjects {
			asked[subject] = true
			asking.Go(func() (err error) {
				lists[i], err = from.Referrers(askCtx, subject)
				return err
			})
		}
		if err := asking.Wait(); err != nil {
			copying.Go(func() error { return err }) // which ends the others
			return nil, copying.Wait()
		}
		var level []listing
		next := map[digest.Digest]listing{}
		for i, subject := range subjects {
			for _, desc := range lists[i] {
				level = append(level, listing{subject, desc})
				if _, twice := next[desc.Digest]; !twice && !asked[desc.Digest] {
					next[desc.Digest] = listing{subject, desc}
				}
			}
		}
		if c.Empty {
			for _, l := range next {
				copying.Go(func() error {
					desc, err := about(copyCtx, from, l)
					if desc != nil {
						_, err = c.children(copyCtx, from, l.desc, 0)
					}
					return err
				})
			}
		}
		levels, subjects = append(levels, level), slices.Sorted(maps.Keys(next))
	}
	return levels, copying.Wait()
}

// referrer copies what a list has, where it is about the subject.
func (c *Copier) referrer(ctx context.Context, from layout.Repository, l listing) error {
	desc, err := about(ctx, from, l)
	if err != nil || desc == nil {
		return err
	}
	there, err := c.Manifest(ctx, from, l.desc)
	if there {
		c.Note(Referrer{Subject: l.subject, Manifest: *desc, Existing: true})
	}
	return err
}

// about is the manifest that a subject's list has, where it is about the subject. Lists
// have others, and what is gone, as they are older than that: then it is nil.
func about(ctx context.Context, from layout.Repository, l listing) (*ocispec.Descriptor, error) {
	desc, data, err := registry.Read(ctx, from, l.desc)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	subject, _, err := registry.Referrer(desc, data)
	if err != nil || subject != l.subject {
		return nil, nil //nolint:nilerr // without a subject it is about nothing
	}
	return &ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, nil
}

// Note has the copier list manifests that it did not write.
func (c *Copier) Note(referrers ...Referrer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range referrers {
		list := c.referrers[r.Subject]
		if !slices.ContainsFunc(list, func(o Referrer) bool { return o.Manifest.Digest == r.Manifest.Digest }) {
			c.referrers[r.Subject] = append(list, r)
		}
	}
}

// Unlisted are the manifests with a subject of which it is not certain that the target
// lists them, sorted by subject and digest.
func (c *Copier) Unlisted() []Referrer {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []Referrer{}
	for _, subject := range slices.Sorted(maps.Keys(c.referrers)) {
		out = append(out, slices.SortedFunc(slices.Values(c.referrers[subject]), func(a, b Referrer) int {
			return cmp.Compare(a.Manifest.Digest, b.Manifest.Digest)
		})...)
	}
	return out
}

// List has what is [Copier.Unlisted] listed among the referrers of its subject, but
// for what except names. It comes when all of it is there.
func (c *Copier) List(ctx context.Context, except map[digest.Digest]bool) error {
	bySubject := map[digest.Digest][]Referrer{}
	for _, r := range c.Unlisted() {
		if !except[r.Manifest.Digest] {
			bySubject[r.Subject] = append(bySubject[r.Subject], r)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for subject, referrers := range bySubject {
		group.Go(func() error { return c.target.List(ctx, subject, referrers) })
	}
	return group.Wait()
}
