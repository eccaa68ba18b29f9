// SPDX-License-Identifier: Apache-2.0

// Package kustomize renders Kustomize overlays: folders with a kustomization.yaml.
//
// The output is that of `kustomize build`, made with kustomize's own library and defaults:
// files come from the folder of the kustomization, other folders are bases or components,
// and only built-in generators and transformers run. Nothing is executed on behalf of a
// kustomization: plugins, functions and Helm inflation are rejected.
//
// Remote bases (git repositories) and remote files (https) are fetched before kustomize
// runs, recorded as materials and presented to it as local files, so kustomize itself never
// fetches anything.
package kustomize

import (
	"context"
	"slices"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Version is the version of the kustomize library.
const Version = "0.21.2"

// Interpreter renders Kustomize overlays. It is stateless.
type Interpreter struct{}

// New returns the interpreter.
func New() *Interpreter { return &Interpreter{} }

// Describe implements interpreter.Interpreter.
func (*Interpreter) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name:    "kustomize",
		Version: Version,
		Help:    "Kustomize overlays: folders with a kustomization.yaml",
		Markers: []interpreter.Marker{{Name: "kustomization.yaml"}, {Name: "kustomization.yml"}, {Name: "Kustomization"}},
		Options: []byte(`{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"Options of the kustomize interpreter: there are none","type":"object","additionalProperties":false,"properties":{}}`),
		// git needs these to access private repositories.
		Environment: []string{"GIT_CONFIG_GLOBAL", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "SSH_AUTH_SOCK", "XDG_CONFIG_HOME"},
		Network:     true,
	}, nil
}

// Inputs implements interpreter.Interpreter. The inputs are the files that the kustomization and
// its bases, components and generators read. A kustomization with its own generators,
// transformers or validators, whose configuration may name further files, has its whole folder as
// an input.
func (*Interpreter) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return interpreter.AnswerInputs(ctx, func() (*interpreter.InputsResponse, error) {
		if err := interpreter.DecodeOptions(req.Options, &struct{}{}); err != nil {
			return nil, err
		}
		tree, err := newTree(req.Root)
		if err != nil {
			return nil, err
		}
		defer tree.Close()
		w := walker{tree: tree}
		w.source(ctx, req.Path)
		slices.Sort(w.inputs)
		return &interpreter.InputsResponse{Paths: slices.Compact(w.inputs), Exact: true}, w.problems.Err()
	})
}

// Render implements interpreter.Interpreter.
func (*Interpreter) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	return interpreter.AnswerRender(ctx, func() (*interpreter.RenderResponse, error) { return render(ctx, req) })
}

func render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	if err := interpreter.DecodeOptions(req.Options, &struct{}{}); err != nil {
		return nil, err
	}
	if req.Reference != "" {
		return nil, interpreter.Problem("", 0, "%s: a remote kustomization can only be a base of a local one: add it to resources", req.Reference)
	}
	tree, err := newTree(req.Source)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	fetch := newFetcher(req, tree)
	w := walker{tree: tree, fetch: fetch}
	w.source(ctx, req.Path)
	if err := w.problems.Err(); err != nil {
		return nil, err
	}
	objects, err := build(ctx, &w, req.Path)
	if err != nil {
		return nil, err
	}
	return &interpreter.RenderResponse{Files: objects, Materials: fetch.Materials()}, nil
}

var _ interpreter.Interpreter = (*Interpreter)(nil)
