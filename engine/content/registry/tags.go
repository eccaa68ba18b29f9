// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// tagsPage is how many tags are requested at once.
	tagsPage = "1000"
	// maxTags, maxTagPages and maxTagsPage bound the answers of a registry.
	maxTags     = 1_000_000
	maxTagPages = 1000
	maxTagsPage = 16 << 20
)

// Tags lists the tags of the repository, sorted.
func (r *Repository) Tags(ctx context.Context) (tags []string, err error) {
	defer func() { err = r.explain(ctx, "list tags of", r.name, err) }()
	host, err := r.pushHost() // mirrors may not have all of them
	if err != nil {
		return nil, err
	}
	ctx = r.scope(ctx, "pull", "")
	ask := request{method: http.MethodGet, path: "/tags/list", query: url.Values{"n": {tagsPage}}, wanted: []int{http.StatusOK}}
	seen := map[string]bool{}
	for len(tags) <= maxTags {
		var page struct{ Tags []string }
		next, err := r.page(ctx, host, ask, "a page", maxTagsPage, func(_ *http.Response, data []byte) error {
			if err := json.Unmarshal(data, &page); err != nil {
				return fmt.Errorf("read the list: %w: %w", err, errdefs.ErrInvalidArgument)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		tags = append(tags, page.Tags...)
		if next == nil {
			slices.Sort(tags)
			return slices.Compact(tags), nil
		}
		if seen[next.String()] {
			return nil, fmt.Errorf("the pages of the list lead in a circle: %w", errdefs.ErrInvalidArgument)
		}
		seen[next.String()] = true
		if len(seen) == maxTagPages {
			return nil, fmt.Errorf("more than %d pages of tags: %w", maxTagPages, errdefs.ErrInvalidArgument)
		}
		ask.at, ask.query = next, nil
	}
	return nil, fmt.Errorf("more than %d tags: %w", maxTags, errdefs.ErrInvalidArgument)
}

// Delete removes a tag or, by its digest, a manifest with all its tags. The error is of class
// ErrNotImplemented if the registry does not support deletion.
func (r *Repository) Delete(ctx context.Context, reference string) (err error) {
	defer func() { err = r.explain(ctx, "delete", r.Ref(reference), err) }()
	if isDigest(reference) {
		err = checkDigest(ocispec.Descriptor{Digest: digest.Digest(reference)})
	} else {
		err = r.checkTag(reference)
	}
	if err != nil {
		return err
	}
	host, err := r.pushHost()
	if err != nil {
		return err
	}
	resp, err := r.ask(r.scope(ctx, "pull,push,delete", ""), host, request{
		method: http.MethodDelete, path: "/manifests/" + reference,
		wanted: []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent},
	})
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}
