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

// Facts describes one source. It does not depend on where the clone is, how deep it is,
// or who runs tape.
type Facts struct {
	// Name is the name of the source in the pipeline.
	Name string `json:"name,omitempty"`
	// Environment is the environment that the source is rendered for, "" if the pipeline
	// has none.
	Environment string `json:"environment,omitempty"`
	// Path is the path of the source relative to the top of its repository,
	// slash-separated, "." for the top. Without a repository it is relative to the
	// folder of the pipeline file, else to the smallest folder that contains all inputs.
	Path string `json:"path"`
	// Reference is the reference of a remote source, "" for a local one.
	Reference string `json:"reference,omitempty"`
	// Repositories are those that contain inputs: none, one, or several if there are
	// submodules; sorted by Dir.
	Repositories []Repository `json:"repositories"`
	// Files are the files that were read, sorted by Path.
	Files []File `json:"files"`
	// Modified is the worst of the repositories and files: Yes, Unknown, No. It is
	// Unknown without a repository.
	Modified Tristate `json:"modified"`
}

// Repository describes a git repository and its HEAD.
type Repository struct {
	// Dir is the top of the repository relative to the top of the outermost one: "." or
	// the path of a submodule.
	Dir string `json:"dir"`
	// URI is the fetch URL, without credentials, of the remote that HEAD's branch
	// follows, else of origin, else of the only remote; "" if there is none, or if it is
	// a folder on this machine, whose name means nothing elsewhere.
	URI     string   `json:"uri,omitempty"`
	Remotes []Remote `json:"remotes,omitempty"` // sorted by name
	// Commit and Tree are HEAD's, hex; "" in a repository without commits.
	Commit string `json:"commit,omitempty"`
	Tree   string `json:"tree,omitempty"`
	// PathTree is the hash of the tree (or blob) at the source's path, "" if untracked.
	PathTree string `json:"pathTree,omitempty"`
	// Ref is the reference in HEAD (refs/heads/main), "" if HEAD is detached.
	Ref string `json:"ref,omitempty"`
	// Tags are the tags of HEAD's commit, sorted by name.
	Tags []GitTag `json:"tags,omitempty"`
	// CommitTime is the committer's time, in UTC.
	CommitTime time.Time `json:"commitTime,omitzero"`
	// Removed are files that HEAD has in one of the source's folders but the disk does
	// not, sorted; at most 100.
	Removed []string `json:"removed,omitempty"`
	// Modified is Yes if an input in this repository differs from HEAD or is untracked,
	// or if a file of HEAD in one of the source's folders was removed.
	Modified Tristate `json:"modified"`
}

// Remote is a remote of a repository. URLs have no credentials; folders on this machine
// are left out.
type Remote struct {
	Name string   `json:"name"`
	URLs []string `json:"urls"`
}

// GitTag is a tag at HEAD.
type GitTag struct {
	Name string `json:"name"`
	// Signed reports whether it is an annotated tag with a signature, which is not
	// verified.
	Signed bool `json:"signed"`
}

// File is one input.
type File struct {
	// Path is relative to the same folder as Facts.Path.
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"` // of the bytes read
	// Repository is the Dir of the repository that contains the file; "" if none.
	Repository string `json:"repository,omitempty"`
	// Blob is the git object id of the bytes read, in the repository's hash.
	Blob      string   `json:"blob,omitempty"`
	Modified  Tristate `json:"modified"`
	Untracked bool     `json:"untracked,omitempty"`
	// Locked reports that the file is untracked but a committed lock has its digest, so
	// that it does not count as modified.
	Locked bool `json:"locked,omitempty"`
	// Link is the path of the file that a symbolic link at Path points to.
	Link string `json:"link,omitempty"`
}
