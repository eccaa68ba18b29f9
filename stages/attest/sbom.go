// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/package-url/packageurl-go"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// Identifiers in the document.
const (
	spdxApplication = "Application"
	spdxNone        = "NOASSERTION"
	// sbomReference is the type of an external reference to the SBOM of an image.
	sbomReference = "https://github.com/taped-dev/tape/spdx/sbom"
)

// sbom returns the SPDX 2.3 document of the application: a package that contains one package for
// each image, which refers to the image's own SBOM if one was found. The document does not depend
// on the run: its namespace is derived from the digest of the content, and its time from the
// commit.
func (k *known) sbom(content digest.Digest) *spdx.Document {
	annotations := artifact.Annotations(k.Repository, k.facts, k.Created)
	title := path.Base(k.Repository)
	document := &spdx.Document{
		SPDXVersion:       spdx.Version,
		DataLicense:       spdx.DataLicense,
		SPDXIdentifier:    "DOCUMENT",
		DocumentName:      title,
		DocumentNamespace: "https://github.com/taped-dev/tape/spdx/" + content.Encoded(),
		CreationInfo: &spdx.CreationInfo{
			Created:  annotations[ocispec.AnnotationCreated],
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "tape"}},
		},
		Packages: []*spdx.Package{{
			PackageName:             title,
			PackageSPDXIdentifier:   spdxApplication,
			PackageVersion:          annotations[ocispec.AnnotationVersion],
			PackageDownloadLocation: spdxNone,
			PrimaryPackagePurpose:   "APPLICATION",
			PackageChecksums:        []common.Checksum{{Algorithm: common.SHA256, Value: content.Encoded()}},
		}},
		Relationships: []*spdx.Relationship{{
			RefA: common.MakeDocElementID("", "DOCUMENT"), RefB: common.MakeDocElementID("", spdxApplication),
			Relationship: common.TypeRelationshipDescribe,
		}},
	}
	list := slices.Clone(k.images.Images)
	slices.SortFunc(list, func(a, b images.Image) int {
		return cmp.Or(cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.Name, b.Name))
	})
	seen := map[digest.Digest]*spdx.Package{}
	for _, image := range list {
		reference := &spdx.PackageExternalReference{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl(image),
		}
		if p, twice := seen[image.Digest]; twice {
			p.PackageExternalReferences = append(p.PackageExternalReferences, reference)
			continue
		}
		p := k.imagePackage(image)
		p.PackageExternalReferences = append([]*spdx.PackageExternalReference{reference}, p.PackageExternalReferences...)
		seen[image.Digest] = p
		document.Packages = append(document.Packages, p)
		document.Relationships = append(document.Relationships, &spdx.Relationship{
			RefA: common.MakeDocElementID("", spdxApplication), RefB: common.MakeDocElementID("", string(p.PackageSPDXIdentifier)),
			Relationship: common.TypeRelationshipContains,
		})
	}
	return document
}

// imagePackage returns the package of an image, with references to the SBOMs that were published
// with it.
func (k *known) imagePackage(image images.Image) *spdx.Package {
	name := imageref.Split(image.Name)
	p := &spdx.Package{
		PackageName:             name.Name,
		PackageSPDXIdentifier:   common.ElementID("Image-" + image.Digest.Encoded()),
		PackageVersion:          cmp.Or(name.Tag, name.Digest.String()),
		PackageDownloadLocation: spdxNone,
		PrimaryPackagePurpose:   "CONTAINER",
		PackageChecksums:        []common.Checksum{{Algorithm: common.SHA256, Value: image.Digest.Encoded()}},
	}
	for _, r := range image.Related {
		if r.Kind != images.SBOM {
			continue
		}
		p.PackageExternalReferences = append(p.PackageExternalReferences, &spdx.PackageExternalReference{
			Category: common.CategoryOther, RefType: sbomReference,
			Locator: packageurl.NewPackageURL(packageurl.TypeOCI, "", path.Base(k.Repository), r.Digest.String(),
				packageurl.QualifiersFromMap(map[string]string{"repository_url": k.Repository}), "").ToString(),
			ExternalRefComment: fmt.Sprintf("of %s, %s", r.To, r.Via),
		})
	}
	return p
}
