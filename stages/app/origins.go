// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/source"
)

// origins are the files that rendered ones were made of, by the names of those.
type origins map[string]origin

type origin struct {
	name string // relative to the working directory
	same bool   // the files are the same, and so are their lines
}

// originsOf asks the renderings of a run. A source has its place from the
// configuration of the node that read it: renderings, which are kept, are the same
// wherever the source lies.
func (o *Options) originsOf(ctx context.Context, p *pipeline.Pipeline, run *engine.Result, target string) (origins, error) {
	graph, err := p.Build(o.Args, target)
	if err != nil {
		return nil, err
	}
	out := origins{}
	for _, node := range run.Nodes {
		desc, ok := node.Outputs["rendering"]
		if !ok || desc.MediaType != rendering.MediaTypeRendering {
			continue
		}
		var r rendering.Rendering
		if err := engine.GetJSON(ctx, run.Store, desc, rendering.MediaTypeRendering, &r); err != nil {
			return nil, err
		}
		place, ok := o.sourceOf(graph, node.Name)
		if !ok || r.Reference != "" {
			continue
		}
		for _, f := range r.Files {
			if f.Origin == "" {
				continue
			}
			below, err := filepath.Rel(filepath.FromSlash(r.Path), filepath.FromSlash(f.Origin))
			if err != nil {
				return nil, err
			}
			out[f.Path] = origin{filepath.ToSlash(filepath.Join(place, below)), f.Same}
		}
	}
	return out, nil
}

// sourceOf is where the source lies that a node renders, as seen from the working
// directory.
func (o *Options) sourceOf(graph *engine.Graph, render string) (string, bool) {
	find := func(name string) (engine.Node, bool) {
		i := slices.IndexFunc(graph.Nodes(), func(n engine.Node) bool { return n.Name == name })
		if i < 0 {
			return engine.Node{}, false
		}
		return graph.Nodes()[i], true
	}
	node, ok := find(render)
	if !ok {
		return "", false
	}
	name, _, _ := node.Inputs["request"].Split()
	if node, ok = find(name); !ok || node.Kind != "source" {
		return "", false
	}
	var config source.Config
	if json.Unmarshal(node.Config, &config) != nil {
		return "", false
	}
	if o.Pipeline == "" || filepath.IsAbs(config.Path) {
		return config.Path, true
	}
	return filepath.Join(filepath.Dir(o.Pipeline), config.Path), true
}

// at is where a line of a rendered file comes from.
func (o origins) at(file string, line int) images.Source {
	from := o[file]
	if !from.same {
		line = 0
	}
	return images.Source{Origin: from.name, OriginLine: line}
}

// trace says of everything in a result where it comes from.
func (o origins) trace(r *ImagesResult) {
	locations := func(list []images.Location) []images.Location {
		list = slices.Clone(list)
		for i, l := range list {
			list[i].Source = o.at(l.File, l.Line)
		}
		return list
	}
	for i := range r.Images {
		r.Images[i].Locations = locations(r.Images[i].Locations)
	}
	for i := range r.Unpinned {
		r.Unpinned[i].Locations = locations(r.Unpinned[i].Locations)
	}
	for i, p := range r.Placeholders {
		r.Placeholders[i].Source = o.at(p.File, p.Line)
	}
	for i, m := range r.Mentions {
		r.Mentions[i].Source = o.at(m.File, m.Line)
	}
	for i, s := range r.Skipped {
		r.Skipped[i].Source = o.at(s.File, s.Line)
	}
}
