// SPDX-License-Identifier: Apache-2.0

// Package helm is the interpreter of Helm charts: a chart's folder, a packaged
// chart (.tgz), a chart in a registry (oci://…) and one in a chart repository
// (https://…).
//
// It renders what `helm template --include-crds` prints, less the hooks that no
// installation runs, with Helm's own packages for charts, values and templates,
// but without Helm's client: there is no cluster to ask, so `lookup` finds
// nothing, and neither plugins nor post-renderers exist. Objects that name no
// namespace get the release's, which Helm has the cluster's API add.
//
// Dependencies that charts/ lacks are completed as `helm dependency build` does,
// in memory: file:// ones from the tree (Inputs names them), others from their
// registry or repository at the version in Chart.lock, recorded as materials.
//
// A remote chart is named in one of these ways; the version option decides
// where the reference does not, and the newest release is taken where neither
// does:
//
//	oci://registry.example.com/charts/shop
//	oci://registry.example.com/charts/shop:1.2.3
//	oci://registry.example.com/charts/shop@sha256:…
//	https://example.com/charts/shop              repository and chart name
//	https://example.com/charts/shop-1.2.3.tgz    the package itself
package helm

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"slices"

	"helm.sh/helm/v3/pkg/chart"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Version is that of the Helm packages which render.
const Version = "3.22.0"

//go:embed options.schema.json
var optionsSchema []byte

// Interpreter renders Helm charts. It holds no state.
type Interpreter struct{}

// New returns the interpreter.
func New() *Interpreter { return &Interpreter{} }

// Describe says what the interpreter is.
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

// Inputs names the charts that the source takes from elsewhere in the tree:
// file:// dependencies that charts/ does not hold, theirs in turn, and whatever
// symbolic links lead to. Values files are options of format path, which tape
// adds itself.
func (*Interpreter) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	paths, err := guard(ctx, req.Path, func() ([]string, error) { return inputs(ctx, req) })
	if found, ok := errors.AsType[problems](err); ok {
		return &interpreter.InputsResponse{Diagnostics: found}, nil
	}
	if err != nil {
		return nil, err
	}
	return &interpreter.InputsResponse{Paths: paths}, nil
}

func inputs(ctx context.Context, req *interpreter.InputsRequest) ([]string, error) {
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
	return slices.Compact(paths), nil
}

// Render renders the chart.
func (*Interpreter) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	resp, err := guard(ctx, cmp.Or(req.Reference, req.Path), func() (*interpreter.RenderResponse, error) { return render(ctx, req) })
	if found, ok := errors.AsType[problems](err); ok {
		return &interpreter.RenderResponse{Diagnostics: found}, nil
	}
	return resp, err
}

func render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	opts, err := parseOptions(req.Options)
	if err != nil {
		return nil, err
	}
	b := builder{fetch: newFetcher(req.Materials, req.Registries)}
	defer b.fetch.Close()
	// Values files lie in the tree also where the chart does not.
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
		Diagnostics: slices.Concat(b.warnings, r.said),
		Materials:   b.fetch.materials(),
	}, nil
}

var _ interpreter.Interpreter = (*Interpreter)(nil)
