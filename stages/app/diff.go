// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/manifests"
)

// DiffOptions are the options of Diff.
type DiffOptions struct {
	Environment
	// A and B are references to applications, or the names of the sources.
	A, B string
	// SourceA and SourceB, if not nil, are rendered and resolved instead of A and B, and not
	// pushed. Deterministic renders them twice, and ignores what differs between the two
	// renderings.
	SourceA, SourceB *Options
	// EnvironmentA and EnvironmentB select the environment of each side; "" means all
	// environments.
	EnvironmentA, EnvironmentB string
}

// DiffResult describes how an application differs from another.
type DiffResult struct {
	// Matters are the changes that a reviewer should see first, the most serious first.
	Matters []Matter    `json:"matters"`
	Images  ImagesDiff  `json:"images"`
	Objects ObjectsDiff `json:"objects"`
	Source  SourceDiff  `json:"source"`
	// Generated are the fields that differ between two renderings of the same source, and are
	// ignored.
	Generated []ObjectChange `json:"generated,omitempty"`
}

// Empty reports whether d has no difference.
func (d DiffResult) Empty() bool {
	return len(d.Images.Added)+len(d.Images.Removed)+len(d.Images.Changed) == 0 && d.Objects.empty() && len(d.Source.Changed) == 0
}

// ImagesDiff compares images by the names under which they were published.
type ImagesDiff struct {
	Added   []DiffImage   `json:"added"`
	Removed []DiffImage   `json:"removed"`
	Changed []ImageChange `json:"changed"`
}

// DiffImage is an image of one side.
type DiffImage struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
}

// ImageChange is a name that now leads to another image, or a repository that is now used in
// another version.
type ImageChange struct {
	Name      string         `json:"name"`
	Was       string         `json:"was,omitempty"` // the previous name, if it differs
	From      digest.Digest  `json:"from"`
	To        digest.Digest  `json:"to"`
	Platforms *PlatformsDiff `json:"platforms,omitempty"` // nil if they do not differ
}

// PlatformsDiff compares the platforms of an image.
type PlatformsDiff struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
}

// SourceDiff compares the origins of the manifests.
type SourceDiff struct {
	Changed []SourceChange `json:"changed"`
}

// SourceChange is a difference in a fact: uri, path, reference, commit, modified, interpreter,
// "options." with the name of an option, or "file " with the path of a file that was rendered.
// From or To is "" if that side lacks it.
type SourceChange struct {
	Source string `json:"source"` // its name
	Fact   string `json:"fact"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// Diff compares application B with A. It ignores the repository that references in manifests
// point to, so an application equals its copies.
//
// The contents may be large, so neither is held in memory as a whole. They are read once for the
// digests of their objects and, if some differ, once more for those objects.
func Diff(ctx context.Context, o DiffOptions) (d *DiffResult, err error) {
	var sides [2]*side
	for i, of := range []struct {
		ref         string
		source      *Options
		environment string
	}{{o.A, o.SourceA, o.EnvironmentA}, {o.B, o.SourceB, o.EnvironmentB}} {
		if of.source != nil {
			sides[i], err = sourceSide(ctx, of.source, of.ref, of.environment)
		} else {
			sides[i], err = openSide(ctx, o.Environment, of.ref, of.environment)
		}
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, sides[i].close()) }()
	}
	a, b := sides[0], sides[1]
	d = &DiffResult{Matters: []Matter{}, Images: diffImages(a.view.Images, b.view.Images), Source: diffSources(a.view.Sources, b.view.Sources)}
	d.Matters = append(d.Matters, imageMatters(a.view.Images, b.view.Images, d.Images)...)
	if err := d.compareObjects(ctx, a, b); err != nil {
		return nil, err
	}
	d.Objects.Changed, d.Generated = generated(d.Objects.Changed, a.generated, b.generated)
	sortMatters(d.Matters)
	// The same application from, for example, another commit is not reported as another
	// application.
	if same := (DiffResult{Images: d.Images, Objects: d.Objects}); same.Empty() && (o.SourceA != nil || o.SourceB != nil) {
		d.Source.Changed = []SourceChange{}
	}
	return d, nil
}

// compareObjects compares the objects of b with those of a.
func (d *DiffResult) compareObjects(ctx context.Context, a, b *side) (err error) {
	for _, s := range []*side{a, b} {
		if s.sums, err = s.digests(ctx); err != nil {
			return err
		}
	}
	var pairs []pair
	d.Objects, pairs = diffObjects(a.sums, b.sums)
	for _, key := range d.Objects.Removed {
		d.Matters = append(d.Matters, removed(key))
	}
	before, after, added := map[ObjectKey][]byte{}, map[ObjectKey][]byte{}, map[ObjectKey]bool{}
	for _, p := range pairs {
		before[p.from], after[p.to] = nil, nil
	}
	for _, key := range d.Objects.Added {
		added[key] = true
	}
	if len(pairs) > 0 {
		if err := a.read(ctx, before, nil); err != nil {
			return err
		}
	}
	if len(pairs)+len(added) > 0 {
		err := b.read(ctx, after, func(key ObjectKey, object any) {
			if added[key] {
				d.Matters = append(d.Matters, objectMatters(key, nil, object)...)
			}
		})
		if err != nil {
			return err
		}
	}
	c := changes{cells: maxCells, room: maxText, from: a.shown(b), to: b.shown(a)}
	for _, p := range pairs {
		changed, matters, err := c.object(p, before[p.from], after[p.to])
		if err != nil {
			return fmt.Errorf("compare %s: %w", p.to, err)
		}
		d.Matters = append(d.Matters, matters...)
		if len(changed.Fields) > 0 {
			d.Objects.Changed = append(d.Objects.Changed, changed)
		}
	}
	return nil
}

// side is one of the two applications or sources that are compared.
type side struct {
	ref  string
	view *artifact.View
	// eachFile calls visit for each file.
	eachFile func(ctx context.Context, visit func(files.File) error) error
	// edits are the positions of the references to repository. In objects, anywhere takes its
	// place. repository is "" if it is not known.
	edits      artifact.Transform
	repository string
	sums       map[ObjectKey]digest.Digest
	// generated are the fields that differ between two renderings.
	generated map[generatedField]bool
	close     func() error
}

// shown returns the repository to show in references. A source has no repository, so the one of
// the other side is used.
func (s *side) shown(other *side) string {
	switch {
	case s.repository != nowhere:
		return s.repository
	case other.repository != nowhere && other.repository != "":
		return other.repository
	}
	return "repository"
}

func openSide(ctx context.Context, env Environment, ref, environment string) (*side, error) {
	app, at, err := application(ctx, env.Registry, ref)
	if err != nil {
		return nil, err
	}
	s, err := newSide(ctx, app, ref, at.name, at.tag, environment)
	if err != nil {
		return nil, errors.Join(err, at.close())
	}
	s.close = at.close
	return s, nil
}

// newSide returns an application, or one environment of it, as a side.
func newSide(ctx context.Context, app *artifact.Application, ref, name, tag, environment string) (*side, error) {
	s := &side{ref: ref, close: func() error { return nil }, eachFile: app.EachFile}
	var statements []artifact.Statement
	var err error
	if s.view, err = app.View(ctx, name, tag, false); err == nil {
		statements, err = app.Statements(ctx)
	}
	if err == nil && environment != "" {
		err = s.only(environment)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref, err)
	}
	if edits, ok := artifact.ImageRefs(statements); ok {
		s.edits, s.repository = edits, edits.Repository
	}
	return s, nil
}

// only limits the side to one environment. Its sources are compared with those of another
// environment by their own names.
func (s *side) only(environment string) error {
	if err := s.view.Only(environment); err != nil {
		return err
	}
	for i := range s.view.Sources {
		s.view.Sources[i].Name = strings.TrimPrefix(s.view.Sources[i].Name, environment+"/")
	}
	all := s.eachFile
	s.eachFile = func(ctx context.Context, visit func(files.File) error) error {
		return all(ctx, func(f files.File) error {
			if artifact.EnvironmentSet(s.view.Environments).Of(f.Name) != environment {
				return nil
			}
			return visit(f)
		})
	}
	return nil
}

// anywhere replaces the repository in references while objects are compared.
const anywhere = "the.repository/here"

const (
	// maxValues limits the number of values in all differing objects of one side.
	maxValues = 1 << 20
	// maxText limits the size of their JSON in bytes, and of the differences.
	maxText = 64 << 20
)

// digests returns the digests of the objects.
func (s *side) digests(ctx context.Context) (map[ObjectKey]digest.Digest, error) {
	sums := map[ObjectKey]digest.Digest{}
	err := s.each(ctx, func(key ObjectKey, object *manifests.Node) error {
		digester := digest.Canonical.Digester()
		err := writeJSON(digester.Hash(), object)
		sums[key] = digester.Digest()
		return err
	})
	return sums, err
}

// read fills in the objects whose keys are in wanted, as JSON. It calls other, if not nil, with
// each other object.
func (s *side) read(ctx context.Context, wanted map[ObjectKey][]byte, other func(ObjectKey, any)) error {
	values, text := maxValues, maxText
	return s.each(ctx, func(key ObjectKey, object *manifests.Node) error {
		if _, ok := wanted[key]; !ok && other == nil {
			return nil
		} else if !ok {
			var data bytes.Buffer
			var v any
			err := writeJSON(&data, object)
			if err == nil {
				err = decodeJSON(data.Bytes(), &v)
			}
			other(key, v)
			return err
		}
		if values -= valuesIn(object); values < 0 {
			return fmt.Errorf("the objects that differ have more than %d values up to here, counting each use of an alias", maxValues)
		}
		data := limited{room: text}
		if err := writeJSON(&data, object); err != nil {
			return err
		}
		wanted[key] = bytes.Clone(data.Bytes())
		text -= data.Len()
		return nil
	})
}

// limited is a buffer of limited size.
type limited struct {
	bytes.Buffer
	room int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > l.room {
		return 0, fmt.Errorf("the objects that differ have more than %d MiB up to here, as JSON", maxText>>20)
	}
	return l.Buffer.Write(p)
}

// each calls visit for each object of the content, in order.
func (s *side) each(ctx context.Context, visit func(ObjectKey, *manifests.Node) error) error {
	objects := newObjects(visit)
	renamed := func(f files.File) (files.File, error) { return f, nil }
	if s.repository != "" {
		r, err := artifact.NewRenaming(s.edits, artifact.Naming{Repository: anywhere})
		if err != nil {
			return fmt.Errorf("read %s: %w", s.ref, err)
		}
		renamed = r.File
	}
	err := s.eachFile(ctx, func(f files.File) error {
		f, err := renamed(f)
		if err == nil {
			err = objects.file(f)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", s.ref, err)
	}
	return nil
}

func diffImages(a, b []artifact.ViewImage) ImagesDiff {
	d := ImagesDiff{Added: []DiffImage{}, Removed: []DiffImage{}, Changed: []ImageChange{}}
	byName := func(list []artifact.ViewImage) map[string]artifact.ViewImage {
		out := map[string]artifact.ViewImage{}
		for _, i := range list {
			for _, name := range append([]string{i.Name}, i.Names...) {
				out[name] = i
			}
		}
		return out
	}
	from, to := byName(a), byName(b)
	for _, name := range keysOf(from, to) {
		x, had := from[name]
		y, has := to[name]
		switch {
		case !has:
			d.Removed = append(d.Removed, DiffImage{name, x.Digest})
		case !had:
			d.Added = append(d.Added, DiffImage{name, y.Digest})
		case x.Digest != y.Digest:
			d.Changed = append(d.Changed, ImageChange{Name: name, From: x.Digest, To: y.Digest, Platforms: diffPlatforms(x, y)})
		}
	}
	d.joinVersions(from, to)
	return d
}

// joinVersions turns the removal of an image and the addition of another one from the same
// repository into a change of version, if there is exactly one of each.
func (d *ImagesDiff) joinVersions(from, to map[string]artifact.ViewImage) {
	alone := func(list []DiffImage) map[string][]string {
		out := map[string][]string{}
		for _, i := range list {
			out[imageRepository(i.Name)] = append(out[imageRepository(i.Name)], i.Name)
		}
		return out
	}
	came := alone(d.Added)
	for repository, went := range alone(d.Removed) {
		now := came[repository]
		if len(went) != 1 || len(now) != 1 {
			continue
		}
		x, y := from[went[0]], to[now[0]]
		d.Changed = append(d.Changed, ImageChange{Name: now[0], Was: went[0], From: x.Digest, To: y.Digest, Platforms: diffPlatforms(x, y)})
		d.Removed = slices.DeleteFunc(d.Removed, func(i DiffImage) bool { return i.Name == went[0] })
		d.Added = slices.DeleteFunc(d.Added, func(i DiffImage) bool { return i.Name == now[0] })
	}
	slices.SortFunc(d.Changed, func(x, y ImageChange) int { return strings.Compare(x.Name, y.Name) })
}

// imageRepository returns a name without its tag and digest.
func imageRepository(name string) string {
	return imageref.Split(name).Name
}

func diffPlatforms(x, y artifact.ViewImage) *PlatformsDiff {
	names := func(i artifact.ViewImage) []string {
		var out []string
		for _, p := range i.Platforms {
			out = append(out, p.Platform)
		}
		return out
	}
	a, b := names(x), names(y)
	without := func(list, others []string) []string {
		return slices.DeleteFunc(append([]string{}, list...), func(p string) bool { return slices.Contains(others, p) })
	}
	d := &PlatformsDiff{Added: without(b, a), Removed: without(a, b)}
	if len(d.Added)+len(d.Removed) == 0 {
		return nil
	}
	return d
}

func diffSources(a, b []artifact.ViewSource) SourceDiff {
	d := SourceDiff{Changed: []SourceChange{}}
	byName := func(list []artifact.ViewSource) map[string]artifact.ViewSource {
		out := map[string]artifact.ViewSource{}
		for _, s := range list {
			out[s.Name] = s
		}
		return out
	}
	from, to := byName(a), byName(b)
	for _, name := range keysOf(from, to) {
		x, y := sourceFacts(from[name]), sourceFacts(to[name])
		known := map[string]bool{}
		for _, fact := range slices.Concat(x, y) {
			if known[fact.name] {
				continue
			}
			known[fact.name] = true
			if was, is := factOf(x, fact.name), factOf(y, fact.name); was != is {
				d.Changed = append(d.Changed, SourceChange{name, fact.name, was, is})
			}
		}
	}
	return d
}

// keysOf returns the keys of both maps, sorted.
func keysOf[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// fact is a fact about a source.
type fact struct{ name, value string }

func factOf(list []fact, name string) string {
	for _, f := range list {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// sourceFacts returns the facts that are compared between two sources.
func sourceFacts(s artifact.ViewSource) []fact {
	list := []fact{
		{"uri", s.URI}, {"path", s.Path}, {"reference", s.Reference}, {"commit", s.Commit},
		{"modified", string(s.Modified)}, {"interpreter", s.Interpreter},
	}
	var options map[string]json.RawMessage
	_ = json.Unmarshal(s.Options, &options) // absent, or an object that tape wrote
	for _, name := range slices.Sorted(maps.Keys(options)) {
		list = append(list, fact{"options." + name, string(options[name])})
	}
	if s.Interpreter == "" {
		return list // files are not facts: they are compared as objects
	}
	for _, f := range s.Files {
		list = append(list, fact{"file " + f.Path, f.Digest.String()})
	}
	return list
}
