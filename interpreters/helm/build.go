// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// builder loads a chart with all its dependencies, including those missing from charts/.
type builder struct {
	tree *tree
	// fetch is nil if only the tree is read.
	fetch *fetcher
	// folders are the folders of file:// dependencies, relative to the root of the tree.
	folders []string
	remarks
}

// source loads the chart at a path of the tree: a folder or a package.
func (b *builder) source(ctx context.Context, name string) (*chart.Chart, error) {
	info, err := b.tree.root.Stat(name)
	if err != nil {
		return nil, problem(name, "cannot read the chart: %w", regular.Cause(err))
	}
	if info.IsDir() {
		return b.folder(ctx, name, nil)
	}
	data, err := b.tree.read(name)
	if err != nil {
		return nil, problem(name, "cannot read the chart: %w", err)
	}
	c, err := unpack(name, data)
	if err != nil {
		return nil, err
	}
	return c, b.complete(ctx, c, name, nil)
}

// unpack loads a packaged chart.
func unpack(source string, data []byte) (*chart.Chart, error) {
	return load(source, func() (*chart.Chart, error) {
		c, err := loader.LoadArchive(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("not a packaged chart: %w", err)
		}
		return c, nil
	})
}

// folder loads the chart in a folder with its dependencies. above are the folders of the
// charts that depend on it.
func (b *builder) folder(ctx context.Context, dir string, above []string) (*chart.Chart, error) {
	c, err := b.tree.chart(dir)
	if err != nil {
		return nil, err
	}
	return c, b.complete(ctx, c, dir, append(above, dir))
}

// complete adds the dependencies in Chart.yaml that are missing from charts/, like `helm
// dependency build`, even if their condition is false. A chart in charts/ is used whatever its
// version, like in `helm template`.
func (b *builder) complete(ctx context.Context, c *chart.Chart, source string, above []string) error {
	held := c.Dependencies()
	for _, sub := range held {
		b.warnIncomplete(sub, source)
	}
	for _, dep := range c.Metadata.Dependencies {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if i := slices.IndexFunc(held, named(dep)); i >= 0 {
			if v := held[i].Metadata.Version; !slices.ContainsFunc(held, satisfies(dep)) {
				b.warn(path.Join(source, "Chart.yaml"), "charts/ has %s %s, but Chart.yaml requires %s", dep.Name, v, dep.Version)
			}
			continue
		}
		if slices.ContainsFunc(c.Dependencies(), satisfies(dep)) {
			continue // the same chart under another alias
		}
		sub, err := b.dependency(ctx, c, dep, source, above)
		if err != nil {
			return atDependency(c, dep, path.Join(source, "Chart.yaml"), err)
		}
		if sub != nil {
			c.AddDependency(sub)
		}
	}
	return nil
}

// dependency returns a chart that is missing from charts/, or nil if it is remote and only
// the tree is read.
func (b *builder) dependency(ctx context.Context, c *chart.Chart, dep *chart.Dependency, source string, above []string) (*chart.Chart, error) {
	file := path.Join(source, "Chart.yaml")
	if dep.Repository == "" {
		return nil, problem(file, "dependency %q is not in charts/, and Chart.yaml names no repository for it", dep.Name)
	}
	if local, ok := strings.CutPrefix(dep.Repository, "file://"); ok {
		if len(above) == 0 {
			return nil, problem(source, "the package does not contain its dependency %q: package it again after `helm dependency build`", dep.Name)
		}
		if path.IsAbs(local) {
			return nil, problem(file, "dependency %q: %s is absolute: use a path relative to the chart", dep.Name, dep.Repository)
		}
		dir := path.Join(source, local)
		if slices.Contains(above, dir) {
			return nil, problem(file, "dependency %q leads back to a chart that depends on it: %s", dep.Name, dep.Repository)
		}
		b.folders = append(b.folders, dir)
		if !within(dir) {
			if b.tree.live {
				return nil, nil // tape decides
			}
			return nil, problem(file, "dependency %q: %s is outside the source", dep.Name, dep.Repository)
		}
		if _, err := b.tree.root.Stat(path.Join(dir, "Chart.yaml")); errors.Is(err, fs.ErrNotExist) {
			return nil, problem(file, "dependency %q: there is no chart at %s", dep.Name, dep.Repository)
		}
		sub, err := b.folder(ctx, dir, slices.Clip(above))
		if err != nil {
			return nil, err
		}
		if sub.Name() != dep.Name || !satisfies(dep)(sub) {
			return nil, problem(file, "dependency %q: %s has %s %s, but Chart.yaml requires %s", dep.Name, dep.Repository, sub.Name(), sub.Metadata.Version, dep.Version)
		}
		return sub, nil
	}
	if b.fetch == nil {
		return nil, nil
	}
	version := dep.Version
	if c.Lock != nil {
		i := slices.IndexFunc(c.Lock.Dependencies, func(l *chart.Dependency) bool {
			return l != nil && l.Name == dep.Name && l.Repository == dep.Repository && chartutil.IsCompatibleRange(rangeOf(dep.Version), l.Version)
		})
		if i < 0 {
			return nil, problem(path.Join(source, "Chart.lock"), "no locked version of dependency %q is allowed by Chart.yaml: run `helm dependency update`", dep.Name)
		}
		version = c.Lock.Dependencies[i].Version
	}
	sub, err := b.fetch.dependency(ctx, dep, version)
	if found, ok := errors.AsType[interpreter.Problems](err); ok {
		for i := range found {
			if !strings.HasPrefix(found[i].Summary, "dependency ") {
				found[i].Summary = fmt.Sprintf("dependency %q (%s): %s", dep.Name, cmp.Or(version, "any version"), found[i].Summary)
			}
			found[i].Detail = strings.TrimPrefix(found[i].Detail+"\ncharts in charts/ are not fetched: `helm dependency build` puts them there", "\n")
		}
	}
	if err != nil {
		return nil, inFile(file, err)
	}
	b.warnIncomplete(sub, source)
	return sub, nil
}

// atDependency adds the line of the dependency to problems in Chart.yaml.
func atDependency(c *chart.Chart, dep *chart.Dependency, file string, err error) error {
	found, ok := errors.AsType[interpreter.Problems](err)
	if !ok {
		return err
	}
	for i, d := range found {
		if d.File == file && d.Line == 0 {
			found[i].Line = dependencyLine(c, dep)
		}
	}
	return err
}

// dependencyLine returns the line of Chart.yaml where a dependency begins, or 0 if it is unknown.
func dependencyLine(c *chart.Chart, dep *chart.Dependency) int {
	i := slices.IndexFunc(c.Raw, func(f *chart.File) bool { return f.Name == "Chart.yaml" })
	var doc yaml.Node
	if i < 0 || yaml.Unmarshal(c.Raw[i].Data, &doc) != nil || len(doc.Content) == 0 {
		return 0
	}
	list := target(member(doc.Content[0], "dependencies"))
	at := slices.Index(c.Metadata.Dependencies, dep)
	if list == nil || list.Kind != yaml.SequenceNode || at < 0 || at >= len(list.Content) {
		return 0
	}
	return list.Content[at].Line
}

// warnIncomplete warns about missing dependencies of a chart in charts/. Helm renders such
// a chart silently.
func (b *builder) warnIncomplete(c *chart.Chart, source string) {
	for _, dep := range c.Metadata.Dependencies {
		if !slices.ContainsFunc(c.Dependencies(), named(dep)) {
			b.warn(path.Join(source, "charts", c.Name(), "Chart.yaml"), "dependency %q is not in the chart's charts/ and is left out, as in Helm", dep.Name)
		}
	}
	for _, sub := range c.Dependencies() {
		b.warnIncomplete(sub, path.Join(source, "charts", c.Name()))
	}
}

func named(dep *chart.Dependency) func(*chart.Chart) bool {
	return func(c *chart.Chart) bool { return c.Name() == dep.Name }
}

func satisfies(dep *chart.Dependency) func(*chart.Chart) bool {
	return func(c *chart.Chart) bool {
		return c.Name() == dep.Name && chartutil.IsCompatibleRange(rangeOf(dep.Version), c.Metadata.Version)
	}
}

// rangeOf returns a version range, or the range that Helm uses if it is empty.
func rangeOf(version string) string { return cmp.Or(version, ">=0.0.0-0") }

// within reports whether a path relative to the root stays below it.
func within(name string) bool { return name != ".." && !strings.HasPrefix(name, "../") }
