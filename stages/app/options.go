// SPDX-License-Identifier: Apache-2.0

package app

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/cache/remote"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/push"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/source"
)

// PipelineFile is the name of a checked-in pipeline.
const PipelineFile = "tape.yaml"

// Options are common to what renders: Images, Render and Package.
type Options struct {
	Environment
	// Sources to render; with none, Pipeline says what to do.
	Sources []Source
	// Pipeline is a pipeline file.
	Pipeline string
	// Args are values for the pipeline's arguments.
	Args map[string]string
	// Environments are those of the pipeline to take; none is all.
	Environments []string
	// Deterministic renders twice and fails on a difference.
	Deterministic bool
	// SkipInvalid leaves out files that do not parse instead of failing.
	SkipInvalid bool
	// SkipSealed accepts that images of sealed objects are not pinned.
	SkipSealed bool
	// NoCache renders anew.
	NoCache bool
	// Cache shares what is kept with other machines; nil keeps it on this one. Without a
	// store nothing is kept, and nothing shared.
	Cache *remote.Cache
	// Audit is how many percent of the kept results that are used are made again and
	// compared. A difference is an error.
	Audit float64
	// Strict makes warnings errors.
	Strict bool
	// Locked fails where anything is not as tape.lock says.
	Locked bool
	// Update writes tape.lock: "images", "interpreters", "materials", the name
	// of one of those in the lock, or "all". Empty writes nothing.
	Update string
	// Platform takes one platform of every image: os/arch[/variant].
	Platform string
	// Related is what beside the images to take: default, all or none.
	Related string
	// From says where images are that are in no registry, by reference or pattern,
	// beside what the pipeline says. Paths are relative to the working directory.
	From map[string]local.Place
	// Created is the time that the artifact gives as its own; zero: the commit's.
	Created time.Time
	// Version of tape, for the provenance.
	Version string
	// Signer signs root and content; nil leaves them unsigned.
	Signer Signer
	// Trust is a trust file that the images must hold against before any is copied; "" is
	// none.
	Trust string

	// digests are those of the images, by normalised name, in place of a lock's.
	digests map[string]digest.Digest
}

// Source is a folder, a file or a remote reference.
type Source struct {
	// Name is the folder that its manifests get when there are several; "" is
	// the last element of Path.
	Name string
	// Path is relative to the working directory.
	Path string
	// Interpreter by name; "" finds it.
	Interpreter string
	// Settings of the interpreter, in order: a later one of the same name
	// replaces an earlier one, or is added where the option is a list.
	Settings []Setting
	// Temporary: Path goes away with the run, and messages do not name it.
	Temporary bool
}

// Setting is one option of an interpreter, by name.
type Setting = source.Setting

// Interpreters finds interpreters; plugins/host runs those that are programs.
type Interpreters = rendering.Interpreters

// PackageOptions are what Package takes.
type PackageOptions struct {
	Options
	// Repository to push to, without tag or digest.
	Repository string
	// Tags of the root; none: git's version tags at a clean HEAD, else
	// config.<12 hex of the content layer's digest>.
	Tags []string
	// SBOM adds an SPDX 2.3 document of the application to the statements.
	SBOM bool
	// Check walks what the destination has instead of trusting that an index
	// there has its children.
	Check bool
	// Save is an archive to write. Nothing is pushed then, unless Push.
	Save string
	Push bool
	// DryRun does everything but write anywhere.
	DryRun bool
	// Immutable refuses to move a tag that leads to something else, before anything
	// is pushed.
	Immutable bool
}

// PackageResult is what was made.
type PackageResult struct {
	Root struct {
		Ref    string        `json:"ref"`
		Digest digest.Digest `json:"digest"`
		Size   int64         `json:"size"`
	} `json:"root"`
	Content struct {
		Ref    string        `json:"ref"`
		Digest digest.Digest `json:"digest"`
	} `json:"content"`
	Tags []string `json:"tags"`
	// TagReason says why git's version tags are not among Tags.
	TagReason string `json:"tag_reason,omitempty"`
	// MovedTags led to something else before, sorted; after a dry run they would move.
	MovedTags []transfer.MovedTag `json:"moved_tags"`
	Images    []PackagedImage     `json:"images"`
	// Environments are the first folders of the content, where the pipeline has them.
	Environments []string          `json:"environments,omitempty"`
	Related      int               `json:"related"`
	Unpinned     []images.Unpinned `json:"unpinned"`
	// Placeholders are image fields that something else fills in later.
	Placeholders []images.Placeholder `json:"placeholders"`
	Skipped      []images.Skipped     `json:"skipped"`
	Signed       bool                 `json:"signed"`
	Nodes        []NodeResult         `json:"nodes"`
	// Moved is what went into the repository or, where nothing was pushed, into
	// the archive; of a dry run what would go.
	Moved    transfer.Moved `json:"moved"`
	File     string         `json:"file,omitempty"` // the archive
	DryRun   bool           `json:"dryRun,omitempty"`
	Warnings []string       `json:"warnings"`
}

// PackagedImage is an image in the artifact, under the name that the manifests
// have for it.
type PackagedImage = push.PushedImage

// NodeResult is how a node of the graph ended.
type NodeResult struct {
	Name    string       `json:"name"`
	State   engine.State `json:"state"`
	Seconds float64      `json:"seconds"`
}

// ImagesOptions are what Images takes.
type ImagesOptions struct {
	Options
	// Resolve asks registries for digests, manifests and what is beside them.
	Resolve bool
	// Classes to show; none is all.
	Classes []images.Class
}

// ImagesResult is what the manifests name.
type ImagesResult struct {
	Images       []images.Image       `json:"images"`
	Placeholders []images.Placeholder `json:"placeholders"`
	Skipped      []images.Skipped     `json:"skipped"`
	Unpinned     []images.Unpinned    `json:"unpinned,omitempty"`
	// Mentions are images that objects speak of and do not run.
	Mentions []images.Mention `json:"mentions,omitempty"`
}

// RenderOptions are what Render takes.
type RenderOptions struct {
	Options
	// Out is a folder to write to, created or empty; "" writes nothing.
	Out   string
	Force bool // replaces what is in Out
}
