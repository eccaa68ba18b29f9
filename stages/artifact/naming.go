// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/images"
)

// OneToOne is the naming that gives every image a repository of its own below a prefix.
const OneToOne = "one-to-one"

// Naming determines the names of images in manifests.
type Naming struct {
	// Repository of all images; with OneToOne the prefix of their repositories.
	Repository string
	OneToOne   bool
	// Taped is the repository that the images were packed for: one that came from there kept its
	// tag.
	Taped string
}

// Ref returns the reference of an image: name is the normalised one that it was packed by. The
// reference always has the digest.
func (n Naming) Ref(name string, d digest.Digest) (string, error) {
	named := imageref.Split(name)
	named.Digest = d
	if n.OneToOne {
		return relocatedName(n.Repository, named.String())
	}
	tag := TagIn(n.Taped, images.Image{Name: named.String(), Digest: d})
	return n.Repository + ":" + tag + "@" + d.String(), nil
}

// at returns the name of the image in the place of an edit.
func (n Naming) at(edit images.Edit) (string, error) {
	if n.OneToOne || !edit.KeepTag {
		return n.Ref(edit.Resolved, edit.Digest)
	}
	return WrittenRef(n.Repository, imageref.Split(edit.Resolved).Tag, edit.Digest), nil
}

// Names returns the naming of the transform.
func (t Transform) Names(taped string) Naming {
	return Naming{Repository: t.Repository, OneToOne: t.Naming == OneToOne, Taped: taped}
}

// Home returns the repository that an application was written for, "" if its statements do not
// record it.
func Home(statements []Statement) string {
	for _, p := range predicates[Provenance](statements, PredicateProvenance) {
		return p.BuildDefinition.ExternalParameters.Repository
	}
	return ""
}

// Taped returns the repository that the images of an application were first packed for.
func Taped(statements []Statement) string {
	for _, t := range transforms(statements) {
		if t.Kind == TransformImageRef {
			return t.Repository
		}
	}
	return ""
}

// transforms returns the transforms that edited the content, in their order.
func transforms(statements []Statement) []Transform {
	out := slices.DeleteFunc(predicates[Transform](statements, PredicateTransform), func(t Transform) bool {
		return t.Kind != TransformImageRef && t.Kind != transformRelocate
	})
	slices.SortStableFunc(out, func(a, b Transform) int { return cmp.Compare(a.Order, b.Order) })
	return out
}

// Sources returns the names that a child of the root was packed by.
func Sources(child ocispec.Descriptor) []string { return list(child, AnnotationImageSource) }

// tagsOf returns the tags of a child of the root in the root's repository.
func tagsOf(child ocispec.Descriptor) []string { return list(child, AnnotationImageTag) }

func list(child ocispec.Descriptor, annotation string) []string {
	return slices.DeleteFunc(strings.Split(child.Annotations[annotation], ","), func(s string) bool { return s == "" })
}
