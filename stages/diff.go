// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
)

// Diff is how an application differs from another.
type Diff struct {
	Images  ImagesDiff  `json:"images"`
	Objects ObjectsDiff `json:"objects"`
	Source  SourceDiff  `json:"source"`
}

// Empty says that nothing differs.
func (d Diff) Empty() bool {
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

// ImageChange is a name that means another image now.
type ImageChange struct {
	Name      string         `json:"name"`
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

// SourceChange is a fact that differs: uri, commit, modified or path.
type SourceChange struct {
	Source string `json:"source"` // its name
	Fact   string `json:"fact"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// Compare says how the application behind b differs from that behind a. The
// repository that the references in manifests point to is not a difference, so
// an application is the same wherever it lies.
func Compare(ctx context.Context, env Environment, a, b string) (*Diff, error) {
	sides := make([]side, 2)
	g, gctx := errgroup.WithContext(ctx)
	for i, ref := range []string{a, b} {
		g.Go(func() (err error) {
			sides[i], err = readSide(gctx, env, ref)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	d := &Diff{Images: diffImages(sides[0].view.Images, sides[1].view.Images), Source: diffSources(sides[0].view.Sources, sides[1].view.Sources)}
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
	objects objectsByKey
	// repository that the references point to, which anywhere stands for in objects.
	repository string
}

func readSide(ctx context.Context, env Environment, ref string) (s side, err error) {
	app, at, err := application(ctx, env.Registry, ref)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if s.view, err = app.View(ctx, at.repository, at.tag); err != nil {
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
	s.objects = objectsByKey{}
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
func (o objectsByKey) addFile(f files.File) error {
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
		o.addValue(plainJSON(v))
	}
}

func (o objectsByKey) addValue(v any) {
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
	return d
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
		x, y := from[name], to[name]
		for _, fact := range []struct{ name, from, to string }{
			{"uri", x.URI, y.URI}, {"path", x.Path, y.Path}, {"reference", x.Reference, y.Reference},
			{"commit", x.Commit, y.Commit}, {"modified", string(x.Modified), string(y.Modified)},
		} {
			if fact.from != fact.to {
				d.Changed = append(d.Changed, SourceChange{name, fact.name, fact.from, fact.to})
			}
		}
	}
	return d
}

// ObjectKey names an object as a cluster does: the version of its API is not
// part of it.
type ObjectKey struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func (k ObjectKey) String() string {
	s := k.Kind + " " + k.Name
	if k.Namespace != "" {
		s = k.Kind + " " + k.Namespace + "/" + k.Name
	}
	if k.Group != "" {
		s = k.Group + " " + s
	}
	return s
}

func (k ObjectKey) compare(o ObjectKey) int {
	return cmp.Or(cmp.Compare(k.Group, o.Group), cmp.Compare(k.Kind, o.Kind),
		cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// FieldChange is a field that differs. A field that one side lacks has no value
// on that side.
type FieldChange struct {
	Pointer string          `json:"pointer"` // JSON pointer (RFC 6901) into the object
	From    json.RawMessage `json:"from,omitempty"`
	To      json.RawMessage `json:"to,omitempty"`
}

// ObjectChange is an object that both sides have, with what differs.
type ObjectChange struct {
	ObjectKey
	Fields []FieldChange `json:"fields"`
}

// ObjectsDiff compares manifests object by object; files and their order do not
// matter.
type ObjectsDiff struct {
	Added   []ObjectKey    `json:"added"`
	Removed []ObjectKey    `json:"removed"`
	Changed []ObjectChange `json:"changed"`
}

func (d ObjectsDiff) empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// objectsByKey holds the values of objects. Objects of one key (which a cluster
// would take for one) are numbered, so that none hides another.
type objectsByKey map[ObjectKey]map[string]any

func (o objectsByKey) add(object map[string]any) {
	apiVersion, _ := object["apiVersion"].(string)
	group, _, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group = ""
	}
	metadata, _ := object["metadata"].(map[string]any)
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	key := ObjectKey{Group: group, Kind: text(object, "kind"), Namespace: text(metadata, "namespace"), Name: text(metadata, "name")}
	if key.Name == "" {
		key.Name = text(metadata, "generateName") + "*"
	}
	for n, base := 2, key.Name; o[key] != nil; n++ {
		key.Name = fmt.Sprintf("%s#%d", base, n)
	}
	o[key] = object
}

func diffObjects(a, b objectsByKey) (ObjectsDiff, error) {
	d := ObjectsDiff{Added: []ObjectKey{}, Removed: []ObjectKey{}, Changed: []ObjectChange{}}
	for key, object := range a {
		other, both := b[key]
		if !both {
			d.Removed = append(d.Removed, key)
			continue
		}
		var fields []FieldChange
		if err := diffValues("", object, other, &fields); err != nil {
			return d, fmt.Errorf("compare %s: %w", key, err)
		}
		if len(fields) > 0 {
			d.Changed = append(d.Changed, ObjectChange{ObjectKey: key, Fields: fields})
		}
	}
	for key := range b {
		if _, both := a[key]; !both {
			d.Added = append(d.Added, key)
		}
	}
	slices.SortFunc(d.Added, ObjectKey.compare)
	slices.SortFunc(d.Removed, ObjectKey.compare)
	slices.SortFunc(d.Changed, func(x, y ObjectChange) int { return x.ObjectKey.compare(y.ObjectKey) })
	return d, nil
}

// diffValues appends what differs below a pointer, in order. Lists whose items
// all have a name of their own (containers, ports, env) are compared by name:
// an item that moved is no change, an inserted one does not shift the others.
func diffValues(pointer string, a, b any, out *[]FieldChange) error {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			keys := slices.Sorted(maps.Keys(x))
			for k := range y {
				if _, both := x[k]; !both {
					keys = append(keys, k)
				}
			}
			slices.Sort(keys)
			for _, k := range keys {
				if err := diffMember(pointer+"/"+escapePointer(k), x, y, k, out); err != nil {
					return err
				}
			}
			return nil
		}
	case []any:
		y, ok := b.([]any)
		if !ok {
			break
		}
		if nx, ny := byName(x), byName(y); nx != nil && ny != nil {
			return diffNamed(pointer, x, y, nx, ny, out)
		}
		for i := range max(len(x), len(y)) {
			at := pointer + "/" + strconv.Itoa(i)
			var err error
			switch {
			case i >= len(x):
				err = record(at, nil, y[i], false, true, out)
			case i >= len(y):
				err = record(at, x[i], nil, true, false, out)
			default:
				err = diffValues(at, x[i], y[i], out)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if reflect.DeepEqual(a, b) {
		return nil
	}
	return record(pointer, a, b, true, true, out)
}

func diffMember(pointer string, x, y map[string]any, key string, out *[]FieldChange) error {
	from, has := x[key]
	to, will := y[key]
	if has && will {
		return diffValues(pointer, from, to, out)
	}
	return record(pointer, from, to, has, will, out)
}

// byName indexes a list whose items are maps with distinct names; nil for others.
func byName(list []any) map[string]int {
	index := make(map[string]int, len(list))
	for i, item := range list {
		m, _ := item.(map[string]any)
		name, ok := m["name"].(string)
		if _, twice := index[name]; !ok || twice {
			return nil
		}
		index[name] = i
	}
	return index
}

func diffNamed(pointer string, x, y []any, nx, ny map[string]int, out *[]FieldChange) error {
	for i, item := range x {
		name := item.(map[string]any)["name"].(string)
		at := pointer + "/" + strconv.Itoa(i)
		var err error
		if j, both := ny[name]; both {
			err = diffValues(at, item, y[j], out)
		} else {
			err = record(at, item, nil, true, false, out)
		}
		if err != nil {
			return err
		}
	}
	for j, item := range y {
		if _, both := nx[item.(map[string]any)["name"].(string)]; !both {
			if err := record(pointer+"/"+strconv.Itoa(j), nil, item, false, true, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func record(pointer string, from, to any, has, will bool, out *[]FieldChange) error {
	c := FieldChange{Pointer: pointer}
	var err error
	if has {
		if c.From, err = json.Marshal(from); err != nil {
			return err
		}
	}
	if will {
		if c.To, err = json.Marshal(to); err != nil {
			return err
		}
	}
	*out = append(*out, c)
	return nil
}

func escapePointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
