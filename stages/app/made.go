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
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/vcs"
)

// Outputs of the default pipeline's nodes that a verb reads.
const (
	resolvedImages engine.Ref = "resolve.images"
	foundImages    engine.Ref = "discover.images"
	references     engine.Ref = "scan.references"
	scannedFiles   engine.Ref = "scan.manifests"
	edits          engine.Ref = "pin.edits"
	pinnedFiles    engine.Ref = "pin.manifests"
	contentMade    engine.Ref = "content.manifest"
	rootMade       engine.Ref = "index.root"
	rootTags       engine.Ref = "index.tags"
	tagReason      engine.Ref = "index.reason"
	signed         engine.Ref = "sign.signatures"
	movedImages    engine.Ref = "mirror.moved"
	pushedMade     engine.Ref = "push.pushed"
)

// results returns the outputs of a run that are read after it. Manifests are only read if the
// targets are for them.
func results(graph *engine.Graph, targets []string) []engine.Ref {
	out := []engine.Ref{
		resolvedImages, foundImages, references, edits, contentMade, rootMade, rootTags, tagReason, signed, movedImages, pushedMade,
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

// document reads the JSON document that a node made.
func document[T any](ctx context.Context, m made, ref engine.Ref, mediaType string) (v T, err error) {
	desc, err := m.Output(ref)
	if err != nil {
		return v, err
	}
	return v, engine.GetJSON(ctx, m.Store, desc, mediaType, &v)
}

// images returns the images of resolve or of discover.
func (m made) images(ctx context.Context, of engine.Ref) (images.List, error) {
	return document[images.List](ctx, m, of, images.MediaTypeList)
}

func (m made) references(ctx context.Context) (images.Report, error) {
	return document[images.Report](ctx, m, references, images.MediaTypeReport)
}

func (m made) edits(ctx context.Context) (images.Edits, error) {
	return document[images.Edits](ctx, m, edits, images.MediaTypeEdits)
}

func (m made) tags(ctx context.Context) ([]string, error) {
	return document[[]string](ctx, m, rootTags, artifact.MediaTypeTags)
}

func (m made) tagReason(ctx context.Context) (string, error) {
	return document[string](ctx, m, tagReason, index.MediaTypeReason)
}

func (m made) moved(ctx context.Context) (images.Moved, error) {
	return document[images.Moved](ctx, m, movedImages, images.MediaTypeMoved)
}

func (m made) pushed(ctx context.Context) (push.Pushed, error) {
	return document[push.Pushed](ctx, m, pushedMade, push.MediaType)
}

func (m made) signatures(ctx context.Context) ([]ocispec.Descriptor, error) {
	desc, err := m.Output(signed)
	if err != nil {
		return nil, err
	}
	return artifact.Signatures(ctx, m.Store, desc)
}

// manifests returns the manifests of scan or of pin.
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

// facts returns the facts of every source.
func (m made) facts(ctx context.Context) ([]vcs.Facts, error) {
	return every[vcs.Facts](ctx, m, "facts", vcs.MediaType)
}

// environments are those that were rendered; none where the pipeline has none.
func (m made) environments(ctx context.Context) (artifact.EnvironmentSet, error) {
	all, err := m.facts(ctx)
	return artifact.Environments(artifact.Annotations("", all, time.Time{})), err
}

// renderings are those of every source.
func (m made) renderings(ctx context.Context) ([]rendering.Rendering, error) {
	return every[rendering.Rendering](ctx, m, "rendering", rendering.MediaTypeRendering)
}

// every reads the documents that all instances of a node made.
func every[T any](ctx context.Context, m made, output, mediaType string) ([]T, error) {
	var list []ocispec.Descriptor
	for _, node := range m.Nodes {
		if desc, ok := node.Outputs[output]; ok && desc.MediaType == mediaType {
			list = append(list, desc)
		}
	}
	return engine.GetAllJSON[T](ctx, m.Store, list, mediaType)
}

// warnings returns the warnings of the run as text.
func (m made) warnings() []string {
	out := []string{}
	for _, w := range m.Warnings {
		out = append(out, w.Message)
	}
	return out
}

// nodes returns how the nodes of the run ended.
func (m made) nodes() []NodeResult {
	out := make([]NodeResult, 0, len(m.Nodes))
	for _, n := range m.Nodes {
		out = append(out, NodeResult{Name: n.Name, State: n.State, Seconds: n.Seconds})
	}
	return out
}
