// SPDX-License-Identifier: Apache-2.0

// Package content implements the content stage: it gives the pinned manifests that
// hold Kubernetes objects names that every deployer reads, and packs them as the only
// layer of the content manifest.
//
//	manifests       files, as written by pin
//	references      images.Report: which files hold objects
//	facts/<source>  vcs.Facts, for the annotations
//	→ layer         the layer, application/vnd.oci.image.layer.v1.tar+gzip
//	→ manifest      the content manifest
//	→ listing       artifact.Listing: the manifest file of each content file
//
// The stage never changes the bytes of a file, whatever its encoding, because the
// statements list all edits. It is not cached.
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

// Config configures the stage.
type Config struct {
	// Repository is the repository of the application, without tag or digest.
	Repository string `json:"repository"`
	// Created is the creation time in the artifact's annotations; zero means the time
	// of the commit (see artifact.SourceDateEpoch).
	Created time.Time `json:"created,omitzero"`
}

// Kind describes the stage to the table of stages.
func Kind() pipeline.Kind {
	return pipeline.Kind{
		Name:    "content",
		Help:    "pack the manifests in a form that every deployer reads",
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

// New returns the stage, or an error if c.Repository is not valid.
func New(c Config) (*Stage, error) {
	return &Stage{config: c}, engine.Mistaken("repository", artifact.CheckRepository(c.Repository))
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
	facts, err := engine.GetAllJSON[vcs.Facts](ctx, t.Store, t.Many("facts"), vcs.MediaType)
	if err != nil {
		return nil, err
	}

	chosen := choose(manifests, report)
	if len(chosen) == 0 {
		return nil, nothing(report.Skipped)
	}
	annotations := artifact.Annotations(s.config.Repository, facts, s.config.Created)
	environments := artifact.Environments(annotations)
	for _, warning := range warnings(chosen, report, environments) {
		t.Report(engine.Event{Level: "warning", Message: warning})
	}
	list, listing := rename(chosen)
	layer, err := artifact.ContentLayer(list)
	if err != nil {
		return nil, err
	}
	manifest, err := artifact.ContentManifest(layer.Desc, annotations)
	if err != nil {
		return nil, err
	}
	if err := artifact.Put(ctx, t.Store, artifact.Empty(), layer, manifest); err != nil {
		return nil, err
	}
	listed, err := engine.PutJSON(ctx, t.Store, artifact.MediaTypeListing, listing)
	return engine.Outputs{"layer": layer.Desc, "manifest": manifest.Desc, "listing": listed}, err
}

// choose returns the files that hold objects. It leaves out a file that does not
// parse, even if objects were found before the syntax error.
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

// nothing returns the error for an application without content.
func nothing(skipped []images.Skipped) error {
	if len(skipped) == 0 {
		return errors.New("no Kubernetes objects found: the source has no manifests (.yaml, .yml, .json)")
	}
	const most = 3
	var reasons []string
	for _, s := range skipped[:min(most, len(skipped))] {
		reasons = append(reasons, fmt.Sprintf("%s: %s", at(s.File, s.Line), s.Reason))
	}
	if more := len(skipped) - most; more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("no Kubernetes objects found; skipped: %s", strings.Join(reasons, "; "))
}

// rename returns the files with their names in the content, and the listing of both
// names.
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

// skipMarker makes Argo CD skip a file that contains it.
const skipMarker = "+argocd:skip-file-rendering"

// warnings returns a warning for each thing in the content that some deployer rejects
// or treats differently.
func warnings(chosen []files.File, report images.Report, environments artifact.EnvironmentSet) []string {
	stored := make(map[string]bool, len(chosen))
	var out []string
	for _, f := range chosen {
		stored[f.Name] = true
		if !utf8.Valid(f.Data) {
			out = append(out, f.Name+": not UTF-8; the file is stored unchanged, but not every deployer can read it")
		}
	}
	for _, f := range chosen {
		if bytes.Contains(f.Data, []byte(skipMarker)) {
			out = append(out, fmt.Sprintf("%s: contains %s: Argo CD skips the file, other deployers do not", f.Name, skipMarker))
		}
	}
	for _, s := range report.Skipped {
		if stored[s.File] {
			out = append(out, fmt.Sprintf("%s: %s; kubectl and Flux reject the file because of it", at(s.File, s.Line), s.Reason))
		}
	}
	for _, p := range report.Placeholders {
		if stored[p.File] && p.Pod {
			out = append(out, fmt.Sprintf("%s: image %q is a placeholder: the image that the pod will run is not in the artifact", images.Place(p.File, p.Line, p.Column), p.Value))
		}
	}
	for _, r := range report.Excluded {
		for _, l := range r.Locations {
			if stored[l.File] && l.Class == images.Pod {
				out = append(out, fmt.Sprintf("%s: image %s is excluded by the pipeline: the image that the pod will run is not in the artifact", l.Place(), l.Value))
			}
		}
	}
	out = append(out, plain(stored, report.Credentials)...)
	type identity struct{ environment, group, kind, namespace, name string }
	first := make(map[identity]images.Object)
	for _, o := range report.Objects {
		if !stored[o.File] {
			continue
		}
		if o.Name == "" {
			out = append(out, fmt.Sprintf("%s: %s has no metadata.name (generateName?): Flux rejects it", at(o.File, o.Line), o.Kind))
			continue
		}
		group, _, ok := strings.Cut(o.APIVersion, "/")
		if !ok {
			group = ""
		}
		id := identity{environments.Of(o.File), group, o.Kind, cmp.Or(o.Namespace, "default"), o.Name}
		if f, twice := first[id]; twice {
			out = append(out, fmt.Sprintf("%s: %s %s is already defined at %s: Flux rejects duplicates", at(o.File, o.Line), o.Kind, o.Name, at(f.File, f.Line)))
		} else {
			first[id] = o
		}
	}
	return out
}

// mostKeys is the maximum number of credentials that a warning names.
const mostKeys = 8

// plain returns a warning for each object that holds credentials in plain text which the pipeline
// does not accept. A warning names their keys, but never their values.
func plain(stored map[string]bool, all []images.Credential) []string {
	type object struct{ file, kind, namespace, name string }
	of := func(c images.Credential) object { return object{c.File, c.Kind, c.Namespace, c.Name} }
	all = slices.DeleteFunc(slices.Clone(all), func(c images.Credential) bool { return !stored[c.File] || c.Reason != "" })
	var out []string
	for len(all) > 0 {
		n := 1 // number of the object in its file
		for n < len(all) && of(all[n]) == of(all[0]) {
			n++
		}
		var keys []string
		for _, c := range all[:min(n, mostKeys)] {
			keys = append(keys, fmt.Sprintf("%s (%s)", c.Key, c.What))
		}
		if more := n - mostKeys; more > 0 {
			keys = append(keys, fmt.Sprintf("%d more", more))
		}
		out = append(out, fmt.Sprintf("%s: %s %s has plain text that everyone who can pull the artifact can read: %s; seal it, let the cluster fetch it, or accept it with a reason (secrets.accept)",
			images.Place(all[0].File, all[0].Line, all[0].Column), all[0].Kind, all[0].Name, strings.Join(keys, ", ")))
		all = all[n:]
	}
	return out
}

// at formats a position; line 0 means the whole file.
func at(file string, line int) string { return images.Place(file, line, 0) }
