// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
)

// laterTags finds what cosign attached to manifests by tag after the application was packed, so
// that the root does not list it.
type laterTags struct {
	from layout.Repository
	has  func(tag string) bool // may return true for a tag that does not exist
}

// openLater opens the tags of a repository or layout. For a registry, it requests the list of all
// tags once. If that fails, it returns a warning with the reason, and find returns nothing.
func openLater(ctx context.Context, from layout.Repository) (_ *laterTags, warning string, err error) {
	repository, ok := from.(*registry.Repository)
	if !ok {
		return &laterTags{from, func(string) bool { return true }}, "", nil
	}
	list, err := repository.Tags(ctx)
	if context.Cause(ctx) != nil {
		return nil, "", err
	}
	if err != nil {
		warning = fmt.Sprintf("cannot tell what cosign attached by tag since packaging, so it is not copied: %v", err)
	}
	return &laterTags{from, func(tag string) bool {
		_, ok := slices.BinarySearch(list, tag)
		return ok && warning == ""
	}}, warning, nil
}

// find returns what is attached by tag to the subjects, and to what it finds, except for known
// tags.
func (l *laterTags) find(ctx context.Context, subjects []digest.Digest, known []transfer.Tagged) ([]transfer.Tagged, error) {
	seen := map[string]bool{"": true}
	for _, k := range known {
		seen[k.Tag] = true
	}
	var found []transfer.Tagged
	subjects = slices.Clone(subjects)
	for i := 0; i < len(subjects); i++ { // the loop appends to subjects
		for _, suffix := range cosignSuffixes {
			tag := registry.AttachedTag(subjects[i], suffix)
			if seen[tag] || !l.has(tag) {
				continue
			}
			seen[tag] = true
			desc, err := l.from.Resolve(ctx, tag)
			if errdefs.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			found = append(found, transfer.Tagged{Tag: tag, Desc: desc})
			subjects = append(subjects, desc.Digest)
		}
	}
	return found, nil
}
