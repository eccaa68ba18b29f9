// SPDX-License-Identifier: Apache-2.0

// Package vcs says where files came from: the repositories, commits and trees
// that hold them, and whether they differ from what is committed there.
package vcs

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// MediaType is of a Facts document: source → content, attest, index.
const MediaType = "application/vnd.tape.source.v1+json"

// Tristate is a fact that may be unknown; unknown is never taken for no.
type Tristate string

// The three states.
const (
	Yes     Tristate = "yes"
	No      Tristate = "no"
	Unknown Tristate = "unknown"
)

// Facts are what is known of one source. Nothing in it depends on where the
// clone lies, how deep it is, or who asks.
type Facts struct {
	// Name of the source in the pipeline.
	Name string `json:"name,omitempty"`
	// Path of the source below the repository's top, slash-separated, "." for
	// the top. Where there is no repository it is below the pipeline file's
	// folder, else below the smallest folder that holds every input.
	Path string `json:"path"`
	// Reference is set for a remote source instead.
	Reference string `json:"reference,omitempty"`
	// Repositories that hold inputs: none, one, or more with submodules; sorted by Dir.
	Repositories []Repository `json:"repositories"`
	// Files that were read, sorted by Path.
	Files []File `json:"files"`
	// Modified: the worst of the repositories and files; unknown where there is
	// no repository.
	Modified Tristate `json:"modified"`
}

// Repository is a git repository at its HEAD.
type Repository struct {
	// Dir is the repository's top below the first repository's top: "." or a
	// submodule's path.
	Dir string `json:"dir"`
	// URI is the fetch URL of the remote that HEAD's branch follows, else of
	// origin, else of the only one; without credentials; "" where none. A clone
	// of a folder of this machine has none: its name means nothing elsewhere.
	URI     string   `json:"uri,omitempty"`
	Remotes []Remote `json:"remotes,omitempty"` // sorted by name
	// Commit and Tree are HEAD's, hex; "" in a repository without commits.
	Commit string `json:"commit,omitempty"`
	Tree   string `json:"tree,omitempty"`
	// PathTree is the hash of the tree (or blob) at the source's path, "" where untracked.
	PathTree string `json:"pathTree,omitempty"`
	// Ref is what HEAD names (refs/heads/main), "" where detached.
	Ref string `json:"ref,omitempty"`
	// Tags point at HEAD's commit, sorted by name.
	Tags []GitTag `json:"tags,omitempty"`
	// CommitTime is the committer's, UTC.
	CommitTime time.Time `json:"commitTime,omitzero"`
	// Removed are files that HEAD has in a folder that was taken, and the disk has
	// not; sorted, the first ones of many.
	Removed []string `json:"removed,omitempty"`
	// Modified: any input in this repository differs from HEAD or is untracked,
	// or something that HEAD has in a folder that was taken is not there.
	Modified Tristate `json:"modified"`
}

// Remote of a repository. URLs carry no credentials; remotes that are folders of
// this machine are left out.
type Remote struct {
	Name string   `json:"name"`
	URLs []string `json:"urls"`
}

// GitTag is a tag at HEAD.
type GitTag struct {
	Name string `json:"name"`
	// Signed: an annotated tag that carries a signature (nothing is verified).
	Signed bool `json:"signed"`
}

// File is one input.
type File struct {
	// Path below the repository's top, as in Facts.Path.
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"` // of the bytes read
	// Repository is the Dir of the repository that the file lies in; "" where none.
	Repository string `json:"repository,omitempty"`
	// Blob is the git object id of the bytes read, in the repository's hash.
	Blob      string   `json:"blob,omitempty"`
	Modified  Tristate `json:"modified"`
	Untracked bool     `json:"untracked,omitempty"`
	// Locked: it is untracked, and a committed lock has its digest: not modified.
	Locked bool `json:"locked,omitempty"`
	// Link is the path of the file that a symbolic link at Path led to.
	Link string `json:"link,omitempty"`
}
