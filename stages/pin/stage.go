// SPDX-License-Identifier: Apache-2.0

// Package pin implements the pin stage: it replaces the image references in the
// manifests with the names of the copies, by tag and digest. It edits only the bytes of
// the references.
//
//	manifests    files
//	references   images.Report about these files
//	images       images.List
//	→ manifests  the edited files
//	→ edits      images.Edits, from which the input can be restored
//
// The stage takes milliseconds and is not cached.
//
// In the PodSpecs of Kubernetes' own workloads a reference becomes
// REPOSITORY:<tag>@<digest>, with the tag of [artifact.ImageRef]. Everywhere else the
// tag stays as written, because operators, charts and admission webhooks parse it; the
// digest decides what is pulled. After docker://, whose readers refuse both, there is only
// the digest. If a reference is split over several fields, they are rewritten so that their
// reader composes the same reference: the digest goes into its own field if there is one,
// else after the tag. If no field can hold a digest, the reference stays as written and is
// listed as unpinned with the reason. So does a location that the catalogue or the pipeline
// marks as never pinned.
//
// Bytes that a YAML anchor also makes part of something else (a name, a label) are not
// changed: the reference replaces the alias, or stays as written and is listed.
//
// A file that is not part of the application (see Report.Skipped) is not changed.
// Pinning pinned manifests changes nothing.
package pin

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config configures the stage.
type Config struct {
	// Repository is where the images are copied to: host and path, without a tag.
	Repository string `json:"repository"`
}

// Kind describes the stage to the table of stages.
func Kind() pipeline.Kind {
	return pipeline.Kind{
		Name:    "pin",
		Help:    "replace the references in the manifests with the copied images, by digest",
		Inputs:  []pipeline.Port{{Name: "manifests"}, {Name: "references"}, {Name: "images"}},
		Outputs: []string{"manifests", "edits"},
		Schema:  configSchema,
		New:     pipeline.Configured(New),
	}
}

// Stage is the pin stage. It is safe for concurrent use.
type Stage struct{ repository string }

// New returns the stage, or an error if c.Repository is not a host and a path without
// a tag.
func New(c Config) (*Stage, error) {
	return &Stage{repository: c.Repository}, engine.Mistaken("repository", artifact.CheckRepository(c.Repository))
}

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var (
		report images.Report
		list   images.List
	)
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["references"], images.MediaTypeReport, &report); err != nil {
		return nil, err
	}
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["images"], images.MediaTypeList, &list); err != nil {
		return nil, err
	}
	in, err := files.Get(ctx, t.Store, t.Inputs["manifests"])
	if err != nil {
		return nil, err
	}
	out, edits, err := s.Pin(in, &report, &list)
	if err != nil {
		return nil, err
	}
	folder := t.Inputs["manifests"]
	if len(edits.Files) > 0 {
		if folder, err = files.Put(ctx, t.Store, out); err != nil {
			return nil, err
		}
	}
	document, err := engine.PutJSON(ctx, t.Store, images.MediaTypeEdits, edits)
	return engine.Outputs{"manifests": folder, "edits": document}, err
}

// Pin returns the edited files and the edits. The report must be about the files in in.
func (s *Stage) Pin(in []files.File, report *images.Report, list *images.List) ([]files.File, *images.Edits, error) {
	edits := &images.Edits{Files: []images.FileEdits{}}
	planned, err := s.plan(report, list, edits)
	if err != nil {
		return nil, nil, err
	}
	out := slices.Clone(in)
	for i, f := range out {
		p := planned[f.Name]
		if p == nil {
			continue
		}
		delete(planned, f.Name)
		after, done, err := p.apply(f)
		if err != nil {
			return nil, nil, err
		}
		if len(done.Edits) > 0 {
			out[i].Data = after
			edits.Files = append(edits.Files, done)
		}
	}
	if missing := slices.Sorted(maps.Keys(planned)); len(missing) > 0 {
		return nil, nil, fmt.Errorf("pin %s: the report has references in this file, but it is not among the manifests", missing[0])
	}
	slices.SortFunc(edits.Files, func(a, b images.FileEdits) int { return cmp.Compare(a.File, b.File) })
	return out, edits, nil
}

// file holds the planned edits of one file.
type file struct {
	digest digest.Digest // of the bytes that were scanned
	edits  []edit
}

// edit is one replacement.
type edit struct {
	images.Edit
	offset, length int    // in the input
	value, text    string // old and new value, not encoded for YAML
	// alias and shared are those of the location or its part.
	alias  *images.Range
	shared bool
}

// target is a location with its planned edits, or the reason why it has none.
type target struct {
	reference *images.Reference // nil if excluded or without an image
	location  images.Location
	edits     []edit
	left      string // why the location stays as written
}

// plan returns the edits of each file, by name, and adds what stays to edits.Unpinned.
func (s *Stage) plan(report *images.Report, list *images.List, edits *images.Edits) (map[string]*file, error) {
	targets, err := s.targets(report, list)
	if err != nil {
		return nil, err
	}
	planned := map[string]*file{}
	type unpinned struct {
		reference *images.Reference
		reason    string
	}
	left := map[unpinned][]images.Location{}
	for name, here := range targets {
		untangle(here)
		for _, t := range here {
			switch {
			case t.reference == nil:
			case t.left != "":
				key := unpinned{t.reference, t.left}
				left[key] = append(left[key], t.location)
			default:
				f := planned[name]
				if f == nil {
					f = &file{digest: t.location.FileDigest}
					planned[name] = f
				}
				f.edits = append(f.edits, slices.DeleteFunc(t.edits, func(e edit) bool { return e.value == e.text })...)
			}
		}
	}
	for key, locations := range left {
		u := images.Unpinned{Reference: *key.reference, Reason: key.reason}
		slices.SortStableFunc(locations, func(a, b images.Location) int { return cmp.Compare(a.File, b.File) })
		u.Locations = locations
		edits.Unpinned = append(edits.Unpinned, u)
	}
	slices.SortFunc(edits.Unpinned, func(a, b images.Unpinned) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Reason, b.Reason))
	})
	return planned, nil
}

// targets returns all locations in files of the application, by file, in the order of
// their references.
func (s *Stage) targets(report *images.Report, list *images.List) (map[string][]*target, error) {
	resolved := make(map[string]images.Image, len(list.Images))
	for _, image := range list.Images {
		resolved[image.Name] = image
	}
	unresolved := make(map[string]bool, len(list.Unpinned))
	for _, u := range list.Unpinned {
		unresolved[u.Name] = true
	}
	outside := make(map[string]bool)
	for _, skipped := range report.Skipped {
		if skipped.Line == 0 || skipped.Invalid {
			outside[skipped.File] = true
		}
	}
	out := map[string][]*target{}
	for i := range report.References {
		reference := &report.References[i]
		image, ok := resolved[reference.Name]
		if !ok && !unresolved[reference.Name] {
			return nil, fmt.Errorf("pin %s: the reference was found but not resolved", reference.Name)
		}
		for _, l := range reference.Locations {
			if outside[l.File] {
				continue
			}
			t := &target{location: l}
			if ok {
				t.reference = reference
				t.edits, t.left = s.replacements(image, l)
				t.left = cmp.Or(l.Never, t.left)
			}
			out[l.File] = append(out[l.File], t)
		}
	}
	for _, reference := range report.Excluded {
		for _, l := range reference.Locations {
			if !outside[l.File] {
				out[l.File] = append(out[l.File], &target{location: l})
			}
		}
	}
	return out, nil
}

// replacements returns the edits that pin a location, or the reason why none can.
func (s *Stage) replacements(image images.Image, l images.Location) ([]edit, string) {
	name, _, _ := strings.Cut(image.Name, "@")
	e := edit{Edit: images.Edit{
		File: l.File, Document: l.Document, Pointer: l.Pointer, Line: l.Line, Column: l.Column,
		Resolved: name + "@" + image.Digest.String(), Digest: image.Digest, KeepTag: l.KeepTag,
	}}
	if len(l.Parts) == 0 {
		e.offset, e.length, e.alias, e.shared = l.Offset, l.Length, l.Alias, l.Shared
		e.value, e.text = l.Value, artifact.ImageRef(s.repository, image)
		if l.KeepTag {
			_, tag := images.Image{Name: l.Value}.Repository()
			if l.NoTag {
				tag = ""
			}
			e.text = artifact.WrittenRef(s.repository, tag, image.Digest)
		}
		return []edit{e}, ""
	}
	values, reason := split(s.repository, image.Digest, l.Parts)
	if reason != "" {
		return nil, reason
	}
	edits := make([]edit, len(l.Parts))
	for i, p := range l.Parts {
		e.Pointer, e.Line, e.Column = p.Pointer, p.Line, p.Column
		e.offset, e.length, e.alias, e.shared = p.Offset, p.Length, p.Alias, p.Shared
		e.value, e.text = p.Value, values[i]
		edits[i] = e
	}
	return edits, ""
}

// split returns the new value of each part of a reference, so that the parts compose
// REPOSITORY:TAG@DIGEST with the tag as written, or REPOSITORY@DIGEST if there is only
// room for a digest. If that is not possible, it returns the reason.
func split(repository string, d digest.Digest, parts []images.Part) (values []string, reason string) {
	has := map[string]bool{}
	for _, p := range parts {
		has[p.Role] = true
	}
	has["digest"] = has["digest"] || has["sha"]
	host, name, _ := strings.Cut(repository, "/")
	if !has["registry"] {
		name = repository
	}
	folder, last := name, name
	if has["image"] && has["repository"] {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return nil, "it is split into registry, path and name, and " + repository + " has no path between"
		}
		folder, last = name[:i], name[i+1:]
	}
	if !has["tag"] && !has["digest"] && !has["version"] {
		return nil, "none of its fields holds a tag or a digest"
	}
	for _, p := range parts {
		tagged := ""
		if _, tag := (images.Image{Name: p.Value}).Repository(); tag != "" {
			tagged = ":" + tag
		}
		var value string
		switch p.Role {
		case "registry":
			value = host
		case "repository":
			value = folder
			if !has["image"] {
				value += tagged
			}
		case "image":
			value = last + tagged
		case "tag":
			value = p.Value
			if !has["digest"] && !has["version"] {
				tag, _, _ := strings.Cut(p.Value, "@")
				value = tag + "@" + d.String()
			}
		case "digest", "version":
			value = d.String()
			if p.Role == "version" && has["algorithm"] {
				value = d.Encoded()
			}
		case "sha":
			value = d.Encoded()
		case "algorithm":
			value = d.Algorithm().String()
		}
		values = append(values, value)
	}
	return values, ""
}

// apply returns the edited content of f and the edits that changed it.
func (p *file) apply(f files.File) ([]byte, images.FileEdits, error) {
	done := images.FileEdits{File: f.Name, Before: digest.FromBytes(f.Data)}
	if done.Before != p.digest {
		return nil, done, fmt.Errorf("pin %s: the file has digest %s, but the references were found in %s", f.Name, done.Before, p.digest)
	}
	slices.SortStableFunc(p.edits, func(a, b edit) int { return cmp.Compare(a.offset, b.offset) })
	var (
		after []byte
		last  edit
		at    int
	)
	for i, e := range p.edits {
		end := e.offset + e.length
		switch {
		case e.offset < 0, e.length < 0, end > len(f.Data):
			return nil, done, fmt.Errorf("pin %s: the reference is outside of the file", images.Place(f.Name, e.Line, e.Column))
		case i > 0 && e.offset == last.offset && e.length == last.length && e.text == last.text:
			continue // another alias of the same bytes
		case i > 0 && e.offset < last.offset+max(last.length, 1):
			return nil, done, fmt.Errorf("pin %s: the reference overlaps the one at %d:%d", images.Place(f.Name, e.Line, e.Column), last.Line, last.Column)
		}
		last = e
		replaced := manifests.Encode(f.Data, e.text)
		e.Original, e.Replaced = string(f.Data[e.offset:end]), string(replaced)
		if bytes.Equal(f.Data[e.offset:end], replaced) {
			continue
		}
		if !utf8.ValidString(e.Original) {
			return nil, done, fmt.Errorf("pin %s: the reference is not valid UTF-8", images.Place(f.Name, e.Line, e.Column))
		}
		after = append(after, f.Data[at:e.offset]...)
		e.Offset = len(after)
		after = append(after, replaced...)
		at = end
		done.Edits = append(done.Edits, e.Edit)
	}
	after = append(after, f.Data[at:]...)
	done.After = digest.FromBytes(after)
	return after, done, nil
}
