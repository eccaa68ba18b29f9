// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// ListOptions are the options of List and Tags.
type ListOptions struct {
	Environment
	// Repository whose applications are listed, without a tag.
	Repository string
}

// ListResult lists the applications of a repository, latest first.
type ListResult struct {
	Repository   string              `json:"repository"`
	Applications []ListedApplication `json:"applications"`
}

// ListedApplication is a tag that leads to an application.
type ListedApplication struct {
	Tag     string        `json:"tag"`
	Digest  digest.Digest `json:"digest"`
	Created time.Time     `json:"created,omitzero"`
	Images  int           `json:"images"`
	// Signed reports whether the root has a signature. The signature is not verified.
	Signed bool `json:"signed"`
}

// List lists the applications of a repository. It sends the requests for the list of tags, one
// request per tag, one for the referrers of each root and, if the registry does not report types,
// one more for each possible signature.
func List(ctx context.Context, o ListOptions) (*ListResult, error) {
	r, err := parseReference(o.Repository)
	if err != nil {
		return nil, err
	}
	if r.Version() != "" {
		return nil, usagef("%s is one application: list takes the repository, %s; view shows one", o.Repository, r.Name)
	}
	from, err := o.Registry.Repository(r.Name)
	if err != nil {
		return nil, err
	}
	tags, err := applicationTags(ctx, from)
	if err != nil {
		return nil, err
	}
	found := make([]*ListedApplication, len(tags))
	err = atonce.Each(ctx, atonce.Applications, tags, func(ctx context.Context, i int, tag string) (err error) {
		found[i], err = listed(ctx, from, tag)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.Name, err)
	}
	result := &ListResult{Repository: r.Name, Applications: []ListedApplication{}}
	roots := map[digest.Digest]bool{}
	for _, app := range found {
		if app != nil {
			roots[app.Digest] = false
			result.Applications = append(result.Applications, *app)
		}
	}
	if err := signedRoots(ctx, from, roots); err != nil {
		return nil, fmt.Errorf("list %s: %w", r.Name, err)
	}
	for i := range result.Applications {
		result.Applications[i].Signed = roots[result.Applications[i].Digest]
	}
	slices.SortStableFunc(result.Applications, func(a, b ListedApplication) int { return b.Created.Compare(a.Created) })
	return result, nil
}

// Tags returns the tags of a repository that lead to applications. It only sends the requests for
// the list of tags.
func Tags(ctx context.Context, o ListOptions) ([]string, error) {
	from, err := o.Registry.Repository(o.Repository)
	if err != nil {
		return nil, err
	}
	return applicationTags(ctx, from)
}

// applicationTags returns the tags that have a tag for the content beside them, which only
// applications do.
func applicationTags(ctx context.Context, from *registry.Repository) ([]string, error) {
	tags, err := from.Tags(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool {
		_, ok := slices.BinarySearch(tags, artifact.ContentTag(tag))
		return !ok
	}), nil
}

// listed inspects one tag. It returns nil if the tag does not lead to an application, or was
// removed in the meantime.
func listed(ctx context.Context, from *registry.Repository, tag string) (*ListedApplication, error) {
	desc, data, err := from.Manifest(ctx, tag)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if descriptor.Unmarshal(data, &index) != nil || index.Annotations[artifact.AnnotationFormat] == "" {
		return nil, nil
	}
	app := &ListedApplication{Tag: tag, Digest: desc.Digest}
	app.Created, _ = time.Parse(time.RFC3339, index.Annotations[ocispec.AnnotationCreated]) // zero if missing
	for _, child := range index.Manifests {
		if child.Annotations[artifact.AnnotationRole] == artifact.RoleImage {
			app.Images++
		}
	}
	return app, nil
}

// signedRoots records which roots have a signature.
func signedRoots(ctx context.Context, from *registry.Repository, roots map[digest.Digest]bool) error {
	digests := slices.Collect(maps.Keys(roots))
	signed := make([]bool, len(digests))
	err := atonce.Each(ctx, atonce.Applications, digests, func(ctx context.Context, i int, root digest.Digest) error {
		referrers, err := from.Referrers(ctx, root)
		for _, referrer := range referrers {
			if err == nil && !signed[i] {
				signed[i], err = isSignature(ctx, from, referrer)
			}
		}
		return err
	})
	for i, root := range digests {
		roots[root] = signed[i]
	}
	return err
}

// isSignature reports whether a referrer is a signature rather than a record of a promotion or a
// summary. It reads the manifest only if the registry does not report the type.
func isSignature(ctx context.Context, from content.Provider, referrer ocispec.Descriptor) (bool, error) {
	if images.TellsKind(referrer) {
		return images.KindOf(referrer.ArtifactType, referrer.Annotations) == images.Signature, nil
	}
	_, data, err := registry.Read(ctx, from, referrer)
	if errdefs.IsNotFound(err) { // deleted in the meantime
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var m ocispec.Manifest
	return descriptor.Unmarshal(data, &m) == nil && slices.Contains(images.KindsOf(m), images.Signature), nil
}

// IsRepository reports whether ref is a repository without a tag or digest, and not a path on
// this machine.
func IsRepository(ref string) bool {
	if _, ok := applicationReference(ref); !ok || strings.HasPrefix(ref, "oci:") || strings.HasPrefix(ref, "archive:") {
		return false
	}
	r, err := parseReference(ref)
	return err == nil && r.Version() == ""
}
