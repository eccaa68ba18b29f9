// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"slices"

	"github.com/taped-dev/tape/stages/images"
)

// Images finds all images that the sources name, and resolves them if requested. It reports a
// file that cannot be parsed as skipped.
func Images(ctx context.Context, o ImagesOptions) (*ImagesResult, error) {
	o.SkipInvalid = true
	p, err := o.prepare(ctx)
	if err != nil {
		return nil, err
	}
	// A folder with several sources is not an error when images are only listed.
	if err := p.With("source", "parts", true); err != nil {
		return nil, err
	}
	target := foundImages
	if !o.Resolve {
		target = resolvedImages
		if err := p.With("resolve", "offline", true); err != nil {
			return nil, err
		}
	}
	node, _, _ := target.ref.Split()
	run, from, err := o.traced(ctx, p, node)
	if err != nil {
		return nil, err
	}
	var (
		list   images.List
		report images.Report
	)
	if err := run.read(ctx, target.into(&list), references.into(&report)); err != nil {
		return nil, err
	}
	result := &ImagesResult{
		Images:       ofClasses(list.Images, o.Classes),
		Placeholders: orEmpty(report.Placeholders),
		Skipped:      orEmpty(report.Skipped),
		Unpinned:     orEmpty(list.Unpinned),
		Mentions:     report.Mentions,
	}
	environments, err := run.environments(ctx)
	if err != nil {
		return nil, err
	}
	for i := range result.Images {
		result.Images[i].Environments = environments.With(result.Images[i].Locations)
		result.Images[i].Locations = from.locations(result.Images[i].Locations)
	}
	for i, m := range result.Mentions {
		result.Mentions[i].Source, _ = from.at(m.File, m.Line)
	}
	from.trace(result.Unpinned, result.Placeholders, result.Skipped)
	return result, nil
}

// ofClasses returns the images that have locations of the given classes, with only those
// locations.
func ofClasses(list []images.Image, classes []images.Class) []images.Image {
	out := []images.Image{}
	for _, image := range list {
		if len(classes) > 0 {
			image.Locations = slices.DeleteFunc(slices.Clone(image.Locations), func(l images.Location) bool {
				return !slices.Contains(classes, l.Class)
			})
			if len(image.Locations) == 0 {
				continue
			}
		}
		image.Manifests, image.Related = orEmpty(image.Manifests), orEmpty(image.Related)
		out = append(out, image)
	}
	return out
}

// orEmpty returns list, or an empty list instead of nil, which JSON would encode as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
