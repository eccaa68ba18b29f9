// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// Origins opens the applications that this one was relocated from, the one before it first.
// It returns those that could be opened also with an error.
func (a *Application) Origins(ctx context.Context) ([]*Application, error) {
	var line []*Application
	for at := a; ; {
		origin, err := at.origin(ctx)
		if err == nil && origin != nil && len(line) == MaxOrigins {
			err = refused{fmt.Errorf("it was relocated more than %d times", MaxOrigins)}
		}
		if err != nil || origin == nil {
			return line, err
		}
		line, at = append(line, origin), origin
	}
}

// origin opens the application that this one was relocated from; nil if it lists none.
func (a *Application) origin(ctx context.Context) (*Application, error) {
	list := a.Children(RoleOrigin)
	if len(list) == 0 {
		return nil, nil
	}
	if len(list) > 1 {
		return nil, refused{fmt.Errorf("%s lists %d origins, not one", a.Root.Digest, len(list))}
	}
	origin, err := OpenRoot(ctx, a.source, list[0])
	if err == nil && origin.Format != Format {
		err = refused{fmt.Errorf("it is of format %s", origin.Format)}
	}
	if err != nil {
		return nil, fmt.Errorf("origin %s: %w", list[0].Digest, err)
	}
	return origin, nil
}

// CheckRelocated reports how the application differs from what relocating origin makes,
// which has the same files, statements, images and annotations but for where the images
// are. Nothing that either states is believed: origin is relocated again.
func (a *Application) CheckRelocated(ctx context.Context, origin *Application) error {
	old, err := origin.Statements(ctx)
	if err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	list, err := a.Statements(ctx)
	if err != nil {
		return err
	}
	r, err := relocationOf(list, old, origin.Root.Digest)
	if err != nil {
		return err
	}
	renamed, err := a.checkRenamed(ctx, origin, &r, old, list)
	if err != nil {
		return err
	}
	want, err := r.statements(renamed, old, origin.Content.Digest, a.Content.Digest)
	if err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	if err := sameStatements(list, want); err != nil {
		return err
	}
	annotations := origin.relocatedAnnotations(r.Repository)
	if err := sameAnnotations("content", a.Manifest.Annotations, annotations, annotationInterpreter); err != nil {
		return err
	}
	if err := sameAnnotations("root", a.Index.Annotations, annotations, AnnotationFormat); err != nil {
		return err
	}
	return sameChildren(a.Index.Manifests, origin.Index.Manifests)
}

// relocationOf reads from statements how an application was relocated from the origin.
func relocationOf(list, old []Statement, origin digest.Digest) (Relocation, error) {
	last, ok := ImageRefs(list)
	if !ok || last.Kind != transformRelocate {
		return Relocation{}, errors.New("its statements do not say that it was relocated")
	}
	is, err := provenanceOf(list)
	if err != nil {
		return Relocation{}, err
	}
	was, err := provenanceOf(old)
	if err != nil {
		return Relocation{}, fmt.Errorf("origin: %w", err)
	}
	from := is.BuildDefinition.ResolvedDependencies
	from = from[:max(0, len(from)-len(was.BuildDefinition.ResolvedDependencies))]
	if len(from) == 0 || from[0].Name != "root" || !maps.Equal(from[0].Digest, DigestSet(origin)) {
		return Relocation{}, fmt.Errorf("its provenance does not say that it was made of %s", origin)
	}
	return Relocation{Repository: is.BuildDefinition.ExternalParameters.Repository, Names: last.Names(Taped(old)), From: from}, nil
}

// provenanceOf reads the provenance, which statements begin with.
func provenanceOf(list []Statement) (p Provenance, err error) {
	if len(list) == 0 || list[0].PredicateType != PredicateProvenance {
		return p, errors.New("its statements do not begin with where it came from")
	}
	if err := json.Unmarshal(list[0].Predicate, &p); err != nil {
		return p, fmt.Errorf("read provenance: %w", err)
	}
	return p, nil
}

// checkRenamed renames the images in the files of the origin again, and compares the files
// and the edits that are recorded. It holds one file at a time.
func (a *Application) checkRenamed(ctx context.Context, origin *Application, r *Relocation, old, list []Statement) (renamed, error) {
	refs, ok := ImageRefs(old)
	if !ok {
		return renamed{}, errors.New("origin: its statements do not record where its references are")
	}
	renaming, err := NewRenaming(refs, r.Names)
	if err != nil {
		return renamed{}, err
	}
	var made renamed
	want := map[string]digest.Digest{}
	err = origin.EachFile(ctx, func(f files.File) error {
		is, err := renaming.File(f)
		if err == nil {
			want[f.Name] = digest.FromBytes(is.Data)
			made.add(f.Name, digest.FromBytes(f.Data), want[f.Name])
		}
		return err
	})
	if err != nil {
		return renamed{}, fmt.Errorf("origin: %w", err)
	}
	err = a.EachFile(ctx, func(f files.File) error {
		sum, ok := want[f.Name]
		switch {
		case !ok:
			return fmt.Errorf("%s: the origin has no such file", f.Name)
		case sum != digest.FromBytes(f.Data):
			return fmt.Errorf("%s: it differs from the origin's in more than the names of images", f.Name)
		}
		delete(want, f.Name)
		return nil
	})
	if err != nil {
		return renamed{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		return renamed{}, fmt.Errorf("%s: the origin has this file, and it is missing", name)
	}
	r.Edits = renaming.Edits()
	last, _ := ImageRefs(list)
	return made, sameEdits(last.Edits, r.Edits)
}

// sameEdits compares the edits that are recorded with those that were made.
func sameEdits(recorded, made []images.Edit) error {
	for i := range max(len(recorded), len(made)) {
		switch {
		case i >= len(recorded):
			return fmt.Errorf("%s: an edit is not recorded", images.Place(made[i].File, made[i].Line, made[i].Column))
		case i >= len(made) || recorded[i] != made[i]:
			e := recorded[i]
			return fmt.Errorf("%s: the edit that is recorded is not one of the name of an image", images.Place(e.File, e.Line, e.Column))
		}
	}
	return nil
}

func sameStatements(list, want []Statement) error {
	if len(list) != len(want) {
		return fmt.Errorf("it has %d statements, and the origin leads to %d", len(list), len(want))
	}
	for i, s := range list {
		same, err := sameJSON(s, want[i])
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("statement %d (%s) differs from the origin's in more than where it is", i+1, s.PredicateType)
		}
	}
	return nil
}

// sameJSON compares what is in two values, however it is written.
func sameJSON(a, b any) (bool, error) {
	var values [2]any
	for i, v := range []any{a, b} {
		data, err := json.Marshal(v)
		if err != nil {
			return false, err
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&values[i]); err != nil {
			return false, err
		}
	}
	return reflect.DeepEqual(values[0], values[1]), nil
}

// sameAnnotations compares annotations, but for the one that only one of the two has.
func sameAnnotations(what string, is, want map[string]string, but string) error {
	is = maps.Clone(is)
	delete(is, but)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if is[key] != want[key] {
			return fmt.Errorf("the %s says %s %q, and the origin %q", what, key, is[key], want[key])
		}
		delete(is, key)
	}
	for _, key := range slices.Sorted(maps.Keys(is)) {
		return fmt.Errorf("the %s says %s %q, and the origin nothing", what, key, is[key])
	}
	return nil
}

// sameChildren compares what two roots list, but for their own parts and origins.
func sameChildren(is, was []ocispec.Descriptor) error {
	rest := func(list []ocispec.Descriptor) []ocispec.Descriptor {
		return slices.DeleteFunc(slices.Clone(list), func(child ocispec.Descriptor) bool {
			return slices.Contains([]string{RoleContent, RoleAttestations, RoleOrigin, RoleProof}, child.Annotations[AnnotationRole])
		})
	}
	is, was = rest(is), rest(was)
	lacks := func(child ocispec.Descriptor) bool {
		return !slices.ContainsFunc(is, func(d ocispec.Descriptor) bool { return d.Digest == child.Digest })
	}
	for i := range max(len(is), len(was)) {
		switch {
		case i >= len(is) || i < len(was) && lacks(was[i]):
			return fmt.Errorf("the origin lists %s, and the root does not", was[i].Digest)
		case i >= len(was) || !reflect.DeepEqual(is[i], was[i]):
			return fmt.Errorf("the root lists %s, and the origin does not list it so", is[i].Digest)
		}
	}
	return nil
}
