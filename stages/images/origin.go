// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
)

// Origin is where an image is read from: the repository in its name, or a local place that
// behaves like a repository.
type Origin interface {
	layout.Repository
	// Manifest reads a manifest or index by tag or digest.
	Manifest(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, []byte, error)
}

// Origins opens the origins of images.
type Origins struct {
	Registry *registry.Client
	Local    *local.Places // nil if all images are read from registries
	// Check checks a file before images are read from it; nil checks nothing.
	Check func(ctx context.Context, from local.Place) error
	// Known is what registries need not be asked.
	Known Known
}

// Open opens the origin of the image with the given normalised name. from is the local place that
// contains the image, or "" if it is in the registry in its name.
func (o Origins) Open(ctx context.Context, name string, from local.Place) (Origin, error) {
	named, err := imageref.Parse(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("image %s: %w", name, err)
	case from == "":
		return o.Registry.Source(named.Name)
	case o.Local == nil:
		return nil, fmt.Errorf("image %s: cannot be read from %s: local places are not available here", name, from)
	case from.IsFile() && o.Check != nil:
		if err := o.Check(ctx, from); err != nil {
			return nil, err
		}
	}
	return o.Local.Open(ctx, from, name)
}

// Match reports whether s matches pattern, in which * matches any characters, including none.
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

// Matches reports whether the normalised name, or the value at any location, matches
// pattern.
func (r Reference) Matches(pattern string) bool {
	return Match(pattern, r.Name) ||
		slices.ContainsFunc(r.Locations, func(l Location) bool { return Match(pattern, l.Value) })
}
