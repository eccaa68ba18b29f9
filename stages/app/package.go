// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/push"
)

// Package packs the sources with all their images into one artifact, and pushes or saves it. It
// sets tags after everything else.
func Package(ctx context.Context, o PackageOptions) (*PackageResult, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.DryRun && o.Cache != nil {
		o.Cache = o.Cache.ReadOnly()
	}
	if _, alone := o.Signer.(*Key); o.DryRun && !alone {
		o.Signer = nil // it would send requests to services, which record what they sign
	}
	p, err := o.prepare(ctx)
	if err == nil {
		err = o.set(p)
	}
	if err != nil {
		return nil, err
	}
	// sends is set if the artifact is written to the repository, or would be without a dry run.
	sends := o.Save == "" || o.Push
	var targets []string
	switch {
	case sends && o.DryRun:
		if err = p.With("mirror", "dryRun", true); err == nil {
			targets, err = o.unpushed(ctx, p, "mirror")
		}
	case !sends:
		targets, err = o.unpushed(ctx, p)
	case o.Immutable:
		err = p.With("push", "immutable", true)
	}
	if err != nil {
		return nil, err
	}
	if o.Save != "" && !o.DryRun {
		o.noteReplaced(o.Save)
	}
	if err := o.checkUpdate(ctx, p); err != nil {
		return nil, err
	}
	if sends && o.Immutable {
		if err := o.checkTags(ctx, p); err != nil {
			return nil, err
		}
	}
	run, from, err := o.traced(ctx, p, targets...)
	if err != nil {
		return nil, err
	}
	if o.Update != "" && !o.DryRun {
		if err := o.updateLock(ctx, run); err != nil {
			return nil, fmt.Errorf("the application is packaged, but its lock was not updated: %w", err)
		}
	}
	result := &PackageResult{
		Signed:   o.Signer != nil,
		Nodes:    run.nodes(),
		DryRun:   o.DryRun,
		Warnings: run.warnings(),
	}
	var (
		list   images.List
		report images.Report
		pinned images.Edits
		moved  images.Moved
		where  push.Pushed
	)
	root, rootErr := run.Output(rootMade)
	content, contentErr := run.Output(contentMade)
	if err = cmp.Or(rootErr, contentErr); err == nil {
		err = run.read(ctx, foundImages.into(&list), references.into(&report), edits.into(&pinned), tagReason.into(&result.TagReason))
	}
	if err == nil {
		result.Environments, err = run.environments(ctx)
	}
	if err == nil && sends { // what mirror copied or, in a dry run, would copy
		err = run.read(ctx, movedImages.into(&moved))
		result.Moved = moved.Moved
	}
	if err != nil {
		return nil, err
	}
	result.Root.Digest, result.Root.Size, result.Content.Digest = root.Digest, root.Size, content.Digest
	result.Unpinned = unpinned(list.Unpinned, pinned.Unpinned)
	result.Placeholders, result.Skipped = orEmpty(report.Placeholders), orEmpty(report.Skipped)
	from.trace(result.Unpinned, result.Placeholders, result.Skipped)
	for _, image := range list.Images {
		for _, r := range image.Related {
			if r.Via != images.Inline {
				result.Related++
			}
		}
	}
	if o.Save != "" || targets != nil {
		where, err = o.unsent(ctx, run, result)
	} else {
		err = run.read(ctx, pushedMade.into(&where))
	}
	switch {
	case err != nil || !sends:
	case o.DryRun:
		where.MovedTags, err = o.forecast(ctx, run)
	case o.Save != "":
		var pushed push.Pushed
		err = run.read(ctx, pushedMade.into(&pushed))
		where.MovedTags = pushed.MovedTags
	}
	if err != nil {
		return nil, err
	}
	result.Tags, result.Images, result.MovedTags = where.Tags, where.Images, where.MovedTags
	result.Root.Ref, result.Content.Ref = where.Root, where.Content
	return result, nil
}

// set applies the options to the nodes that they configure.
func (o *PackageOptions) set(p *pipeline.Pipeline) (err error) {
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
	return err
}

// forecast returns the tags that a run would move, or none if the repository cannot be read.
func (o *PackageOptions) forecast(ctx context.Context, run made) ([]transfer.MovedTag, error) {
	moves, err := o.moves(ctx, run)
	if errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) || errdefs.IsUnavailable(err) {
		return []transfer.MovedTag{}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, m := range moves {
		o.say(engine.Note, fmt.Sprintf("tag %s would move from %s to %s", m.Tag, m.Was, m.Is))
	}
	return moves, nil
}

// moves returns the tags that the application of a run would take from others.
func (o *PackageOptions) moves(ctx context.Context, run made) ([]transfer.MovedTag, error) {
	app, err := run.product(ctx)
	if err != nil {
		return nil, err
	}
	repository, err := o.Registry.Repository(app.names.Repository)
	if err != nil {
		return nil, err
	}
	all := push.Tags(app.names.Repository, app.Root, app.Content, app.tags, app.images)
	was, err := transfer.Was(ctx, repository, all)
	return transfer.Moves(all, was), err
}

// checkTags makes the application without copying anything, and fails if one of its tags leads to
// something else. The push stage checks this too, but only after the images have been copied.
func (o *PackageOptions) checkTags(ctx context.Context, p *pipeline.Pipeline) error {
	targets, err := o.unpushed(ctx, p)
	if err != nil {
		return err
	}
	run, err := o.silent().run(ctx, p, targets...)
	if err != nil {
		return err
	}
	moves, err := o.moves(ctx, run)
	if err == nil {
		err = transfer.Taken(moves)
	}
	if err != nil {
		return fmt.Errorf("package: %w", err)
	}
	return nil
}

// silent returns options for a preliminary run, whose messages the final run repeats.
func (o *PackageOptions) silent() *Options {
	quiet := o.Options
	quiet.Events = func(e engine.Event) {
		if o.Events != nil && e.Level == "" {
			o.Events(e)
		}
	}
	return &quiet
}

// unpinned returns the references that were left as written, once for each reason. References
// that are never pinned are reported both when they are resolved and when they are skipped.
func unpinned(resolved, pinned []images.Unpinned) []images.Unpinned {
	out := []images.Unpinned{}
	for _, u := range slices.Concat(resolved, pinned) {
		if !slices.ContainsFunc(out, func(o images.Unpinned) bool { return o.Name == u.Name && o.Reason == u.Reason }) {
			out = append(out, u)
		}
	}
	return out
}
