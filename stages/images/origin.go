// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
)

// Origin is what an image is taken from: the repository of its name, or a place
// that looks like it.
type Origin interface {
	transfer.Source
	// Manifest reads a manifest or index by tag or digest.
	Manifest(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, []byte, error)
}

// Origins opens what images are taken from.
type Origins struct {
	Registry *registry.Client
	Local    *local.Places // nil: images are in registries
}

// Open opens the origin of an image: of its normalised name, and the place that
// it is in where that is no registry.
func (o Origins) Open(ctx context.Context, name string, from local.Place) (Origin, error) {
	named, err := reference.ParseNormalizedNamed(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("image %s: %w", name, err)
	case from == "":
		return o.Registry.Source(named.Name())
	case o.Local == nil:
		return nil, errors.New("images are taken from registries alone here, not from " + string(from))
	}
	return o.Local.Open(ctx, from, name)
}

// Match says whether a text is a pattern, in which * stands for any characters.
func Match(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	if last == 0 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1:last] {
		if _, s, ok = strings.Cut(s, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(s, parts[last])
}

// Matches says whether the reference, as it is written anywhere or as normalised,
// is a pattern.
func (r Reference) Matches(pattern string) bool {
	return Match(pattern, r.Name) ||
		slices.ContainsFunc(r.Locations, func(l Location) bool { return Match(pattern, l.Value) })
}
