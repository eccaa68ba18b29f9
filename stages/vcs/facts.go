// SPDX-License-Identifier: Apache-2.0

// Package vcs finds out where files came from: the repositories, commits and trees that
// contain them, and whether they differ from what is committed.
package vcs

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// MediaType is the media type of a Facts document: source → content, attest, index.
const MediaType = "application/vnd.tape.source.v1+json"

// Tristate is a fact that may be unknown. Unknown is never treated as No.
type Tristate string

// The three states.
const (
	Yes     Tristate = "yes"
	No      Tristate = "no"
	Unknown Tristate = "unknown"
)

// Facts describes one source. It does not depend on where the clone is, on its depth, or on who
// runs tape.
type Facts struct {
	// Name is the name of the source in the pipeline.
	Name string `json:"name,omitempty"`
	// Environment is the environment that the source is rendered for, or "" if the pipeline has
	// none.
	Environment string `json:"environment,omitempty"`
	// Path is the path of the source relative to the top of its repository, slash-separated; "."
	// is the top. Without a repository, it is relative to the folder of the pipeline file or, if
	// there is none, to the smallest folder that contains all inputs.
	Path string `json:"path"`
	// Reference is the reference of a remote source, or "" for a local one.
	Reference string `json:"reference,omitempty"`
	// Repositories are the repositories that contain inputs: none, one, or several if there are
	// submodules; sorted by Dir.
	Repositories []Repository `json:"repositories"`
	// Files are the files that were read, sorted by Path.
	Files []File `json:"files"`
	// Modified is the worst state of the repositories and files: Yes, Unknown, No. It is Unknown
	// without a repository.
	Modified Tristate `json:"modified"`
}

// Repository describes a git repository and its HEAD.
type Repository struct {
	// Dir is the top of the repository relative to the top of the outermost one: "." or
	// the path of a submodule.
	Dir string `json:"dir"`
	// URI is the fetch URL, without credentials, of the remote that the branch of HEAD follows,
	// or else of origin, or else of the only remote. It is "" if there is no remote, or if it is
	// a folder on this machine, whose name means nothing elsewhere.
	URI     string   `json:"uri,omitempty"`
	Remotes []Remote `json:"remotes,omitempty"` // sorted by name
	// Commit and Tree are the hexadecimal IDs of HEAD, or "" in a repository without commits.
	Commit string `json:"commit,omitempty"`
	Tree   string `json:"tree,omitempty"`
	// PathTree is the hash of the tree (or blob) at the path of the source, or "" if it is
	// untracked.
	PathTree string `json:"pathTree,omitempty"`
	// Ref is the reference in HEAD (refs/heads/main), or "" if HEAD is detached.
	Ref string `json:"ref,omitempty"`
	// Tags are the tags of the commit in HEAD, sorted by name.
	Tags []GitTag `json:"tags,omitempty"`
	// CommitTime is the time of the committer, in UTC.
	CommitTime time.Time `json:"commitTime,omitzero"`
	// Removed are files that are in HEAD, in one of the folders of the source, but not on disk;
	// sorted, and at most 100.
	Removed []string `json:"removed,omitempty"`
	// Modified is Yes if an input in this repository differs from HEAD or is untracked, or if a
	// file of HEAD in one of the folders of the source was removed.
	Modified Tristate `json:"modified"`
}

// Remote is a remote of a repository. URLs do not contain credentials, and folders on this
// machine are left out.
type Remote struct {
	Name string   `json:"name"`
	URLs []string `json:"urls"`
}

// GitTag is a tag at HEAD.
type GitTag struct {
	Name string `json:"name"`
	// Signed reports whether it is an annotated tag with a signature. The signature is not
	// verified.
	Signed bool `json:"signed"`
}

// File is one input.
type File struct {
	// Path is relative to the same folder as Facts.Path.
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"` // of the bytes read
	// Repository is the Dir of the repository that contains the file, or "" if there is none.
	Repository string `json:"repository,omitempty"`
	// Blob is the ID of the git object for the bytes read, in the hash of the repository.
	Blob      string   `json:"blob,omitempty"`
	Modified  Tristate `json:"modified"`
	Untracked bool     `json:"untracked,omitempty"`
	// Locked reports that the file is untracked but a committed lock has its digest, so that it
	// does not count as modified.
	Locked bool `json:"locked,omitempty"`
	// Link is the path of the file that a symbolic link at Path points to.
	Link string `json:"link,omitempty"`
}
