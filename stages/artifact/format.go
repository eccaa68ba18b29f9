// SPDX-License-Identifier: Apache-2.0

// Package artifact implements the taped artifact, format 1: its names, its constants and the
// shapes of its documents, for the stages that write it, and the reader that opens it (as well
// as v1alpha1, the format of the original tape).
//
// docs/format.md describes the format. Every string of the format is defined in this package.
package artifact

import "github.com/opencontainers/go-digest"

// Format is the version that is written. Readers refuse unknown versions.
const Format = "1"

// Media types and artifact types.
const (
	ArtifactTypeApp          = "application/vnd.tape.app.v1"                         // artifactType of the root
	ArtifactTypeContent      = "application/vnd.tape.content.v1"                     // artifactType of the content manifest
	ArtifactTypeAttestations = "application/vnd.docker.attestation.manifest.v1+json" // artifactType of the attestation manifest
	MediaTypeStatement       = "application/vnd.in-toto+json"                        // layer of the attestation manifest
	MediaTypeBundle          = "application/vnd.dev.sigstore.bundle.v0.3+json"       // artifactType and layer of a signature
	MediaTypeListing         = "application/vnd.tape.listing.v1+json"                // Listing: content → attest
	MediaTypeTags            = "application/vnd.tape.tags.v1+json"                   // JSON array of the root's tags, the first one first: index → push
)

// Annotations.
const (
	AnnotationFormat       = "vnd.tape.format"
	AnnotationRole         = "vnd.tape.role"
	AnnotationImageSource  = "vnd.tape.image.source" // normalised references, comma-joined, sorted
	AnnotationImageFrom    = "vnd.tape.image.from"   // of a dependency: docker-daemon, containerd, oci or archive
	AnnotationImageTag     = "vnd.tape.image.tag"    // tags of the image in the root's repository, comma-joined, sorted
	AnnotationEnvironments = "vnd.tape.environments" // of root and content: first folders of the content, comma-joined, sorted
	AnnotationRelatedTo    = "vnd.tape.related.to"   // digest of the image or platform manifest
	AnnotationRelatedTag   = "vnd.tape.related.tag"  // where it was found by tag
	annotationInterpreter  = "vnd.tape.content.interpreter"
	AnnotationPlatforms    = "vnd.tape.platforms" // of a layout that lacks the other platforms

	annotationReferenceType   = "vnd.docker.reference.type"
	AnnotationReferenceDigest = "vnd.docker.reference.digest"
	annotationPredicateType   = "in-toto.io/predicate-type"
	annotationUnpack          = "io.deis.oras.content.unpack" // oras pull unpacks the layer
	annotationUnpackDigest    = "io.deis.oras.content.digest" // of the layer, not compressed

	AnnotationBundleContent   = "dev.sigstore.bundle.content"
	AnnotationBundlePredicate = "dev.sigstore.bundle.predicateType"
)

// Values of annotations.
const (
	RoleContent      = "content"
	RoleAttestations = "attestations"
	RoleImage        = "image"
	RoleRelated      = "related"
	RoleOrigin       = "origin" // the root that this one was relocated from
	RoleProof        = "proof"  // what was attached to that root or to its content

	referenceAttestation = "attestation-manifest" // of annotationReferenceType
	kubectlApply         = "kubectl-apply"        // of annotationInterpreter: kubectl is all it takes
)

// Predicate types of the statements.
const (
	PredicateProvenance   = "https://slsa.dev/provenance/v1"
	PredicateSource       = predicateBase + "/source/v1"
	PredicateTransform    = predicateBase + "/transform/v1"
	PredicateSPDX         = "https://spdx.dev/Document/v2.3"
	PredicateSecrets      = predicateBase + "/secrets/v1"
	PredicatePromotion    = predicateBase + "/promotion/v1"
	PredicateReproduction = predicateBase + "/reproduction/v1"
	PredicateSummary      = "https://slsa.dev/verification_summary/v1"
	PredicateSignature    = "https://sigstore.dev/cosign/sign/v1"

	predicateBase = "https://github.com/taped-dev/tape/attestation"
)

// BuildType of the provenance: what its parameters mean is in docs/format.md.
const BuildType = "https://github.com/taped-dev/tape/buildtypes/package/v1"

// BuildTypeRelocate is the build type of an application that was made from another by moving
// its images.
const BuildTypeRelocate = "https://github.com/taped-dev/tape/buildtypes/relocate/v1"

// MaxEdits bounds how often content may have been edited: once when it was packed, and once by
// each relocation. All of the content is read for each.
const MaxEdits = 32

// MaxOrigins bounds the chain of applications that one was relocated from: each is nested in the
// next one, and nested indexes are only followed to a certain depth.
const MaxOrigins = 8

// maxRoot is the size in bytes above which a root is refused: registries accept manifests of up
// to 4 MiB.
const maxRoot = 7 << 19

// Listing maps each file of the content to its manifest file, sorted by Name: content → attest.
type Listing []ListedFile

// ListedFile is a file of the content.
type ListedFile struct {
	Name   string        `json:"name"`
	From   string        `json:"from"` // name of the manifest file
	Digest digest.Digest `json:"digest"`
}
