// SPDX-License-Identifier: Apache-2.0

// Package helm renders Helm charts: the folder of a chart, a packaged chart (.tgz), a chart
// in a registry (oci://…) or in a chart repository (https://…).
//
// The output is that of `helm template --include-crds` without the hooks that no
// installation runs. It uses Helm's packages for charts, values and templates, but not its
// client: without a cluster, `lookup` finds nothing, and there are no plugins and no
// post-renderers. Objects without a namespace get the one of the release; with Helm, the API
// server of the cluster sets that.
//
// Dependencies missing from charts/ are added like by `helm dependency build`, but in memory:
// file:// ones from the tree (Inputs returns them), others from their registry or
// repository at the version in Chart.lock, recorded as materials.
//
// A remote chart has one of the references below. If the reference has no version, the
// option version applies, or else the newest release:
//
//	oci://registry.example.com/charts/shop
//	oci://registry.example.com/charts/shop:1.2.3
//	oci://registry.example.com/charts/shop@sha256:…
//	https://example.com/charts/shop              repository and chart name
//	https://example.com/charts/shop-1.2.3.tgz    the package itself
package helm

import (
	"bytes"
	"context"
	_ "embed"
	"slices"

	"helm.sh/helm/v3/pkg/chart"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Version is the version of the Helm packages that render.
const Version = "3.22.0"

//go:embed options.schema.json
var optionsSchema []byte

// Interpreter renders Helm charts. It is stateless.
type Interpreter struct{}

// New returns the interpreter.
func New() *Interpreter { return &Interpreter{} }

// Describe implements interpreter.Interpreter.
func (*Interpreter) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name:    "helm",
		Version: Version,
		Help:    "Helm charts: folders, packages, and charts in registries and repositories",
		Markers: []interpreter.Marker{{Name: "Chart.yaml"}, {Name: "*.tgz", File: true}},
		Options: bytes.Clone(optionsSchema),
		Environment: []string{
			"DOCKER_CONFIG", "HELM_CONFIG_HOME", "HELM_REGISTRY_CONFIG", "HELM_REPOSITORY_CONFIG", "XDG_CONFIG_HOME",
		},
		Network:    true,
		References: []string{"oci", "https", "http"},
	}, nil
}

// Inputs implements interpreter.Interpreter. The inputs are the source itself, file://
// dependencies missing from charts/, their own such dependencies, and the targets of symbolic
// links. Values files are options of format path, which tape adds.
func (*Interpreter) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return interpreter.AnswerInputs(ctx, func() (*interpreter.InputsResponse, error) {
		opts, err := parseOptions(req.Options)
		if err != nil {
			return nil, err
		}
		t, err := openTree(req.Root, true)
		if err != nil {
			return nil, err
		}
		defer t.Close()

		b := builder{tree: t}
		if _, err := b.source(ctx, req.Path); err != nil {
			return nil, err
		}
		paths := slices.Concat(opts.setFiles(), b.folders, t.links)
		slices.Sort(paths)
		return &interpreter.InputsResponse{Paths: slices.Compact(paths)}, nil
	})
}

// Render implements interpreter.Interpreter.
func (*Interpreter) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	return interpreter.AnswerRender(ctx, func() (*interpreter.RenderResponse, error) { return render(ctx, req) })
}

func render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	opts, err := parseOptions(req.Options)
	if err != nil {
		return nil, err
	}
	b := builder{fetch: newFetcher(req.Materials, req.Registries)}
	defer b.fetch.Close()
	// Values files are in the tree even if the chart is remote.
	if req.Source != "" {
		if b.tree, err = openTree(req.Source, false); err != nil {
			return nil, err
		}
		defer b.tree.Close()
	}

	var c *chart.Chart
	if req.Reference != "" {
		c, err = b.fetch.reference(ctx, req.Reference, opts.Version)
	} else {
		c, err = b.source(ctx, req.Path)
	}
	if err != nil {
		return nil, err
	}
	vals, err := opts.values(b.tree)
	if err != nil {
		return nil, err
	}
	r := renderer{chart: c, opts: opts}
	if req.Reference == "" {
		r.folder, r.tree = req.Path, b.tree
	}
	files, err := r.render(ctx, vals)
	if err != nil {
		return nil, err
	}
	return &interpreter.RenderResponse{
		Files:       files,
		Diagnostics: slices.Concat(b.diagnostics, r.diagnostics),
		Materials:   b.fetch.Materials(),
	}, nil
}

var _ interpreter.Interpreter = (*Interpreter)(nil)
