// SPDX-License-Identifier: Apache-2.0

// Package images holds the nouns that stages exchange about images: the
// references found in manifests, the images they resolve to, and what is
// published beside those. The documents are JSON blobs with the media types
// below; their fields are those of `tape images -o json`.
package images

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/local"
)

// Media types of the documents.
const (
	MediaTypeReport = "application/vnd.tape.references.v1+json" // Report: scan → resolve, pin, content, attest
	MediaTypeList   = "application/vnd.tape.images.v1+json"     // List: resolve → discover → mirror, pin, attest, index
	MediaTypeEdits  = "application/vnd.tape.edits.v1+json"      // Edits: pin → attest
)

// Class says how sure it is that a value is an image reference, and who reads it.
type Class string

// The classes.
const (
	Pod      Class = "pod"      // a PodSpec, whatever kind it stands in
	CRD      Class = "crd"      // an image field of any other kind
	Indirect Class = "indirect" // env, args, annotations, ConfigMap data, embedded manifests
)

// Source is the file that a rendered one was made of. It is known where a run ends,
// and not published: it depends on the working directory.
type Source struct {
	// Origin is relative to the working directory, slash-separated. It is the source,
	// with a slash at the end of a folder, where the rendered file was made of no one
	// file; "" where nothing is on disk.
	Origin string `json:"origin,omitempty"`
	// OriginLine is the line in it that the line in the rendered file is; 0 where
	// the two files differ.
	OriginLine int `json:"originLine,omitempty"`
}

// Place is where something that stands in a rendered file is on disk, as far as that
// is known: origin:line:column, else the origin and the place in the rendered file,
// with the digest of that, if given.
func (s Source) Place(rendered string, line, column int, scanned digest.Digest) string {
	at := ""
	if scanned != "" {
		at = "@" + scanned.String()
	}
	switch {
	case s.Origin == "":
		return Place(rendered, line, column) + at
	case line == s.OriginLine && !strings.HasSuffix(s.Origin, "/"): // the files are the same, or the whole file is meant
		return Place(s.Origin, line, column) + at
	}
	return fmt.Sprintf("%s (rendered: %s%s)", s.Origin, Place(rendered, line, column), at)
}

// Location is one place where a reference stands.
type Location struct {
	File     string `json:"file"`     // slash-separated, below the manifests
	Document int    `json:"document"` // YAML document in the file, from 0
	Line     int    `json:"line"`     // from 1, of the text on disk that holds the reference
	Column   int    `json:"column"`   // from 1, in characters
	Pointer  string `json:"pointer"`  // JSON pointer (RFC 6901) inside the object; "" is the document
	Object   string `json:"object"`   // "apps/v1 Deployment podinfo"
	Class    Class  `json:"class"`
	Value    string `json:"value"` // as written
	// FileDigest is of the bytes of the file as scanned.
	FileDigest digest.Digest `json:"fileDigest"`
	// Offset and Length are the bytes of File that pin replaces by the new
	// reference. Length is 0 where Parts say what to replace.
	Offset int `json:"offset"`
	Length int `json:"length"`
	// Parts is set where the reference is split over several fields.
	Parts []Part `json:"parts,omitempty"`
	// Never says that the place is not to be pinned (`pin: never`, with the reason).
	Never string `json:"never,omitempty"`
	// KeepTag says that the tag stays as written when the place is pinned. It is
	// set everywhere but in the PodSpecs of Kubernetes' own workloads: operators,
	// charts and admission webhooks read versions from tags.
	KeepTag bool `json:"keepTag,omitempty"`
	// Alias is where a YAML alias stands through which the bytes at Offset are
	// read here. Pin writes the reference there where the bytes cannot be changed.
	Alias *Range `json:"alias,omitempty"`
	// Shared reports that the bytes at Offset are also read, through an anchor, in
	// places that are not references: a name, a label.
	Shared bool `json:"shared,omitempty"`
	Source
}

// Range is a stretch of bytes of a file.
type Range struct {
	Offset int `json:"offset"`
	Length int `json:"length"`
}

// Place is where the reference stands.
func (l Location) Place() string { return Place(l.File, l.Line, l.Column) }

// Place is how every message says where something stands: file:line:column. What
// is 0 is left out, with what comes after it.
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
	// Role is what the field holds, and so what pin writes there: "registry",
	// "repository" (host and path, or path where there is a registry part),
	// "image" (last path element), "tag", "digest", "sha" (the hex of a sha256
	// digest), "version" (tag or digest).
	Role string `json:"role"`
	// Alias and Shared are what they are of a Location.
	Alias  *Range `json:"alias,omitempty"`
	Shared bool   `json:"shared,omitempty"`
}

// Reference is one normalised reference with every place it stands in.
type Reference struct {
	Source    string     `json:"source"` // as first written
	Name      string     `json:"name"`   // normalised: docker.io/library/nginx:1
	Locations []Location `json:"locations"`
}

// Placeholder is a value in an image field that is filled in later by something
// else: "", auto, $(X), {{x}}, ko://….
type Placeholder struct {
	Value   string `json:"value"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Pointer string `json:"pointer"`
	Object  string `json:"object,omitempty"`
	Pod     bool   `json:"pod,omitempty"` // a pod would run it
	// Reason why it is not known what the value means; "" is that it is a placeholder.
	Reason string `json:"reason,omitempty"`
	Source
}

// Skipped is a file that is not in the content, and why.
type Skipped struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // 0 where the whole file is meant
	Reason string `json:"reason"`
	// Invalid says that the file does not parse: package fails on it unless
	// --skip-invalid, images only reports it.
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
	Name       string `json:"name,omitempty"` // "" where generateName is used or nothing is
	// Hook are the events of Helm's that the object is a hook of (helm.sh/hook).
	Hook string `json:"hook,omitempty"`
}

// Mention is an image that an object speaks of and does not run: a place that
// something is pushed to, an entry of a list to compare with.
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

// Report is what scan found. Every list is sorted: references by Source,
// locations by file, document, offset; the others by file and line.
type Report struct {
	References   []Reference   `json:"references"`
	Placeholders []Placeholder `json:"placeholders"`
	Skipped      []Skipped     `json:"skipped"`
	Objects      []Object      `json:"objects"`
	// Excluded references were found and left out by the pipeline's wish.
	Excluded []Reference `json:"excluded,omitempty"`
	// Mentions are images that are not run.
	Mentions []Mention `json:"mentions,omitempty"`
}

// Image is a reference resolved.
type Image struct {
	Ref            string        `json:"ref"`    // source with digest
	Source         string        `json:"source"` // as first written
	Name           string        `json:"name"`   // normalised
	Digest         digest.Digest `json:"digest"` // "" with --no-resolve unless the manifest gave one
	DigestProvided bool          `json:"digestProvided"`
	MediaType      string        `json:"mediaType"`
	Size           int64         `json:"size"` // bytes of the manifest or index itself
	Locations      []Location    `json:"locations"`
	Manifests      []Manifest    `json:"manifests"` // what an index leads to, in its order, and below each index in it; else the manifest itself
	Related        []Related     `json:"related"`   // sorted by (to, digest)
	// Platform is set where --platform chose one manifest of an index, or From has
	// no other; Digest is then that manifest's, IndexDigest the index's.
	Platform    string        `json:"platform,omitempty"`
	IndexDigest digest.Digest `json:"indexDigest,omitempty"`
	// From is where the image is taken from that is in no registry; "" is the
	// registry of its name. A path in it is relative to the working directory.
	From local.Place `json:"from,omitempty"`
}

// Repository is the normalised name without the digest, and its tag, "" where it
// has none.
func (i Image) Repository() (name, tag string) {
	name, _, _ = strings.Cut(i.Name, "@")
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		return name[:at], name[at+1:]
	}
	return name, ""
}

// Manifest is one that an image index leads to.
type Manifest struct {
	Digest       digest.Digest `json:"digest"`
	MediaType    string        `json:"mediaType"`
	Platform     string        `json:"platform"` // os/arch[/variant]; unknown/unknown as given; "" where none
	Size         int64         `json:"size"`
	ArtifactType string        `json:"artifactType,omitempty"`
	// Reference is the digest that an inline attestation manifest
	// (vnd.docker.reference.digest) speaks of.
	Reference digest.Digest `json:"reference,omitempty"`
}

// Kinds and ways of related manifests.
const (
	Signature   = "signature"
	Attestation = "attestation"
	SBOM        = "sbom"
	Other       = "other"

	Inline   = "inline"
	Tag      = "tag"
	Referrer = "referrer"
)

// Related is a manifest published beside an image: a signature, an attestation,
// an SBOM. One inline manifest that holds both provenance and an SBOM is listed
// once a kind.
type Related struct {
	Kind         string        `json:"kind"` // signature|attestation|sbom|other
	Via          string        `json:"via"`  // inline|tag|referrer
	Digest       digest.Digest `json:"digest"`
	Tag          string        `json:"tag,omitempty"` // sha256-<hex>.sig, where found by tag
	To           digest.Digest `json:"to"`            // the image or platform manifest it is about
	ArtifactType string        `json:"artifactType"`
	MediaType    string        `json:"mediaType"`
	Size         int64         `json:"size"`
}

// List is what resolve and discover say.
type List struct {
	Images []Image `json:"images"` // sorted by Source
	// Unpinned are indirect references that their registry does not have (or
	// that may not be pinned): they stay as written.
	Unpinned []Unpinned `json:"unpinned"`
	// Unknown says that related manifests could not be asked for: a sentence
	// an image.
	Unknown []string `json:"unknown,omitempty"`
}

// Unpinned is a reference that stays as it was written.
type Unpinned struct {
	Reference
	Reason string `json:"reason"`
}

// Edit is one replacement pin made.
type Edit struct {
	File     string        `json:"file"`
	Document int           `json:"document"`
	Pointer  string        `json:"pointer"`
	Line     int           `json:"line"`
	Column   int           `json:"column"`
	Original string        `json:"original"` // the bytes replaced
	Resolved string        `json:"resolved"` // normalised reference with digest
	Replaced string        `json:"replaced"` // the bytes written
	Digest   digest.Digest `json:"digest"`   // of the image
	Offset   int           `json:"offset"`   // of Replaced, in the output file
	// KeepTag reports that the tag was written as it was, see [Location].
	KeepTag bool `json:"keepTag,omitempty"`
}

// FileEdits are the edits of one file, by offset.
type FileEdits struct {
	File   string        `json:"file"`
	Before digest.Digest `json:"before"` // of the file's bytes
	After  digest.Digest `json:"after"`
	Edits  []Edit        `json:"edits"`
}

// Edits is what pin did, sorted by file. Files without an edit are not in it.
type Edits struct {
	Files []FileEdits `json:"files"`
	// Unpinned are references that pin had to leave as they are, with the
	// places that it left.
	Unpinned []Unpinned `json:"unpinned,omitempty"`
}
