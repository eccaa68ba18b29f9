// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// nowhere is the repository that sources are packed for if they are only compared.
const nowhere = "tape.invalid/diff"

// sourceSide packs sources in memory, up to the point of pushing them.
func sourceSide(ctx context.Context, o *Options, ref, environment string) (*side, error) {
	quiet := *o
	quiet.Deterministic, quiet.Signer = false, nil
	run, app, err := quiet.packed(ctx, nowhere)
	if err != nil {
		return nil, err
	}
	s, err := newSide(ctx, app, ref, "", "", environment)
	if err != nil {
		return nil, err
	}
	// The warnings are about copying images, which stay where they are.
	s.view.Warnings = nil
	var list images.List
	if err := run.read(ctx, foundImages.into(&list)); err != nil {
		return nil, err
	}
	platforms, inline := map[digest.Digest][]artifact.ViewPlatform{}, map[digest.Digest][]images.Related{}
	for _, image := range list.Images {
		for _, r := range image.Related {
			if r.Via == images.Inline {
				inline[image.Digest] = append(inline[image.Digest], r)
			}
		}
		for _, m := range image.Manifests {
			if m.Reference == "" && !strings.HasPrefix(m.Platform, "unknown") {
				platforms[image.Digest] = append(platforms[image.Digest], artifact.ViewPlatform{Platform: m.Platform, Digest: m.Digest, Size: m.Size})
			}
		}
	}
	for i, image := range s.view.Images {
		s.view.Images[i].Platforms = platforms[image.Digest]
		s.view.Images[i].Related = append(s.view.Images[i].Related, inline[image.Digest]...)
	}
	if o.Deterministic {
		s.generated, err = quiet.generated(ctx)
	}
	return s, err
}

// packed makes the application of the sources for a repository without pushing it. An empty
// repository means the one of the pipeline. Without targets, everything that does not push runs.
func (o *Options) packed(ctx context.Context, repository string, targets ...string) (made, *artifact.Application, error) {
	p, err := o.prepare(ctx)
	if err == nil && repository != "" {
		err = p.Set("output.image", repository)
	}
	if err == nil && targets == nil {
		targets, err = o.unpushed(ctx, p)
	}
	if err != nil {
		return made{}, nil, err
	}
	run, err := o.run(ctx, p, targets...)
	if err != nil {
		return run, nil, err
	}
	_, app, err := run.application(ctx)
	return run, app, err
}

// generatedField identifies a field of an object.
type generatedField struct {
	object ObjectKey
	path   string
}

// generated renders the sources twice, and returns the fields that differ.
func (o *Options) generated(ctx context.Context) (map[generatedField]bool, error) {
	var sides [2]*side
	for i := range sides {
		again := *o
		again.NoCache = true
		r, err := Render(ctx, RenderOptions{Options: again})
		if err != nil {
			return nil, err
		}
		sides[i] = &side{ref: fmt.Sprintf("rendering %d", i+1), eachFile: func(_ context.Context, visit func(files.File) error) error {
			for _, f := range r.Files {
				if err := visit(files.File{Name: f.Name, Data: f.Data}); err != nil {
					return err
				}
			}
			return nil
		}}
	}
	var d DiffResult
	if err := d.compareObjects(ctx, sides[0], sides[1]); err != nil {
		return nil, err
	}
	out := map[generatedField]bool{}
	for _, o := range d.Objects.Changed {
		for _, f := range o.Fields {
			out[generatedField{o.ObjectKey, f.Path}] = true
		}
	}
	return out, nil
}

// generated separates the fields that are generated on one of the sides from the other changes.
func generated(changed []ObjectChange, a, b map[generatedField]bool) (kept, out []ObjectChange) {
	if len(a)+len(b) == 0 {
		return changed, nil
	}
	for _, o := range changed {
		own, noise := ObjectChange{ObjectKey: o.ObjectKey}, ObjectChange{ObjectKey: o.ObjectKey}
		for _, f := range o.Fields {
			if at := (generatedField{o.ObjectKey, f.Path}); a[at] || b[at] {
				noise.Fields = append(noise.Fields, f)
			} else {
				own.Fields = append(own.Fields, f)
			}
		}
		if len(own.Fields) > 0 {
			kept = append(kept, own)
		}
		if len(noise.Fields) > 0 {
			out = append(out, noise)
		}
	}
	return kept, out
}

// IsSource reports whether a path exists and can be rendered, so is neither an archive nor a
// layout.
func IsSource(path string) bool {
	if layout.IsReference(path) {
		return false
	}
	if _, err := os.Stat(path); err != nil {
		return false
	}
	_, application := applicationReference(path)
	return !application
}

// IsPipeline reports whether a path is a pipeline file.
func IsPipeline(path string) bool {
	if ext := filepath.Ext(path); ext != ".yaml" && ext != ".yml" {
		return false
	}
	data, err := regular.ReadFile(path)
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
	}
	return err == nil && yaml.Unmarshal(data, &head) == nil && strings.HasPrefix(head.APIVersion, "tape/") && head.Kind == "Pipeline"
}
