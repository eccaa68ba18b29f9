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

// Options are shared by everything that renders: Images, Render and Package.
type Options struct {
	Environment
	// Sources to render; if empty, Pipeline is used.
	Sources []Source
	// Pipeline is a pipeline file.
	Pipeline string
	// Args are values for the pipeline's arguments.
	Args map[string]string
	// Environments are those of the pipeline to render; none means all.
	Environments []string
	// Deterministic renders twice and fails on a difference.
	Deterministic bool
	// SkipInvalid leaves out files that cannot be parsed instead of failing.
	SkipInvalid bool
	// SkipSealed accepts that images of sealed objects are not pinned.
	SkipSealed bool
	// NoCache renders again, without the cache.
	NoCache bool
	// Cache shares results with other machines; nil keeps them on this one. Without a store
	// nothing is kept or shared.
	Cache *remote.Cache
	// Audit is the percentage of used results in the cache that are made again and compared. A
	// difference is an error.
	Audit float64
	// Strict turns warnings into errors.
	Strict bool
	// Locked fails if anything differs from tape.lock.
	Locked bool
	// Update writes tape.lock: "images", "interpreters", "materials", the name of one entry, or
	// "all". Empty writes nothing.
	Update string
	// Platform packs only one platform of every image: os/arch[/variant].
	Platform string
	// Related selects what is packed that is published beside images: default, all or none.
	Related string
	// From gives the places of images that are not in a registry, by reference or pattern, in
	// addition to those in the pipeline. Paths are relative to the working directory.
	From map[string]local.Place
	// Created is the creation time in the artifact; zero means the commit's.
	Created time.Time
	// Version of tape, for the provenance.
	Version string
	// Signer signs root and content; nil signs nothing.
	Signer Signer
	// Trust is the file of a trust policy that the images must satisfy before any is copied; ""
	// is none.
	Trust string

	// digests are those of the images, by normalised name, instead of a lock's.
	digests map[string]digest.Digest
}

// Source is a folder, a file or a remote reference.
type Source struct {
	// Name is the folder of its manifests if there are several sources; "" is the last element
	// of Path.
	Name string
	// Path is relative to the working directory.
	Path string
	// Interpreter by name; "" detects it.
	Interpreter string
	// Settings of the interpreter, in order: a later one of the same name replaces an earlier
	// one, or is added if the option is a list.
	Settings []Setting
	// Temporary means that Path is removed after the run, so that messages do not name it.
	Temporary bool
}

// Setting is one option of an interpreter, by name.
type Setting = source.Setting

// Interpreters finds interpreters; plugins/host runs those that are programs.
type Interpreters = rendering.Interpreters

// PackageOptions are the options of Package.
type PackageOptions struct {
	Options
	// Repository to push to, without tag or digest.
	Repository string
	// Tags of the root; by default git's version tags at a clean HEAD, or else config.<12 hex of
	// the content layer's digest>.
	Tags []string
	// SBOM adds an SPDX 2.3 document of the application to the statements.
	SBOM bool
	// Check walks what the destination has instead of trusting that an existing index has its
	// children.
	Check bool
	// Save is an archive to write. Nothing is pushed then, unless Push is set.
	Save string
	Push bool
	// DryRun does everything except writing.
	DryRun bool
	// Immutable refuses to move a tag before anything is pushed.
	Immutable bool
}

// PackageResult describes the artifact.
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
	// TagReason is why git's version tags are not among Tags.
	TagReason string `json:"tag_reason,omitempty"`
	// MovedTags led to something else before, sorted; after a dry run, they would move.
	MovedTags []transfer.MovedTag `json:"moved_tags"`
	Images    []PackagedImage     `json:"images"`
	// Environments are the top-level folders of the content, if the pipeline has environments.
	Environments []string          `json:"environments,omitempty"`
	Related      int               `json:"related"`
	Unpinned     []images.Unpinned `json:"unpinned"`
	// Placeholders are image fields whose values are filled in later.
	Placeholders []images.Placeholder `json:"placeholders"`
	Skipped      []images.Skipped     `json:"skipped"`
	Signed       bool                 `json:"signed"`
	Nodes        []NodeResult         `json:"nodes"`
	// Moved counts what was written to the repository or, if nothing was pushed, to the archive;
	// after a dry run, what would be.
	Moved    transfer.Moved `json:"moved"`
	File     string         `json:"file,omitempty"` // the archive
	DryRun   bool           `json:"dryRun,omitempty"`
	Warnings []string       `json:"warnings"`
}

// PackagedImage is an image in the artifact, under the name in the manifests.
type PackagedImage = push.PushedImage

// NodeResult is how a node of the graph ended.
type NodeResult struct {
	Name    string       `json:"name"`
	State   engine.State `json:"state"`
	Seconds float64      `json:"seconds"`
}

// ImagesOptions are the options of Images.
type ImagesOptions struct {
	Options
	// Resolve asks registries for digests, manifests and what is published beside images.
	Resolve bool
	// Classes to list; none means all.
	Classes []images.Class
}

// ImagesResult lists the images in the manifests.
type ImagesResult struct {
	Images       []images.Image       `json:"images"`
	Placeholders []images.Placeholder `json:"placeholders"`
	Skipped      []images.Skipped     `json:"skipped"`
	Unpinned     []images.Unpinned    `json:"unpinned,omitempty"`
	// Mentions are images that objects mention but do not run.
	Mentions []images.Mention `json:"mentions,omitempty"`
}

// RenderOptions are the options of Render.
type RenderOptions struct {
	Options
	// Out is a folder to write to, which is created or must be empty; "" writes nothing.
	Out   string
	Force bool // replaces the content of Out
}
