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

// taggedLater finds what is attached by cosign's tags to manifests, and to that, except for the
// known tags: the root does not contain what was signed after packing. In a registry a single
// list of all tags is sufficient. The warning, if not "", is why this could not be determined.
func taggedLater(ctx context.Context, from layout.Repository, subjects []digest.Digest, known []transfer.Tagged) (found []transfer.Tagged, warning string, err error) {
	seen := map[string]bool{"": true}
	for _, k := range known {
		seen[k.Tag] = true
	}
	there := func(string) bool { return true }
	if repository, ok := from.(*registry.Repository); ok {
		list, err := repository.Tags(ctx)
		if context.Cause(ctx) != nil {
			return nil, "", err
		}
		if err != nil {
			return nil, fmt.Sprintf("what cosign attached by tag since it was taped is not known, and stays: %v", err), nil
		}
		there = func(tag string) bool {
			_, ok := slices.BinarySearch(list, tag)
			return ok
		}
	}
	for i := 0; i < len(subjects); i++ { // it grows
		for _, suffix := range cosignSuffixes {
			tag := registry.AttachedTag(subjects[i], suffix)
			if seen[tag] || !there(tag) {
				continue
			}
			seen[tag] = true
			desc, err := from.Resolve(ctx, tag)
			if errdefs.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, "", err
			}
			found = append(found, transfer.Tagged{Tag: tag, Desc: desc})
			subjects = append(subjects, desc.Digest)
		}
	}
	return found, "", nil
}
