// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// renderer renders one chart with its dependencies. It does the same as action.Install does
// without a cluster, but that package would link client-go's discovery, kubectl and an SQL
// driver.
type renderer struct {
	chart *chart.Chart
	// folder is the source relative to the root; empty if it is remote.
	folder string
	tree   *tree // holds the folder; nil if the chart is remote
	opts   options
	remarks
}

func (r *renderer) render(ctx context.Context, vals map[string]any) ([]interpreter.File, error) {
	top, caps, err := r.valuesToRender(vals)
	if err != nil {
		return nil, err
	}
	if need := r.chart.Metadata.KubeVersion; need != "" && !chartutil.IsCompatibleRange(need, caps.KubeVersion.Version) {
		return nil, problem(path.Join(r.folder, "Chart.yaml"), "the chart requires Kubernetes %s, but option kubeVersion is %s", need, r.opts.KubeVersion)
	}
	rendered, err := interpreter.Await(ctx, func() (map[string]string, error) {
		var e engine.Engine // the engine has no client, so lookup finds nothing
		return e.Render(r.chart, top)
	})
	if _, panicked := errors.AsType[interpreter.Problems](err); panicked {
		return nil, err
	} else if err != nil {
		return nil, templateProblem(err, r.where)
	}
	for name := range rendered {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(rendered, name)
		}
	}
	hooks, manifests, err := releaseutil.SortManifests(rendered, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, templateProblem(err, r.where)
	}
	r.warnUnknownHooks(rendered, hooks, manifests)

	var (
		out    = output{docs: map[string][]string{}, templates: map[string]string{}}
		crds   []string
		pieces []piece
	)
	seen := map[string]bool{} // a chart under two aliases returns its CRDs twice
	for _, crd := range r.chart.CRDObjects() {
		if data := string(crd.File.Data); !seen[data] {
			seen[data] = true
			crds = append(crds, data)
			if r.opts.IncludeCRDs {
				out.add(crd.Filename, data)
			}
		}
	}
	for _, m := range manifests {
		pieces = append(pieces, piece{template: m.Name, document: parse(m.Content)})
	}
	for _, h := range hooks {
		if r.wants(h) {
			pieces = append(pieces, piece{template: h.Path, document: parse(h.Manifest), hook: true})
		}
	}
	r.place(pieces, crds)
	if r.opts.CreateNamespace && !r.createsNamespace(pieces) {
		out.put(namespaceFile, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %q\n", r.opts.Namespace))
	}
	for _, p := range pieces {
		out.add(p.template, p.text)
	}
	if len(out.docs) == 0 {
		r.warn(path.Join(r.folder, "Chart.yaml"), "the chart renders no objects")
	}
	return out.files(r.origin), nil
}

// valuesToRender returns the values that templates see, after it has applied conditions, tags and
// imports and checked the schemas of the charts.
func (r *renderer) valuesToRender(vals map[string]any) (chartutil.Values, *chartutil.Capabilities, error) {
	c, file := r.chart, path.Join(r.folder, "Chart.yaml")
	if t := c.Metadata.Type; t != "" && t != "application" {
		return nil, nil, problem(file, "a chart of type %s renders nothing by itself", t)
	}
	if r.folder != "" && r.opts.Version != "" && !chartutil.IsCompatibleRange(r.opts.Version, c.Metadata.Version) {
		return nil, nil, problem(file, "the chart's version is %s, but option version is %s", c.Metadata.Version, r.opts.Version)
	}
	if c.Metadata.Deprecated {
		r.warn(file, "the chart is deprecated")
	}
	releaseName := cmp.Or(r.opts.Release, c.Name())
	if err := chartutil.ValidateReleaseName(releaseName); err != nil {
		return nil, nil, problem("", "option release: %w", err)
	}
	kube, err := chartutil.ParseKubeVersion(r.opts.KubeVersion)
	if err != nil {
		return nil, nil, problem("", "option kubeVersion: %w", err)
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = *kube
	caps.APIVersions = slices.Concat(caps.APIVersions, r.opts.APIVersions)

	if err := chartutil.ProcessDependenciesWithMerge(c, vals); err != nil {
		return nil, nil, problem(file, "%w", err)
	}
	info := chartutil.ReleaseOptions{Name: releaseName, Namespace: r.namespace(), Revision: 1, IsInstall: true}
	// The schemas are checked below: Helm's check would fetch what they refer to.
	top, err := chartutil.ToRenderValuesWithSchemaValidation(c, vals, info, caps, true)
	if err != nil {
		return nil, nil, problem(path.Join(r.folder, "values.yaml"), "%w", err)
	}
	values, err := top.Table("Values")
	if err != nil {
		return nil, nil, problem(path.Join(r.folder, "values.yaml"), "%w", err)
	}
	s := schemas{renderer: r}
	s.check(c, values)
	return top, caps, s.problems.Err()
}

// warnUnknownHooks warns about templates with objects that Helm leaves out because it does
// not know their hook (crd-install of Helm 2, a misspelling).
func (r *renderer) warnUnknownHooks(rendered map[string]string, hooks []*release.Hook, manifests []releaseutil.Manifest) {
	missing := map[string]int{}
	for name, content := range rendered {
		// Splitting takes half of the time of sorting, and hooks are rare.
		if strings.Contains(content, release.HookAnnotation) && !strings.HasPrefix(path.Base(name), "_") {
			missing[name] = len(releaseutil.SplitManifests(content))
		}
	}
	for _, h := range hooks {
		missing[h.Path]--
	}
	for _, m := range manifests {
		missing[m.Name]--
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if n := missing[name]; n > 0 {
			r.warn(r.where(name), "%d of its objects left out, as in Helm: unknown helm.sh/hook", n)
		}
	}
}

// where returns the path below the root for Helm's name <chart>/templates/x.yaml.
func (r *renderer) where(name string) string { return path.Join(r.folder, inChart(name)) }

// origin returns the path below the root of a template, or "" if it is not a file there, because
// tape made it, or it is in a package or a remote chart.
func (r *renderer) origin(template string) string {
	if template == "" || r.tree == nil {
		return ""
	}
	name := r.where(template)
	if info, err := r.tree.root.Stat(filepath.FromSlash(name)); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return name
}

// inChart returns the path in the chart for Helm's name <chart>/templates/x.yaml.
func inChart(name string) string {
	if _, rest, ok := strings.Cut(name, "/"); ok {
		return rest
	}
	return name
}

// output groups documents by their template: one file each.
type output struct {
	docs      map[string][]string
	templates map[string]string // file → Helm's name of the template
}

// add appends a document to the file of its template. Empty documents are left out.
func (o *output) add(template, doc string) {
	if !hasContent(doc) {
		return
	}
	name := inChart(template)
	// Templates render YAML even if their name is x.json or x.tpl.
	if ext := path.Ext(name); ext != ".yaml" && ext != ".yml" {
		name += ".yaml"
	}
	o.put(name, doc)
	o.templates[name] = template
}

// put appends a document to a file.
func (o *output) put(name, doc string) {
	o.docs[name] = append(o.docs[name], strings.TrimSuffix(doc, "\n")+"\n")
}

func (o *output) files(origin func(template string) string) []interpreter.File {
	var files []interpreter.File
	for _, name := range slices.Sorted(maps.Keys(o.docs)) {
		files = append(files, interpreter.File{Path: name, Mode: 0o644, Origin: origin(o.templates[name]), Data: []byte(strings.Join(o.docs[name], "---\n"))})
	}
	return files
}

// hasContent reports whether a document has more than comments and blank lines.
func hasContent(doc string) bool {
	for line := range strings.Lines(doc) {
		if line = strings.TrimSpace(line); line != "" && line != "---" && !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}
