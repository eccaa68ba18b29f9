// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/push"
)

// Package packs the sources and everything they run into one artifact and pushes
// it, or saves it. Nothing is tagged unless all of it is there.
func Package(ctx context.Context, o PackageOptions) (*PackageResult, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	if o.Repository != "" {
		err = errors.Join(err, p.Set("output.image", o.Repository))
	}
	if len(o.Tags) > 0 {
		err = errors.Join(err, p.Set("output.tags", o.Tags))
	}
	if o.SBOM {
		err = errors.Join(err, p.Set("output.sbom", true))
	}
	if o.Check {
		err = errors.Join(err, p.Set("output.check", true))
	}
	if err != nil {
		return nil, err
	}
	var targets []string
	if pushed := o.Save == "" && !o.DryRun || o.Push && !o.DryRun; !pushed {
		if targets, err = o.unpushed(p); err != nil {
			return nil, err
		}
	}
	if err := o.checkUpdate(ctx, p); err != nil {
		return nil, err
	}
	run, err := o.run(ctx, p, targets...)
	if err != nil {
		return nil, err
	}
	if o.Update != "" && !o.DryRun {
		lock, err := o.lock()
		if err == nil {
			err = lock.update(ctx, run, o.Update)
		}
		if err != nil {
			return nil, err
		}
		if o.Events != nil {
			o.Events(engine.Event{Message: "wrote " + lock.file, At: time.Now()})
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
	edits, err := document[images.Edits](ctx, run, "pin.edits", images.MediaTypeEdits)
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
		Unpinned:     orEmpty(slices.Concat(list.Unpinned, edits.Unpinned)),
		Placeholders: orEmpty(report.Placeholders),
		Skipped:      orEmpty(report.Skipped),
		Signed:       o.Signer != nil,
		Nodes:        nodes(run),
		DryRun:       o.DryRun,
		Warnings:     warnings(run),
	}
	result.Root.Digest, result.Root.Size = root.Digest, root.Size
	result.Content.Digest = content.Digest
	for _, image := range list.Images {
		for _, r := range image.Related {
			if r.Via != images.Inline {
				result.Related++
			}
		}
	}
	var where push.Pushed
	if targets == nil {
		if where, err = o.pushed(ctx, run, result); err != nil {
			return nil, err
		}
	}
	if o.Save != "" || targets != nil {
		if where, err = o.unsent(ctx, run, root, list.Images, result); err != nil {
			return nil, err
		}
	}
	result.Tags, result.Images = where.Tags, where.Images
	result.Root.Ref, result.Content.Ref = where.Root, where.Content
	return result, nil
}

// pushed is what was pushed, and what moved.
func (o *PackageOptions) pushed(ctx context.Context, run *engine.Result, result *PackageResult) (push.Pushed, error) {
	moved, err := document[images.Moved](ctx, run, "mirror.moved", images.MediaTypeMoved)
	if err != nil {
		return push.Pushed{}, err
	}
	result.Moved = Moved{Blobs: moved.Blobs, Bytes: moved.Bytes, Mounted: moved.Mounted, Existing: moved.Existing}
	return document[push.Pushed](ctx, run, "push.pushed", push.MediaType)
}
