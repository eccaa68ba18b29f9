// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
)

// DiffOptions are what Diff takes.
type DiffOptions struct {
	Environment
	// A and B are the references of two applications.
	A, B string
}

// DiffResult is how an application differs from another.
type DiffResult struct {
	Images  ImagesDiff  `json:"images"`
	Objects ObjectsDiff `json:"objects"`
	Source  SourceDiff  `json:"source"`
}

// Empty says that nothing differs.
func (d DiffResult) Empty() bool {
	return len(d.Images.Added)+len(d.Images.Removed)+len(d.Images.Changed) == 0 && d.Objects.empty() && len(d.Source.Changed) == 0
}

// ImagesDiff compares images by the name that they had where they came from.
type ImagesDiff struct {
	Added   []DiffImage   `json:"added"`
	Removed []DiffImage   `json:"removed"`
	Changed []ImageChange `json:"changed"`
}

// DiffImage is an image that one side has.
type DiffImage struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
}

// ImageChange is a name that means another image now, or a repository of which
// another version runs now.
type ImageChange struct {
	Name      string         `json:"name"`
	Was       string         `json:"was,omitempty"` // the name before, where it is another
	From      digest.Digest  `json:"from"`
	To        digest.Digest  `json:"to"`
	Platforms *PlatformsDiff `json:"platforms,omitempty"` // where those differ
}

// PlatformsDiff compares the platforms of an image.
type PlatformsDiff struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
}

// SourceDiff compares where the manifests came from.
type SourceDiff struct {
	Changed []SourceChange `json:"changed"`
}

// SourceChange is a fact that differs: uri, path, reference, commit, modified,
// interpreter, "options." and an option's name, or "file " and the path of a
// file that a renderer read. From or To is "" where one side lacks it.
type SourceChange struct {
	Source string `json:"source"` // its name
	Fact   string `json:"fact"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// Diff says how application B differs from A. The repository that the references in
// manifests point to is not a difference, so an application is the same wherever it
// lies.
func Diff(ctx context.Context, o DiffOptions) (*DiffResult, error) {
	sides := make([]side, 2)
	// One after the other: the content of each, which may be large, is in memory meanwhile.
	for i, ref := range []string{o.A, o.B} {
		var err error
		if sides[i], err = readSide(ctx, o.Environment, ref); err != nil {
			return nil, err
		}
	}
	d := &DiffResult{Images: diffImages(sides[0].view.Images, sides[1].view.Images), Source: diffSources(sides[0].view.Sources, sides[1].view.Sources)}
	var err error
	d.Objects, err = diffObjects(sides[0].objects, sides[1].objects)
	for _, object := range d.Objects.Changed {
		for i, f := range object.Fields {
			object.Fields[i].From = bytes.ReplaceAll(f.From, []byte(anywhere), []byte(sides[0].repository))
			object.Fields[i].To = bytes.ReplaceAll(f.To, []byte(anywhere), []byte(sides[1].repository))
		}
	}
	return d, err
}

// side is one of the two that are compared.
type side struct {
	view    *artifact.View
	objects *objectSet
	// repository that the references point to, which anywhere stands for in objects.
	repository string
}

func readSide(ctx context.Context, env Environment, ref string) (s side, err error) {
	app, at, err := application(ctx, env.Registry, ref)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if s.view, err = app.View(ctx, at.name, at.tag); err != nil {
		return s, fmt.Errorf("read %s: %w", ref, err)
	}
	list, err := app.Files(ctx)
	if err != nil {
		return s, fmt.Errorf("read %s: %w", ref, err)
	}
	statements, err := app.Statements(ctx)
	if err != nil {
		return s, fmt.Errorf("read %s: %w", ref, err)
	}
	if refs, ok := artifact.ImageRefs(statements); ok {
		s.repository = refs.Repository
		if list, _, err = artifact.Rewrite(list, refs, anywhere); err != nil {
			return s, fmt.Errorf("read %s: %w", ref, err)
		}
	}
	s.objects = newObjectSet(maxValues)
	for _, f := range list {
		if err := s.objects.addFile(f); err != nil {
			return s, fmt.Errorf("read %s: %w", ref, err)
		}
	}
	return s, nil
}

// anywhere stands for the repository that references point to, while objects are
// compared.
const anywhere = "the.repository/here"

// addFile adds the objects of a YAML stream; items of lists are objects too.
func (o *objectSet) addFile(f files.File) error {
	dec := yaml.NewDecoder(bytes.NewReader(f.Data))
	for {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if o.room -= count(v); o.room < 0 {
			return fmt.Errorf("%s: the manifests up to here have more than %d values, aliases counted each time", f.Name, maxValues)
		}
		o.addValue(plainJSON(v))
	}
}

// maxValues bounds the values of one side, all of which are in memory.
const maxValues = 2 << 20

// count returns how many values there are in one, itself included.
func count(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			n += count(e)
		}
	case map[any]any:
		for _, e := range v {
			n += count(e)
		}
	case []any:
		for _, e := range v {
			n += count(e)
		}
	}
	return n
}

func (o *objectSet) addValue(v any) {
	m, ok := v.(map[string]any)
	if !ok {
		return
	}
	kind, _ := m["kind"].(string)
	if items, ok := m["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		for _, item := range items {
			o.addValue(item)
		}
		return
	}
	if kind != "" {
		o.add(m)
	}
}

// plainJSON turns what YAML has and JSON has not (other keys than strings, times)
// into what JSON would have.
func plainJSON(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = plainJSON(e)
		}
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[fmt.Sprint(k)] = plainJSON(e)
		}
		return out
	case []any:
		for i, e := range v {
			v[i] = plainJSON(e)
		}
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return v
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
	for _, name := range slices.Sorted(maps.Keys(from)) {
		x, y := from[name], to[name]
		switch {
		case y.Digest == "":
			d.Removed = append(d.Removed, DiffImage{name, x.Digest})
		case x.Digest != y.Digest:
			d.Changed = append(d.Changed, ImageChange{Name: name, From: x.Digest, To: y.Digest, Platforms: diffPlatforms(x, y)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(to)) {
		if _, both := from[name]; !both {
			d.Added = append(d.Added, DiffImage{name, to[name].Digest})
		}
	}
	d.joinVersions(from, to)
	return d
}

// joinVersions turns an image that went and the one that came from the same
// repository into a change of version, where there is one of each.
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
	d := &PlatformsDiff{Added: []string{}, Removed: []string{}}
	for _, p := range a {
		if !slices.Contains(b, p) {
			d.Removed = append(d.Removed, p)
		}
	}
	for _, p := range b {
		if !slices.Contains(a, p) {
			d.Added = append(d.Added, p)
		}
	}
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
	both := maps.Clone(from)
	maps.Copy(both, to)
	for _, name := range slices.Sorted(maps.Keys(both)) {
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

// fact is something that is known of a source.
type fact struct{ name, value string }

func factOf(list []fact, name string) string {
	for _, f := range list {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// sourceFacts returns what two sources are compared by.
func sourceFacts(s artifact.ViewSource) []fact {
	list := []fact{
		{"uri", s.URI}, {"path", s.Path}, {"reference", s.Reference}, {"commit", s.Commit},
		{"modified", string(s.Modified)}, {"interpreter", s.Interpreter},
	}
	var options map[string]json.RawMessage
	_ = json.Unmarshal(s.Options, &options) // none, or what tape wrote as an object
	for _, name := range slices.Sorted(maps.Keys(options)) {
		list = append(list, fact{"options." + name, string(options[name])})
	}
	if s.Interpreter == "" {
		return list // the files are the manifests, which are compared as objects
	}
	for _, f := range s.Files {
		list = append(list, fact{"file " + f.Path, f.Digest.String()})
	}
	return list
}
