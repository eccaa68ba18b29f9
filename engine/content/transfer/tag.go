// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/internal/atonce"
)

// Tagged is a tag and the manifest that it should lead to.
type Tagged struct {
	Tag  string
	Desc ocispec.Descriptor
}

// MovedTag is a tag that led to another manifest before.
type MovedTag struct {
	// Repository is set if tags of several repositories were set.
	Repository string        `json:"repository,omitempty"`
	Tag        string        `json:"tag"`
	Was        digest.Digest `json:"was"`
	Is         digest.Digest `json:"is"`
}

func (m MovedTag) String() string {
	text := fmt.Sprintf("tag %s was %s until now, and is %s", m.Tag, m.Was, m.Is)
	if m.Repository != "" {
		text = m.Repository + ": " + text
	}
	return text
}

// SortMoved sorts tags that moved by repository and name.
func SortMoved(list []MovedTag) {
	slices.SortFunc(list, func(a, b MovedTag) int {
		return cmp.Or(strings.Compare(a.Repository, b.Repository), strings.Compare(a.Tag, b.Tag))
	})
}

// Tags looks up tags.
type Tags interface {
	Digest(ctx context.Context, tag string) (digest.Digest, error)
}

// Was looks up tags concurrently. The result of a tag that does not exist is "". A duplicate is
// looked up once.
func Was(ctx context.Context, at Tags, tags []Tagged) (map[string]digest.Digest, error) {
	var names []string
	for _, tag := range tags {
		names = append(names, tag.Tag)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	found := make([]digest.Digest, len(names))
	if err := atonce.Each(ctx, 0, names, func(ctx context.Context, i int, name string) (err error) {
		if found[i], err = at.Digest(ctx, name); errdefs.IsNotFound(err) {
			found[i], err = "", nil
		}
		return err
	}); err != nil {
		return nil, err
	}
	was := make(map[string]digest.Digest, len(names))
	for i, name := range names {
		was[name] = found[i]
	}
	return was, nil
}

// Moves returns the tags that existed and led to another manifest, sorted by name.
func Moves(tags []Tagged, was map[string]digest.Digest) []MovedTag {
	moved := []MovedTag{}
	for _, tag := range tags {
		if before := was[tag.Tag]; before != "" && before != tag.Desc.Digest {
			moved = append(moved, MovedTag{Tag: tag.Tag, Was: before, Is: tag.Desc.Digest})
		}
	}
	SortMoved(moved)
	return slices.Compact(moved)
}

// Taken returns an error of class ErrAlreadyExists that names tags which lead to another
// manifest; nil if there are none.
func Taken(moves []MovedTag) error {
	if len(moves) == 0 {
		return nil
	}
	return takenError(moves)
}

type takenError []MovedTag

func (takenError) Unwrap() error { return errdefs.ErrAlreadyExists }

func (e takenError) Error() string {
	var names []string
	for _, m := range e {
		text := fmt.Sprintf("%s (%s)", m.Tag, m.Was)
		if m.Repository != "" {
			text = m.Repository + ":" + text
		}
		names = append(names, text)
	}
	return "tags must not move, and these point to something else: " + strings.Join(names, ", ")
}

// Plan looks up tags of the target before anything is copied. If the copier is Immutable, it
// fails if one of them would move.
func (c *Copier) Plan(ctx context.Context, tags []Tagged) (was map[string]digest.Digest, err error) {
	was = map[string]digest.Digest{}
	if !c.Empty {
		if was, err = Was(ctx, c.target, tags); err != nil {
			return nil, err
		}
	}
	if err := Taken(Moves(tags, was)); c.Immutable && err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, tag := range tags {
		c.tags[tag.Tag] = was[tag.Tag]
	}
	return was, nil
}

// Tag tags a manifest that was copied, or that the target has.
func (c *Copier) Tag(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, tag string) error {
	c.mu.Lock()
	was, known := c.tags[tag]
	c.mu.Unlock()
	if !known && !c.Empty && tag != "" {
		found, err := Was(ctx, c.target, []Tagged{{tag, desc}})
		if err != nil {
			return err
		}
		was = found[tag]
	}
	if was == desc.Digest {
		return nil
	}
	moved := MovedTag{Tag: tag, Was: was, Is: desc.Digest}
	if was != "" && c.Immutable {
		return Taken([]MovedTag{moved})
	}
	data, err := engine.Get(ctx, from, desc)
	if err == nil {
		err = c.target.Tag(ctx, desc, data, tag)
	}
	if err != nil || was == "" || c.TagMoved == nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.TagMoved(moved)
	return nil
}
