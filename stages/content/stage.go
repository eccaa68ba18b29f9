// SPDX-License-Identifier: Apache-2.0

// Package content implements the content stage: it puts the pinned manifests
// that hold Kubernetes objects under names that every deployer reads, and packs
// them as the one layer of the content manifest.
//
//	manifests     files, as pin left them
//	references    images.Report: which files hold objects
//	facts/<source>  vcs.Facts, for the annotations
//	→ layer       the layer, application/vnd.oci.image.layer.v1.tar+gzip
//	→ manifest    the content manifest
//	→ listing     artifact.Listing: which manifest file each content file is
//
// The bytes of a file are never changed here, whatever its encoding: what was
// edited is what the statements say and nothing else. The stage is not cached.
package content

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config of the stage.
type Config struct {
	// Repository that the application is written to, without tag or digest.
	Repository string `json:"repository"`
	// Created is the time that the artifact gives as its own; zero is that of the
	// commit (see artifact.SourceDateEpoch).
	Created time.Time `json:"created,omitzero"`
}

// Kind is the stage's entry in the table of stages.
func Kind() pipeline.Kind {
	return pipeline.Kind{
		Name:    "content",
		Help:    "pack the manifests as every deployer reads them",
		Inputs:  []pipeline.Port{{Name: "manifests"}, {Name: "references"}, {Name: "facts", Many: true}},
		Outputs: []string{"layer", "manifest", "listing"},
		Schema:  configSchema,
		New:     pipeline.Configured(New),
	}
}

// Stage is the content stage.
type Stage struct {
	config Config
}

// New makes the stage.
func New(c Config) (*Stage, error) {
	if err := engine.Mistaken("repository", artifact.CheckRepository(c.Repository)); err != nil {
		return nil, err
	}
	return &Stage{config: c}, nil
}

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	manifests, err := files.Get(ctx, t.Store, t.Inputs["manifests"])
	if err != nil {
		return nil, err
	}
	var report images.Report
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["references"], images.MediaTypeReport, &report); err != nil {
		return nil, err
	}
	var facts []vcs.Facts
	for _, desc := range t.Many("facts") {
		var f vcs.Facts
		if err := engine.GetJSON(ctx, t.Store, desc, vcs.MediaType, &f); err != nil {
			return nil, err
		}
		facts = append(facts, f)
	}

	chosen := choose(manifests, report)
	if len(chosen) == 0 {
		return nil, nothing(report.Skipped)
	}
	for _, warning := range warnings(chosen, report) {
		t.Report(engine.Event{Level: "warning", Message: warning})
	}
	list, listing := rename(chosen)
	layer, err := artifact.ContentLayer(list)
	if err != nil {
		return nil, err
	}
	manifest, err := artifact.ContentManifest(layer.Desc, artifact.Annotations(s.config.Repository, facts, s.config.Created))
	if err != nil {
		return nil, err
	}
	if err := artifact.Put(ctx, t.Store, artifact.Empty(), layer, manifest); err != nil {
		return nil, err
	}
	listed, err := engine.PutJSON(ctx, t.Store, artifact.MediaTypeListing, listing)
	if err != nil {
		return nil, err
	}
	return engine.Outputs{"layer": layer.Desc, "manifest": manifest.Desc, "listing": listed}, nil
}

// choose takes the files that hold objects. One that does not parse is left
// out, whatever was found before the place where it breaks.
func choose(manifests []files.File, report images.Report) []files.File {
	wanted := make(map[string]bool)
	for _, o := range report.Objects {
		wanted[o.File] = true
	}
	for _, s := range report.Skipped {
		if s.Invalid || s.Line == 0 {
			delete(wanted, s.File)
		}
	}
	var out []files.File
	for _, f := range manifests {
		if wanted[f.Name] {
			out = append(out, f)
		}
	}
	return out
}

// nothing says why there is no content.
func nothing(skipped []images.Skipped) error {
	if len(skipped) == 0 {
		return errors.New("there are no Kubernetes objects: the source has no manifests (.yaml, .yml, .json)")
	}
	const most = 3
	var reasons []string
	for _, s := range skipped[:min(most, len(skipped))] {
		reasons = append(reasons, fmt.Sprintf("%s: %s", at(s.File, s.Line), s.Reason))
	}
	if more := len(skipped) - most; more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("there are no Kubernetes objects; skipped: %s", strings.Join(reasons, "; "))
}

// rename gives the files their names in the content.
func rename(chosen []files.File) ([]files.File, artifact.Listing) {
	before := make([]string, len(chosen))
	for i, f := range chosen {
		before[i] = f.Name
	}
	after := names(before)
	list := make([]files.File, len(chosen))
	listing := make(artifact.Listing, len(chosen))
	for i, f := range chosen {
		name := after[f.Name]
		list[i] = files.File{Name: name, Data: f.Data}
		listing[i] = artifact.ListedFile{Name: name, From: f.Name, Digest: digest.FromBytes(f.Data)}
	}
	slices.SortFunc(listing, func(a, b artifact.ListedFile) int { return strings.Compare(a.Name, b.Name) })
	return list, listing
}

// skipMarker is for Argo CD to pass over the file that it stands in.
const skipMarker = "+argocd:skip-file-rendering"

// warnings are about what is stored as it is, but not every deployer takes.
func warnings(chosen []files.File, report images.Report) []string {
	stored := make(map[string]bool, len(chosen))
	var out []string
	for _, f := range chosen {
		stored[f.Name] = true
		if !utf8.Valid(f.Data) {
			out = append(out, f.Name+": not UTF-8; it is stored as it is, and not every deployer reads that")
		}
	}
	for _, f := range chosen {
		if bytes.Contains(f.Data, []byte(skipMarker)) {
			out = append(out, fmt.Sprintf("%s: it says %s: Argo CD does not deploy it, and others do", f.Name, skipMarker))
		}
	}
	for _, s := range report.Skipped {
		if stored[s.File] {
			out = append(out, fmt.Sprintf("%s: %s; kubectl and Flux refuse that beside objects in one file", at(s.File, s.Line), s.Reason))
		}
	}
	for _, p := range report.Placeholders {
		if stored[p.File] && p.Pod {
			out = append(out, fmt.Sprintf("%s: image %q is filled in later by something else: what a pod will run there is not in the artifact", images.Place(p.File, p.Line, p.Column), p.Value))
		}
	}
	for _, r := range report.Excluded {
		for _, l := range r.Locations {
			if stored[l.File] && l.Class == images.Pod {
				out = append(out, fmt.Sprintf("%s: image %s is left out, as the pipeline asks: what a pod will run there is not in the artifact", l.Place(), l.Value))
			}
		}
	}
	type identity struct{ group, kind, namespace, name string }
	first := make(map[identity]images.Object)
	for _, o := range report.Objects {
		if !stored[o.File] {
			continue
		}
		if o.Name == "" {
			out = append(out, fmt.Sprintf("%s: %s has no metadata.name (generateName?): Flux refuses that", at(o.File, o.Line), o.Kind))
			continue
		}
		group, _, ok := strings.Cut(o.APIVersion, "/")
		if !ok {
			group = ""
		}
		id := identity{group, o.Kind, cmp.Or(o.Namespace, "default"), o.Name}
		if f, twice := first[id]; twice {
			out = append(out, fmt.Sprintf("%s: %s %s is in %s already: Flux refuses that", at(o.File, o.Line), o.Kind, o.Name, at(f.File, f.Line)))
		} else {
			first[id] = o
		}
	}
	return out
}

// at names a place in a file; line 0 is the whole file.
func at(file string, line int) string { return images.Place(file, line, 0) }

var _ engine.Stage = (*Stage)(nil)
