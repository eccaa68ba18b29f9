// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/index"
	"github.com/taped-dev/tape/stages/push"
	"github.com/taped-dev/tape/stages/vcs"
)

// result is a JSON document that a node of the default pipeline outputs.
type result[T any] struct {
	ref       engine.Ref
	mediaType string
}

// Outputs of the default pipeline that verbs read.
var (
	resolvedImages = result[images.List]{"resolve.images", images.MediaTypeList}
	foundImages    = result[images.List]{"discover.images", images.MediaTypeList}
	references     = result[images.Report]{"scan.references", images.MediaTypeReport}
	edits          = result[images.Edits]{"pin.edits", images.MediaTypeEdits}
	rootTags       = result[[]string]{"index.tags", artifact.MediaTypeTags}
	tagReason      = result[string]{"index.reason", index.MediaTypeReason}
	movedImages    = result[images.Moved]{"mirror.moved", images.MediaTypeMoved}
	pushedMade     = result[push.Pushed]{"push.pushed", push.MediaType}
)

const (
	scannedFiles engine.Ref = "scan.manifests"
	pinnedFiles  engine.Ref = "pin.manifests"
	contentMade  engine.Ref = "content.manifest"
	rootMade     engine.Ref = "index.root"
	signed       engine.Ref = "sign.signatures"
)

// results returns the outputs of a run that are read afterwards. They include manifests only if
// the targets produce them.
func results(graph *engine.Graph, targets []string) []engine.Ref {
	out := []engine.Ref{
		resolvedImages.ref, foundImages.ref, references.ref, edits.ref, contentMade, rootMade, rootTags.ref, tagReason.ref, signed, movedImages.ref, pushedMade.ref,
	}
	for _, node := range graph.Nodes() {
		for _, output := range node.Outputs {
			if output == "facts" || output == "request" || output == "rendering" || slices.Equal(targets, []string{node.Name}) {
				out = append(out, engine.Ref(node.Name+"."+output))
			}
		}
	}
	return out
}

// made is the result of a run.
type made struct{ *engine.Result }

// reading reads an output of a run.
type reading func(context.Context, made) error

// read calls each reading until one fails.
func (m made) read(ctx context.Context, list ...reading) error {
	for _, read := range list {
		if err := read(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// into reads the document into v.
func (d result[T]) into(v *T) reading {
	return func(ctx context.Context, m made) error {
		desc, err := m.Output(d.ref)
		if err != nil {
			return err
		}
		return engine.GetJSON(ctx, m.Store, desc, d.mediaType, v)
	}
}

// manifests returns the manifests that scan or pin output.
func (m made) manifests(ctx context.Context, of engine.Ref) ([]files.File, error) {
	desc, err := m.Output(of)
	if err != nil {
		return nil, err
	}
	return files.Get(ctx, m.Store, desc)
}

// application opens the application that the run made.
func (m made) application(ctx context.Context) (*transfer.Made, *artifact.Application, error) {
	root, err := m.Output(rootMade)
	if err != nil {
		return nil, nil, err
	}
	here := &transfer.Made{Provider: m.Store, Root: root}
	app, err := artifact.Open(ctx, here, "")
	return here, app, err
}

// product is the application that a run made, with its images and tags.
type product struct {
	*artifact.Application
	from   *transfer.Made
	names  artifact.Naming
	images []images.Image
	tags   []string
}

func (m made) product(ctx context.Context) (*product, error) {
	var (
		p    product
		list images.List
	)
	err := m.read(ctx, foundImages.into(&list), rootTags.into(&p.tags))
	if err == nil {
		p.from, p.Application, err = m.application(ctx)
	}
	if err == nil {
		p.names, err = naming(ctx, p.Application)
	}
	p.images = list.Images
	return &p, err
}

// facts returns the facts about every source.
func (m made) facts(ctx context.Context) ([]vcs.Facts, error) {
	return every[vcs.Facts](ctx, m, "facts", vcs.MediaType)
}

// environments returns the environments that were rendered; none if the pipeline has none.
func (m made) environments(ctx context.Context) (artifact.EnvironmentSet, error) {
	all, err := m.facts(ctx)
	return artifact.Environments(artifact.Annotations("", all, time.Time{})), err
}

// every reads a document of all instances of a node.
func every[T any](ctx context.Context, m made, output, mediaType string) ([]T, error) {
	var list []ocispec.Descriptor
	for _, node := range m.Nodes {
		if desc, ok := node.Outputs[output]; ok && desc.MediaType == mediaType {
			list = append(list, desc)
		}
	}
	return engine.GetAllJSON[T](ctx, m.Store, list, mediaType)
}

// warnings returns the text of the warnings of the run.
func (m made) warnings() []string {
	out := []string{}
	for _, w := range m.Warnings {
		out = append(out, w.Message)
	}
	return out
}

// nodes returns how each node of the run ended.
func (m made) nodes() []NodeResult {
	out := make([]NodeResult, 0, len(m.Nodes))
	for _, n := range m.Nodes {
		out = append(out, NodeResult{Name: n.Name, State: n.State, Seconds: n.Seconds})
	}
	return out
}
