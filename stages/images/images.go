// SPDX-License-Identifier: Apache-2.0

// Package images defines the documents that stages exchange about images: the
// references found in manifests, the images they resolve to, and the manifests
// published beside those images. Each document is a JSON blob with one of the media
// types below; its fields are those of `tape images -o json`.
package images

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/transfer"
)

// Media types of the documents.
const (
	MediaTypeReport = "application/vnd.tape.references.v1+json" // Report: scan → resolve, pin, content, attest
	MediaTypeList   = "application/vnd.tape.images.v1+json"     // List: resolve → discover → mirror, pin, attest, index
	MediaTypeEdits  = "application/vnd.tape.edits.v1+json"      // Edits: pin → attest
)

// Class describes how certain it is that a value is an image reference, and what
// reads it.
type Class string

// The classes.
const (
	Pod      Class = "pod"      // a PodSpec in an object of any kind
	CRD      Class = "crd"      // an image field of any other kind
	Indirect Class = "indirect" // env, args, annotations, ConfigMap data, embedded manifests
)

// Source is the file that a rendered file was made from. It is known at the end of a
// run, and not published, because it depends on the working directory.
type Source struct {
	// Origin is relative to the working directory and slash-separated. If the rendered
	// file was not made from one file, Origin is the source, with a trailing slash if
	// that is a folder. It is "" if nothing is on disk.
	Origin string `json:"origin,omitempty"`
	// OriginLine is the line in Origin that corresponds to the line in the rendered
	// file; 0 if the two files differ.
	OriginLine int `json:"originLine,omitempty"`
}

// Place returns the position on disk of something in a rendered file:
// origin:line:column if the line is known, else the origin followed by the position
// in the rendered file. The digest of the rendered file is included if given.
func (s Source) Place(rendered string, line, column int, scanned digest.Digest) string {
	at := ""
	if scanned != "" {
		at = "@" + scanned.String()
	}
	switch {
	case s.Origin == "":
		return Place(rendered, line, column) + at
	case line == s.OriginLine && !strings.HasSuffix(s.Origin, "/"): // the files are equal, or line is 0 for the whole file
		return Place(s.Origin, line, column) + at
	}
	return fmt.Sprintf("%s (rendered: %s%s)", s.Origin, Place(rendered, line, column), at)
}

// Location is one occurrence of a reference.
type Location struct {
	File     string `json:"file"`     // slash-separated, below the manifests
	Document int    `json:"document"` // index of the YAML document in the file, from 0
	Line     int    `json:"line"`     // from 1, of the text that holds the reference
	Column   int    `json:"column"`   // from 1, in characters
	Pointer  string `json:"pointer"`  // JSON pointer (RFC 6901) inside the object; "" is the document
	Object   string `json:"object"`   // "apps/v1 Deployment podinfo"
	Class    Class  `json:"class"`
	Value    string `json:"value"` // as written
	// FileDigest is the digest of the file as scanned.
	FileDigest digest.Digest `json:"fileDigest"`
	// Offset and Length delimit the bytes of File that pin replaces with the new
	// reference. Length is 0 if Parts lists what to replace.
	Offset int `json:"offset"`
	Length int `json:"length"`
	// Parts is set if the reference is split over several fields.
	Parts []Part `json:"parts,omitempty"`
	// Never is the reason why the location must not be pinned (`pin: never`); "" if it may be
	// pinned.
	Never string `json:"never,omitempty"`
	// KeepTag reports that pin must keep the tag as written. It is set everywhere
	// except in the PodSpecs of Kubernetes' own workloads: operators, charts and
	// admission webhooks read versions from tags.
	KeepTag bool `json:"keepTag,omitempty"`
	// NoTag reports that the reader of the location rejects a tag together with a digest.
	NoTag bool `json:"noTag,omitempty"`
	// Alias is the position of the YAML alias through which this location reads the
	// bytes at Offset. Pin replaces the alias if those bytes cannot be changed.
	Alias *Range `json:"alias,omitempty"`
	// Shared reports that an anchor also makes the bytes at Offset the value of
	// fields that are not references, such as a name or a label.
	Shared bool `json:"shared,omitempty"`
	Source
}

// Range is a range of bytes in a file.
type Range struct {
	Offset int `json:"offset"`
	Length int `json:"length"`
}

// Place returns the position of the reference as file:line:column.
func (l Location) Place() string { return Place(l.File, l.Line, l.Column) }

// Place formats a position for messages: file:line:column. A line or column of 0 is left out,
// with what follows it.
func Place(file string, line, column int) string {
	switch {
	case line == 0:
		return file
	case column == 0:
		return fmt.Sprintf("%s:%d", file, line)
	}
	return fmt.Sprintf("%s:%d:%d", file, line, column)
}

// Part is one field of a reference that is split over several.
type Part struct {
	Pointer string `json:"pointer"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Value   string `json:"value"`
	Offset  int    `json:"offset"`
	Length  int    `json:"length"`
	// Role is what the field contains, and therefore what pin writes there: "registry",
	// "repository" (host and path, or only the path if there is a registry part), "image" (last
	// path element), "tag", "digest", "sha" (the hex of a sha256 digest), "version" (tag or
	// digest), "algorithm" (of the digest whose hex is the version).
	Role string `json:"role"`
	// Alias and Shared have the same meaning as in Location.
	Alias  *Range `json:"alias,omitempty"`
	Shared bool   `json:"shared,omitempty"`
}

// Reference is one normalised reference with all its locations.
type Reference struct {
	Source    string     `json:"source"` // as first written
	Name      string     `json:"name"`   // normalised: docker.io/library/nginx:1
	Locations []Location `json:"locations"`
}

// Placeholder is a value in an image field that something else replaces later:
// "", auto, $(X), {{x}}, ko://….
type Placeholder struct {
	Value   string `json:"value"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Pointer string `json:"pointer"`
	Object  string `json:"object,omitempty"`
	Pod     bool   `json:"pod,omitempty"` // a pod would run it
	// Reason is why the meaning of the value is unknown; "" for a known placeholder.
	Reason string `json:"reason,omitempty"`
	Source
}

// Skipped is a file that is left out of the content, with the reason.
type Skipped struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // 0 for the whole file
	Reason string `json:"reason"`
	// Invalid reports that the file does not parse. Package fails on it unless invalid files are
	// skipped; Images only reports it.
	Invalid bool `json:"invalid,omitempty"`
	Source
}

// Object is a Kubernetes object in the manifests.
type Object struct {
	File       string `json:"file"`
	Document   int    `json:"document"`
	Line       int    `json:"line"`
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"` // "" if generateName is used, or there is neither
	// Hook is the list of Helm events that the object is a hook for (helm.sh/hook), or, without
	// it, of the events of Argo CD (argocd.argoproj.io/hook).
	Hook string `json:"hook,omitempty"`
}

// Mention is an image that an object refers to but does not run, such as the target
// of a push or an entry of an allow list.
type Mention struct {
	Value   string `json:"value"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Pointer string `json:"pointer"`
	Object  string `json:"object,omitempty"`
	Reason  string `json:"reason"`
	Source
}

// Credential is a credential in plain text in an object. Its value is only in the manifest.
type Credential struct {
	File      string `json:"file"`
	Line      int    `json:"line"`
	Column    int    `json:"column"`
	Pointer   string `json:"pointer"` // JSON pointer of the field
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Key names the value for people: a key of a Secret or ConfigMap, or the name of a variable.
	Key string `json:"key"`
	// What describes the credential: "a private key".
	What string `json:"what"`
	// Reason is why the pipeline accepts it; "" if it does not.
	Reason string `json:"reason,omitempty"`
}

// Report is the result of scan. Every list is sorted: references by Source,
// locations by file, document and offset, the others by file and line.
type Report struct {
	References   []Reference   `json:"references"`
	Placeholders []Placeholder `json:"placeholders"`
	Skipped      []Skipped     `json:"skipped"`
	Objects      []Object      `json:"objects"`
	// Excluded are references that the configuration of the pipeline excludes.
	Excluded []Reference `json:"excluded,omitempty"`
	// Mentions are images that no object runs.
	Mentions []Mention `json:"mentions,omitempty"`
	// Credentials are credentials in plain text.
	Credentials []Credential `json:"credentials,omitempty"`
}

// Image is a resolved reference.
type Image struct {
	Ref            string        `json:"ref"`    // source with digest
	Source         string        `json:"source"` // as first written
	Name           string        `json:"name"`   // normalised
	Digest         digest.Digest `json:"digest"` // "" if unresolved and not given in the manifest
	DigestProvided bool          `json:"digestProvided"`
	MediaType      string        `json:"mediaType"`
	Size           int64         `json:"size"` // bytes of the manifest or index itself
	Locations      []Location    `json:"locations"`
	Manifests      []Manifest    `json:"manifests"` // for an index, its manifests in order, including those of nested indexes; otherwise the manifest itself
	Related        []Related     `json:"related"`   // sorted by (to, digest)
	// Environments are the environments whose manifests name the image, sorted. They are known at
	// the end of a run, if the pipeline has environments.
	Environments []string `json:"environments,omitempty"`
	// Platform is set if one manifest of an index was selected, or if From contains no other.
	// Digest is then the digest of that manifest, and IndexDigest the digest of the index.
	Platform    string        `json:"platform,omitempty"`
	IndexDigest digest.Digest `json:"indexDigest,omitempty"`
	// From is the place that an image is read from if it is not in a registry; "" is the registry
	// in its name. A path is relative to the working directory.
	From local.Place `json:"from,omitempty"`
}

// Repository splits the normalised name into repository and tag, without the digest.
// The tag is "" if the name has none.
func (i Image) Repository() (name, tag string) {
	r := imageref.Split(i.Name)
	return r.Name, r.Tag
}

// Manifest is a manifest that an image index contains.
type Manifest struct {
	Digest       digest.Digest `json:"digest"`
	MediaType    string        `json:"mediaType"`
	Platform     string        `json:"platform"` // os/arch[/variant]; unknown/unknown as given; "" if none
	Size         int64         `json:"size"`
	ArtifactType string        `json:"artifactType,omitempty"`
	// Reference is the digest of the manifest that an inline attestation manifest is
	// about (vnd.docker.reference.digest).
	Reference digest.Digest `json:"reference,omitempty"`
}

// Values of Related.Kind and Related.Via.
const (
	Signature   = "signature"
	Attestation = "attestation"
	SBOM        = "sbom"
	Other       = "other"

	Inline   = "inline"
	Tag      = "tag"
	Referrer = "referrer"
)

// Related is a manifest that was published with an image: a signature, an attestation or an SBOM.
// An inline manifest that contains both provenance and an SBOM is listed once for each kind.
type Related struct {
	Kind         string        `json:"kind"` // signature|attestation|sbom|other
	Via          string        `json:"via"`  // inline|tag|referrer
	Digest       digest.Digest `json:"digest"`
	Tag          string        `json:"tag,omitempty"` // sha256-<hex>.sig, if found by tag
	To           digest.Digest `json:"to"`            // the image or platform manifest that it is about
	ArtifactType string        `json:"artifactType"`
	MediaType    string        `json:"mediaType"`
	Size         int64         `json:"size"`
}

// List is the result of resolve and of discover.
type List struct {
	Images []Image `json:"images"` // sorted by Source
	// Unpinned are indirect references that stay as written, because their registry does not have
	// them or because they must not be pinned.
	Unpinned []Unpinned `json:"unpinned"`
	// Unknown has one sentence for each image whose related manifests could not be
	// listed.
	Unknown []string `json:"unknown,omitempty"`
}

// Unpinned is a reference that stays as written, with the reason.
type Unpinned struct {
	Reference
	Reason string `json:"reason"`
}

// Edit is one replacement made by pin.
type Edit struct {
	File     string        `json:"file"`
	Document int           `json:"document"`
	Pointer  string        `json:"pointer"`
	Line     int           `json:"line"`
	Column   int           `json:"column"`
	Original string        `json:"original"` // the bytes that were replaced
	Resolved string        `json:"resolved"` // normalised reference with digest
	Replaced string        `json:"replaced"` // the bytes that were written
	Digest   digest.Digest `json:"digest"`   // of the image
	Offset   int           `json:"offset"`   // of Replaced, in the output file
	// KeepTag reports that the tag was kept as written, see [Location].
	KeepTag bool `json:"keepTag,omitempty"`
}

// FileEdits holds the edits of one file, sorted by offset.
type FileEdits struct {
	File   string        `json:"file"`
	Before digest.Digest `json:"before"` // of the file as read
	After  digest.Digest `json:"after"`  // of the file as written
	Edits  []Edit        `json:"edits"`
}

// Edits lists all edits made by pin, sorted by file. Unedited files are left out.
type Edits struct {
	Files []FileEdits `json:"files"`
	// Unpinned are references that pin could not replace, with the locations that
	// stay as written.
	Unpinned []Unpinned `json:"unpinned,omitempty"`
}

// MediaTypeMoved is the media type of a Moved document: mirror → push.
const MediaTypeMoved = "application/vnd.tape.moved.v1+json"

// Moved describes what mirror did.
type Moved struct {
	transfer.Moved

	// Empty reports that the destination contained nothing, and so had no tags.
	Empty bool `json:"empty,omitempty"`
	// Copied are the manifests of images, and those related to them, that the destination did not
	// have, sorted.
	Copied []digest.Digest `json:"copied"`
	// Referrers are manifests with a subject that the destination might not list, sorted by
	// subject and digest.
	Referrers []transfer.Referrer `json:"referrers"`
}
