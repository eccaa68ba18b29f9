// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"
	"errors"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/push"
)

// Package packs the sources and everything they run into one artifact and pushes
// it. Nothing is tagged unless all of it is there.
func Package(ctx context.Context, o PackageOptions) (*PackageResult, error) {
	p, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	if o.Repository == "" && o.Pipeline == "" {
		return nil, errors.New("no repository to push to: name one with --output-image (-O), such as registry.example.com/team/app")
	}
	if o.Repository != "" {
		if err := artifact.CheckRepository(o.Repository); err != nil {
			return nil, err
		}
		err = errors.Join(err, p.Set("output.image", o.Repository))
	}
	if len(o.Tags) > 0 {
		err = errors.Join(err, p.Set("output.tags", o.Tags))
	}
	if o.Check {
		err = errors.Join(err, p.Set("output.check", true))
	}
	if err != nil {
		return nil, err
	}
	run, err := o.run(ctx, p)
	if err != nil {
		return nil, err
	}

	if o.Update != "" {
		lock, err := o.lock()
		if err == nil {
			err = lock.update(ctx, run, o.Update)
		}
		if err != nil {
			return nil, err
		}
	}
	list, err := document[images.List](ctx, run, "discover.images", images.MediaTypeList)
	if err != nil {
		return nil, err
	}
	report, err := document[images.Report](ctx, run, "scan.references", images.MediaTypeReport)
	if err != nil {
		return nil, err
	}
	pushed, err := document[push.Pushed](ctx, run, "push.pushed", push.MediaType)
	if err != nil {
		return nil, err
	}
	moved, err := document[images.Moved](ctx, run, "mirror.moved", images.MediaTypeMoved)
	if err != nil {
		return nil, err
	}
	root, err := run.Output("index.root")
	if err != nil {
		return nil, err
	}
	content, err := run.Output("content.manifest")
	if err != nil {
		return nil, err
	}

	result := &PackageResult{
		Tags:     pushed.Tags,
		Images:   pushed.Images,
		Unpinned: orEmpty(list.Unpinned),
		Skipped:  orEmpty(report.Skipped),
		Nodes:    nodes(run),
		Moved:    Moved{Blobs: moved.Blobs, Bytes: moved.Bytes, Mounted: moved.Mounted, Existing: moved.Existing},
		Warnings: warnings(run),
	}
	result.Root.Digest, result.Root.Size = root.Digest, root.Size
	result.Root.Ref = pushed.Root
	result.Content.Digest, result.Content.Ref = content.Digest, pushed.Content
	for _, image := range list.Images {
		for _, r := range image.Related {
			if r.Via != images.Inline {
				result.Related++
			}
		}
	}
	return result, nil
}
