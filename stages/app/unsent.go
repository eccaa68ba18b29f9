// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/push"
)

// unsent saves what a run made, or reports what would be sent. It also reports where everything
// is or would be.
func (o *PackageOptions) unsent(ctx context.Context, run made, result *PackageResult) (where push.Pushed, err error) {
	app, err := run.product(ctx)
	if err != nil {
		return where, err
	}
	where = push.Describe(app.names.Repository, app.Root.Digest, app.Content.Digest, app.tags, app.images)
	if o.DryRun && o.Save == "" {
		return where, nil
	}
	made, err := run.Output(signed)
	if err != nil {
		return where, err
	}
	signatures, err := artifact.Signatures(ctx, run.Store, made)
	if err != nil {
		return where, err
	}
	s := &saving{archive: artifact.Archive{
		Images: app.Children(artifact.RoleImage), Names: app.names, Root: &app.Root, Tags: app.tags, Signatures: signatures,
	}}
	if err := o.fetch(ctx, s, app.images); err != nil {
		return where, err
	}
	own := ocispec.Index{Manifests: append(app.Children(artifact.RoleContent), app.Children(artifact.RoleAttestations)...)}
	if err := s.application(ctx, app.from, app.Root, own, signatures); err != nil {
		return where, err
	}
	if !o.DryRun {
		// It does not continue an interrupted archive.
		if _, _, err := s.write(ctx, SaveOptions{Environment: o.Environment, File: o.Save, Resume: true}); err != nil {
			return where, fmt.Errorf("save %s: %w", o.Save, err)
		}
		result.File = o.Save
	}
	if !o.Push {
		all := s.tree.Descriptors()
		result.Moved.Blobs = len(all)
		for _, desc := range all {
			result.Moved.Bytes += desc.Size
		}
	}
	return where, nil
}

// fetch adds the images, and what is published with them, to the tree.
func (o *PackageOptions) fetch(ctx context.Context, s *saving, list []images.Image) error {
	origins, copier := o.origins(), s.tree.Copier(nil)
	return atonce.Each(ctx, 0, list, func(ctx context.Context, _ int, image images.Image) error {
		descs := []ocispec.Descriptor{{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size}}
		for _, r := range image.Related {
			if r.Via != images.Inline {
				descs = append(descs, ocispec.Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size})
			}
		}
		src, err := origins.Open(ctx, image.Name, image.From)
		if err == nil {
			err = copier.Manifests(ctx, src, descs...)
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", image.Source, err)
		}
		return nil
	})
}
