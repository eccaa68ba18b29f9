// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
)

// Found describes a folder of many applications. Paths are slash-separated and relative to the
// folder.
type Found struct {
	// Pipelines are the folders that have their own pipeline, sorted.
	Pipelines []string
	// Sources are the other folders and files that render by themselves, sorted by path.
	Sources []Source
	// Left lists what is not an application by itself, with the reasons.
	Left []Left
}

// Left lists paths that are left out, and the reason.
type Left struct {
	Reason string
	Paths  []string // sorted
}

// FindOptions are the options of Find.
type FindOptions struct {
	Environment
	// Dir is the folder to search.
	Dir string
}

// Find finds the applications in a folder: pipelines, charts, overlays and folders of manifests,
// each of which is packaged separately. Everything else that contains manifests is in Left.
func Find(ctx context.Context, o FindOptions) (*Found, error) {
	f, err := o.finder(ctx, o.Dir, "the applications")
	if err != nil {
		return nil, err
	}
	f.apart = true
	var out Found
	if out.Pipelines, err = f.pipelines(ctx); err != nil {
		return nil, err
	}
	found, err := f.find(ctx)
	if err != nil {
		return nil, err
	}
	if len(found.sources)+len(out.Pipelines) == 0 {
		return nil, fmt.Errorf("no application in %s: it has no pipeline, nothing that an interpreter claims, and no manifests (.yaml, .yml, .json)", o.Dir)
	}
	init := InitOptions{Environment: o.Environment, Dir: o.Dir}
	sources := slices.Concat(found.sources, found.plain)
	problems, err := init.try(ctx, sources)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i, s := range sources {
		seen[s.Path] = true
		if problems[i] != nil {
			out.Left = append(out.Left, Left{"as it does not render by itself: " + init.reason(s, problems[i]), []string{s.Path}})
			continue
		}
		out.Sources = append(out.Sources, s.Source)
		if o.Events != nil {
			o.Events(engine.Event{Node: "find", Current: int64(i + 1), Total: int64(len(sources)), Unit: "folders"})
		}
	}
	slices.SortFunc(out.Sources, func(a, b Source) int { return strings.Compare(a.Path, b.Path) })
	for _, left := range append(found.left(), leftOut{"as it is a packed chart; name it to package it", found.packed}) {
		var paths []string
		for _, s := range left.all {
			if !seen[s.Path] {
				seen[s.Path] = true
				paths = append(paths, s.Path)
			}
		}
		if len(paths) > 0 {
			slices.Sort(paths)
			out.Left = append(out.Left, Left{left.why, paths})
		}
	}
	return &out, nil
}

func hasPipeline(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, PipelineFile))
	return err == nil && info.Mode().IsRegular()
}

// pipelines returns the folders that have a pipeline, sorted. It does not search below such a
// folder.
func (f *finder) pipelines(ctx context.Context) ([]string, error) {
	var out []string
	err := filepath.WalkDir(f.dir, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !d.IsDir():
			return nil
		case at != f.dir && !f.enters(at):
			return fs.SkipDir
		case !hasPipeline(at):
			return nil
		}
		out = append(out, f.source(at).Path)
		return fs.SkipDir
	})
	if err != nil {
		return nil, fmt.Errorf("look for pipelines: %w", err)
	}
	return out, nil
}
