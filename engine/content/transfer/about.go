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
	"github.com/taped-dev/tape/internal/atonce"
)

// Whole copies a manifest with everything that it names, then what is attached to the subjects,
// and to that, and lists it. The lists are read while the manifest is copied. It returns the
// digests of everything attached, including what only a list claims to be.
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
		for _, l := range level {
			found = append(found, l.desc.Digest)
		}
		if err := atonce.Each(ctx, 0, level, func(ctx context.Context, _ int, l listing) error {
			return l.explain(c.referrer(ctx, from, l))
		}); err != nil {
			return nil, err
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// listing is the content of the list of a subject's referrers.
type listing struct {
	subject digest.Digest
	desc    ocispec.Descriptor
}

// explain names the entry in an error.
func (l listing) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case registry.Lost(err):
		return fmt.Errorf("%s, which is about %s: %w; or delete it there", l.desc.Digest, l.subject, err)
	}
	return fmt.Errorf("%s, which is about %s: %w", l.desc.Digest, l.subject, err)
}

// MissingReferrer is an entry of the list of a subject's referrers that is not there: the list
// is out of date, or it was lost.
type MissingReferrer struct{ Subject, Digest digest.Digest }

func (m MissingReferrer) String() string {
	return fmt.Sprintf("%s is listed as a signature, attestation, SBOM or the like of %s, and is not there: it is left out", m.Digest, m.Subject)
}

// eachLevel reads the lists of the subjects, then those of what visit returns for them, and so
// on. No list is read twice, because lists come from strangers and may be circular.
func eachLevel(ctx context.Context, from layout.Repository, subjects []digest.Digest, visit func([]listing) (next []digest.Digest, err error)) error {
	asked := map[digest.Digest]bool{}
	for level := 0; ; level++ {
		subjects = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(subjects))), func(d digest.Digest) bool { return asked[d] })
		if len(subjects) == 0 {
			return nil
		}
		if level > registry.MaxDepth || len(asked) > maxNodes {
			return fmt.Errorf("what is about %s leads on after %d levels: %w", subjects[0], level, errdefs.ErrInvalidArgument)
		}
		lists := make([][]ocispec.Descriptor, len(subjects))
		err := atonce.Each(ctx, atonce.Streams, subjects, func(ctx context.Context, i int, subject digest.Digest) (err error) {
			lists[i], err = from.Referrers(ctx, subject)
			return err
		})
		var all []listing
		for i, subject := range subjects {
			asked[subject] = true
			for _, desc := range lists[i] {
				all = append(all, listing{subject, desc})
			}
		}
		if err == nil {
			subjects, err = visit(all)
		}
		if err != nil {
			return err
		}
	}
}

// ask finds what lists claim to be attached to the subjects, to that, and so on. If the target
// was empty, it also copies everything named there: the rest are then manifests, which come
// after their subjects.
func (c *Copier) ask(ctx context.Context, from layout.Repository, subjects []digest.Digest) ([][]listing, error) {
	var levels [][]listing
	begun := map[digest.Digest]bool{}
	for _, subject := range subjects {
		begun[subject] = true
	}
	copying, copyCtx := errgroup.WithContext(ctx)
	copying.Go(func() error {
		return eachLevel(copyCtx, from, subjects, func(level []listing) (next []digest.Digest, err error) {
			levels = append(levels, level)
			for _, l := range level {
				if begun[l.desc.Digest] {
					continue
				}
				begun[l.desc.Digest] = true
				next = append(next, l.desc.Digest)
				if c.Empty {
					copying.Go(func() error {
						desc, err := about(copyCtx, from, l)
						if errdefs.IsNotFound(err) {
							return nil // it is reported when its turn comes
						}
						if desc != nil {
							_, err = c.children(copyCtx, from, l.desc, 0)
						}
						return l.explain(err)
					})
				}
			}
			return next, nil
		})
	})
	err := copying.Wait()
	return levels, err
}

// Attached finds what is attached to the subjects, to that, and so on, except for what is
// known. The descriptors do not depend on the registry, and are sorted by digest. missing is
// called with the entries of lists that are not there.
func Attached(ctx context.Context, from layout.Repository, subjects []digest.Digest, known map[digest.Digest]bool, missing func(MissingReferrer)) ([]ocispec.Descriptor, error) {
	found := map[digest.Digest]ocispec.Descriptor{}
	err := eachLevel(ctx, from, subjects, func(level []listing) (next []digest.Digest, err error) {
		entries, gone := make([]*ocispec.Descriptor, len(level)), make([]bool, len(level))
		err = atonce.Each(ctx, atonce.Streams, level, func(ctx context.Context, i int, l listing) (err error) {
			if _, twice := found[l.desc.Digest]; twice || known[l.desc.Digest] {
				return nil
			}
			entries[i], err = about(ctx, from, l)
			if gone[i] = errdefs.IsNotFound(err); gone[i] {
				return nil
			}
			return l.explain(err)
		})
		for i, entry := range entries {
			if gone[i] {
				missing(MissingReferrer{level[i].subject, level[i].desc.Digest})
			}
			if entry != nil {
				found[entry.Digest] = *entry
				next = append(next, entry.Digest)
			}
		}
		return next, err
	})
	out := slices.AppendSeq([]ocispec.Descriptor{}, maps.Values(found))
	slices.SortFunc(out, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return out, err
}

// referrer copies an entry of a list, if it is attached to the subject.
func (c *Copier) referrer(ctx context.Context, from layout.Repository, l listing) error {
	desc, err := about(ctx, from, l)
	if errdefs.IsNotFound(err) {
		c.missing(MissingReferrer{l.subject, l.desc.Digest})
		return nil
	}
	if err != nil || desc == nil {
		return err
	}
	there, err := c.Manifest(ctx, from, l.desc)
	if there {
		c.Note(Referrer{Subject: l.subject, Manifest: *desc, Existing: true})
	}
	return err
}

// about returns the manifest of an entry in a subject's list, as described there but without
// annotations, or nil if it is attached to something else. It may be missing, because lists may
// be out of date.
func about(ctx context.Context, from layout.Repository, l listing) (*ocispec.Descriptor, error) {
	desc, data, err := registry.Read(ctx, from, l.desc)
	if err != nil {
		return nil, err
	}
	subject, entry, err := registry.Referrer(desc, data)
	if err != nil || subject != l.subject {
		return nil, nil //nolint:nilerr // without a subject it is about nothing
	}
	entry.Annotations = nil
	return &entry, nil
}

// missing reports an entry that the source does not have.
func (c *Copier) missing(m MissingReferrer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Missing != nil {
		c.Missing(m)
	}
}

// Note makes the copier list manifests that it did not write.
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

// Unlisted returns the manifests with a subject of which it is not certain that the target
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

// List lists what [Copier.Unlisted] returns among the referrers of its subject, except what is
// in except. It must be called when everything is there.
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
