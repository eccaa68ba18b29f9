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

// PipelineFile is the name of the pipeline file of a repository.
const PipelineFile = "tape.yaml"

// Options are common to everything that renders: Images, Render and Package.
type Options struct {
	Environment
	// Sources are what to render; if empty, Pipeline is used.
	Sources []Source
	// Pipeline is the path of a pipeline file.
	Pipeline string
	// Args are values for the arguments of the pipeline.
	Args map[string]string
	// Environments are the environments of the pipeline to render; by default all.
	Environments []string
	// Deterministic renders twice and fails on a difference.
	Deterministic bool
	// SkipInvalid leaves out files that cannot be parsed instead of failing.
	SkipInvalid bool
	// SkipSealed accepts that images in sealed objects are not pinned.
	SkipSealed bool
	// NoCache ignores cached results and renders again.
	NoCache bool
	// Cache shares results with other machines; if nil, they stay on this one. Without a store,
	// results are neither kept nor shared.
	Cache *remote.Cache
	// Audit is the percentage of the cached results used by a run that are computed again and
	// compared. A difference is an error.
	Audit float64
	// Strict turns warnings into errors.
	Strict bool
	// Locked fails if anything differs from tape.lock.
	Locked bool
	// Update writes tape.lock: "images", "interpreters", "materials", the name of one entry, or
	// "all". If empty, the lock is not written.
	Update string
	// Platform packs only one platform of every image: os/arch[/variant].
	Platform string
	// Related selects what to pack of what is published with the images: default, all or none.
	Related string
	// From maps references or patterns to the places of images that are not in a registry, in
	// addition to those in the pipeline. Paths are relative to the working directory.
	From map[string]local.Place
	// Created is the creation time in the artifact; zero means the time of the commit.
	Created time.Time
	// Version is the version of tape, for the provenance.
	Version string
	// Signer signs root and content; if nil, they are not signed.
	Signer Signer
	// Trust is the file of a trust policy that the images must satisfy before any is copied, or
	// "" for none.
	Trust string

	// digests override those of a lock. They are the digests of images, by normalised name.
	digests map[string]digest.Digest
}

// Source is a folder, a file or a remote reference.
type Source struct {
	// Name is the folder of its manifests if there are several sources; by default the last
	// element of Path.
	Name string
	// Path is relative to the working directory.
	Path string
	// Interpreter is the name of the interpreter; if empty, it is detected.
	Interpreter string
	// Settings are the options of the interpreter, in order. A later setting replaces an earlier
	// one of the same name, or is appended if the option is a list.
	Settings []Setting
	// Temporary means that Path is removed after the run, so messages do not name it.
	Temporary bool
}

// Setting is the name and value of an option of an interpreter.
type Setting = source.Setting

// Interpreters finds interpreters; plugins/host runs those that are programs.
type Interpreters = rendering.Interpreters

// PackageOptions are the options of Package.
type PackageOptions struct {
	Options
	// Repository is the repository to push to, without tag or digest.
	Repository string
	// Tags are the tags of the root; by default the version tags of git if HEAD is clean, or else
	// config.<first 12 hex digits of the content layer's digest>.
	Tags []string
	// SBOM adds an SPDX 2.3 document about the application to the statements.
	SBOM bool
	// Check checks everything that the destination has, instead of trusting that an existing
	// index has its children.
	Check bool
	// Save is the file of an archive to write. Nothing is pushed then, unless Push is set.
	Save string
	Push bool
	// DryRun does everything except writing.
	DryRun bool
	// Immutable refuses to move a tag, before anything is pushed.
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
	// TagReason is the reason why the version tags of git are not among Tags.
	TagReason string `json:"tag_reason,omitempty"`
	// MovedTags are the tags that led to something else before, sorted. After a dry run, they are
	// the tags that would move.
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
	// Moved counts what was written to the repository or, if nothing was pushed, to the archive.
	// After a dry run, it counts what would be written.
	Moved    transfer.Moved `json:"moved"`
	File     string         `json:"file,omitempty"` // the archive
	DryRun   bool           `json:"dryRun,omitempty"`
	Warnings []string       `json:"warnings"`
}

// PackagedImage is an image in the artifact, under its name in the manifests.
type PackagedImage = push.PushedImage

// NodeResult describes how a node of the graph ended.
type NodeResult struct {
	Name    string       `json:"name"`
	State   engine.State `json:"state"`
	Seconds float64      `json:"seconds"`
}

// ImagesOptions are the options of Images.
type ImagesOptions struct {
	Options
	// Resolve asks registries for digests, manifests and what is published with images.
	Resolve bool
	// Classes are the classes to list; by default all.
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
	// Out is a folder to write to, which is created or must be empty. If empty, nothing is
	// written.
	Out   string
	Force bool // replaces the content of Out
}
