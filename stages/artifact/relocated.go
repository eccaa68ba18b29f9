// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// Relocation is what is to be said of an application that was made of another.
type Relocation struct {
	Repository string // that the new root is in
	Names      Naming
	Files      []files.File // renamed
	Edits      []images.Edit
	// From are the old root, and what signed it.
	From []Resource
}

// Relocated makes the parts of the new application: the root last, what it is
// made of before. The images and what is related to them stay as they were, and so
// do the statements about what came before; one more says what was edited now.
//
// old are the digests of the files as they were, in the order of r.Files.
func (a *Application) Relocated(old []digest.Digest, statements []Statement, r Relocation) ([]Blob, error) {
	annotations := maps.Clone(a.Index.Annotations)
	delete(annotations, AnnotationFormat)
	annotations[ocispec.AnnotationTitle] = path.Base(r.Repository)
	layer, err := ContentLayer(r.Files)
	if err != nil {
		return nil, err
	}
	content, err := ContentManifest(layer.Desc, annotations)
	if err != nil {
		return nil, err
	}
	said, err := r.statements(old, statements, a.Content.Digest, content.Desc.Digest)
	if err != nil {
		return nil, err
	}
	blobs, err := Attestations(content.Desc, said)
	if err != nil {
		return nil, err
	}
	attestations := blobs[len(blobs)-1]
	index := a.Index
	index.Annotations = maps.Clone(annotations)
	index.Annotations[AnnotationFormat] = Format
	index.Manifests = slices.Clone(index.Manifests)
	for i, child := range index.Manifests {
		switch child.Annotations[AnnotationRole] {
		case RoleContent:
			index.Manifests[i].Digest, index.Manifests[i].Size = content.Desc.Digest, content.Desc.Size
		case RoleAttestations:
			index.Manifests[i].Digest, index.Manifests[i].Size = attestations.Desc.Digest, attestations.Desc.Size
			index.Manifests[i].Annotations = maps.Clone(child.Annotations)
			index.Manifests[i].Annotations[AnnotationReferenceDigest] = content.Desc.Digest.String()
		}
	}
	data, err := engine.MarshalJSON(index)
	if err != nil {
		return nil, err
	}
	root := newBlob(ocispec.MediaTypeImageIndex, data)
	root.Desc.ArtifactType = ArtifactTypeApp
	return append(append([]Blob{Empty(), layer, content}, blobs...), root), nil
}

// statements are the old ones, with a new provenance and what was edited.
func (r Relocation) statements(old []digest.Digest, list []Statement, was, is digest.Digest) ([]Statement, error) {
	var out []Statement
	order, edited := 0, 1 // with this one
	for _, s := range list {
		switch {
		case s.PredicateType == PredicateProvenance:
			provenance, err := r.provenance(s, is)
			if err != nil {
				return nil, err
			}
			s = provenance
		case len(s.Subject) == 1 && maps.Equal(s.Subject[0].Digest, DigestSet(was)):
			s.Subject = []Resource{{Name: r.Repository, Digest: DigestSet(is)}} // it is about the content as before
		case s.PredicateType == PredicateTransform:
			var t Transform
			if err := json.Unmarshal(s.Predicate, &t); err != nil {
				return nil, fmt.Errorf("statement %s: %w", s.PredicateType, err)
			}
			order = max(order, t.Order)
			if t.Kind != TransformRender {
				edited++
			}
		}
		out = append(out, s)
	}
	if len(out) == 0 || out[0].PredicateType != PredicateProvenance {
		return nil, errors.New("its statements do not begin with where it came from")
	}
	if edited > MaxEdits {
		return nil, fmt.Errorf("its content was edited %d times, and no more is accepted: package it again, or relocate the application that it was made of", edited-1)
	}
	t := Transform{
		Kind: transformRelocate, Order: order + 1, Inputs: []Input{},
		Repository: r.Names.Repository, Naming: r.Names.naming(), Edits: r.Edits,
	}
	var subject []Resource
	for i, f := range r.Files {
		t.Inputs = append(t.Inputs, Input{Name: f.Name, Digest: DigestSet(old[i]), Output: f.Name})
		subject = append(subject, Resource{Name: f.Name, Digest: DigestSet(digest.FromBytes(f.Data))})
	}
	s, err := NewStatement(PredicateTransform, t, subject...)
	return append(out, s), err
}

// provenance is the old one, for the new content.
func (r Relocation) provenance(old Statement, content digest.Digest) (Statement, error) {
	var p Provenance
	if err := json.Unmarshal(old.Predicate, &p); err != nil {
		return Statement{}, fmt.Errorf("read provenance: %w", err)
	}
	d := &p.BuildDefinition
	d.BuildType = BuildTypeRelocate
	d.ExternalParameters.Repository = r.Repository
	d.ExternalParameters.Naming, d.ExternalParameters.Prefix = r.Names.naming(), ""
	if r.Names.Repository != r.Repository {
		d.ExternalParameters.Prefix = r.Names.Repository
	}
	d.ResolvedDependencies = append(slices.Clone(r.From), d.ResolvedDependencies...)
	return NewStatement(PredicateProvenance, p, Resource{Name: r.Repository, Digest: DigestSet(content)})
}

// naming is how statements spell it.
func (n Naming) naming() string {
	if n.OneToOne {
		return OneToOne
	}
	return ""
}
