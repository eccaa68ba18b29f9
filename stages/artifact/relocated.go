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
	// Origin is the old root, to be listed with Proofs, which are the manifests that are
	// attached to it or to its content. The zero value lists neither.
	Origin ocispec.Descriptor
	Proofs []ocispec.Descriptor
}

// Relocated makes the parts of the new application: the root last, what it is
// made of before. The images and what is related to them stay as they were, and so
// do the statements about what came before; one more says what was edited now.
//
// old are the digests of the files as they were, in the order of r.Files.
func (a *Application) Relocated(old []digest.Digest, statements []Statement, r Relocation) ([]Blob, error) {
	annotations := a.relocatedAnnotations(r.Repository)
	layer, err := ContentLayer(r.Files)
	if err != nil {
		return nil, err
	}
	content, err := ContentManifest(layer.Desc, annotations)
	if err != nil {
		return nil, err
	}
	var renamed renamed
	for i, f := range r.Files {
		renamed.add(f.Name, old[i], digest.FromBytes(f.Data))
	}
	said, err := r.statements(renamed, statements, a.Content.Digest, content.Desc.Digest)
	if err != nil {
		return nil, err
	}
	blobs, err := Attestations(content.Desc, said)
	if err != nil {
		return nil, err
	}
	attestations := blobs[len(blobs)-1]
	index := a.Index
	index.Annotations = annotations
	index.Annotations[AnnotationFormat] = Format
	index.Manifests = nil
	for _, child := range a.Index.Manifests {
		switch child.Annotations[AnnotationRole] {
		case RoleOrigin, RoleProof:
			continue // the origin lists them
		case RoleContent:
			child.Digest, child.Size = content.Desc.Digest, content.Desc.Size
		case RoleAttestations:
			child.Digest, child.Size = attestations.Desc.Digest, attestations.Desc.Size
			child.Annotations = maps.Clone(child.Annotations)
			child.Annotations[AnnotationReferenceDigest] = content.Desc.Digest.String()
		}
		index.Manifests = append(index.Manifests, child)
	}
	index.Manifests = append(index.Manifests, r.originChildren()...)
	data, err := engine.MarshalJSON(index)
	if err != nil {
		return nil, err
	}
	if len(data) > maxRoot {
		return nil, fmt.Errorf("the root index would have %.1f MiB, and registries accept 4: %d manifests are attached to the origin", float64(len(data))/(1<<20), len(r.Proofs))
	}
	root := NewBlob(ocispec.MediaTypeImageIndex, data)
	root.Desc.ArtifactType = ArtifactTypeApp
	return append(append([]Blob{Empty(), layer, content}, blobs...), root), nil
}

// relocatedAnnotations returns the annotations of the content in a repository.
func (a *Application) relocatedAnnotations(repository string) map[string]string {
	annotations := maps.Clone(a.Index.Annotations)
	delete(annotations, AnnotationFormat)
	annotations[ocispec.AnnotationTitle] = path.Base(repository)
	return annotations
}

// originChildren list the old root, and what is attached to it. The subjects of that are in
// its manifests.
func (r Relocation) originChildren() []ocispec.Descriptor {
	if r.Origin.Digest == "" {
		return nil
	}
	out := []ocispec.Descriptor{{
		MediaType: r.Origin.MediaType, Digest: r.Origin.Digest, Size: r.Origin.Size, ArtifactType: ArtifactTypeApp,
		Annotations: map[string]string{AnnotationRole: RoleOrigin},
	}}
	for _, desc := range r.Proofs {
		out = append(out, ocispec.Descriptor{
			MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: desc.ArtifactType,
			Platform: unknownPlatform(), Annotations: map[string]string{AnnotationRole: RoleProof},
		})
	}
	return out
}

// renamed are the files of the content, before and after.
type renamed struct {
	inputs   []Input
	subjects []Resource
}

func (r *renamed) add(name string, before, after digest.Digest) {
	r.inputs = append(r.inputs, Input{Name: name, Digest: DigestSet(before), Output: name})
	r.subjects = append(r.subjects, Resource{Name: name, Digest: DigestSet(after)})
}

// statements returns the old statements, with a new provenance and what was edited.
func (r Relocation) statements(renamed renamed, list []Statement, was, is digest.Digest) ([]Statement, error) {
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
	s, err := NewStatement(PredicateTransform, Transform{
		Kind: transformRelocate, Order: order + 1, Inputs: append([]Input{}, renamed.inputs...),
		Repository: r.Names.Repository, Naming: r.Names.naming(), Edits: r.Edits,
	}, renamed.subjects...)
	return append(out, s), err
}

// provenance returns the old provenance, for the new content.
func (r Relocation) provenance(old Statement, content digest.Digest) (Statement, error) {
	p, err := provenanceOf([]Statement{old})
	if err != nil {
		return Statement{}, err
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

// naming returns what statements call it.
func (n Naming) naming() string {
	if n.OneToOne {
		return OneToOne
	}
	return ""
}
