// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"
	"sigs.k8s.io/yaml"

	"helm.sh/helm/v3/pkg/chart"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Media types of a chart in a registry (helm.sh/helm/v3/pkg/registry).
const (
	chartLayer       = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	legacyChartLayer = "application/tar+gzip"
)

// Limits on what is fetched. Helm unpacks charts of up to 100 MiB; the largest known index, the
// one of bitnami with its whole history, had 25 MiB.
const (
	maxManifest = 4 << 20
	maxChart    = 100 << 20
	maxIndex    = 128 << 20
)

// fetcher fetches charts from registries and repositories. Every fetched chart is a material. A
// locked chart is only fetched by its locked digest.
type fetcher struct {
	*interpreter.Fetched
	remote  remote
	indexes map[string]map[string][]indexed // repository URL → chart → releases
}

// indexed is a chart version in the index of a repository.
type indexed struct {
	Version string   `json:"version"`
	URLs    []string `json:"urls"`
}

func newFetcher(locked []interpreter.Material, how *interpreter.Registries) *fetcher {
	f := &fetcher{Fetched: interpreter.NewFetched(locked), indexes: map[string]map[string][]indexed{}}
	if how != nil {
		f.remote.how = *how
	}
	return f
}

func (f *fetcher) Close() { f.remote.Close() }

// record adds a material.
func (f *fetcher) record(uri string, got digest.Digest) error {
	if err := f.Record(uri, got.String()); err != nil {
		return problem("", "%w", err)
	}
	return nil
}

// reference fetches the chart at the reference of a source.
func (f *fetcher) reference(ctx context.Context, ref, version string) (*chart.Chart, error) {
	scheme, _, _ := strings.Cut(ref, "://")
	switch scheme {
	case "oci":
		return f.oci(ctx, ref, version)
	case "https", "http":
		u, err := url.Parse(ref)
		if err != nil {
			return nil, problem("", "the chart's reference is not a URL")
		}
		if isPackage(u) {
			return f.download(ctx, u)
		}
		repository, name := path.Split(strings.TrimSuffix(u.Path, "/"))
		if name == "" {
			return nil, problem("", "%s names no chart: want https://<repository>/<chart> or the URL of a package (.tgz)", materialURI(u))
		}
		u.Path, u.RawPath = strings.TrimSuffix(repository, "/"), ""
		return f.repository(ctx, u, name, version)
	}
	return nil, problem("", "%s: want a chart reference that begins with oci:// or https://", ref)
}

// dependency fetches a remote dependency.
func (f *fetcher) dependency(ctx context.Context, dep *chart.Dependency, version string) (*chart.Chart, error) {
	repository := dep.Repository
	if alias, ok := strings.CutPrefix(repository, "@"); ok {
		repository = "alias:" + alias
	}
	if alias, ok := strings.CutPrefix(repository, "alias:"); ok {
		entry, err := f.remote.repository(func(r repositoryEntry) bool { return r.Name == alias })
		if err != nil {
			return nil, err
		}
		if entry.URL == "" {
			return nil, problem("", "dependency %q: unknown repository %q: run `helm repo add %s URL`, or give the URL in Chart.yaml", dep.Name, alias, alias)
		}
		repository = entry.URL
	}
	if strings.HasPrefix(repository, "oci://") {
		return f.oci(ctx, strings.TrimSuffix(repository, "/")+"/"+dep.Name, version)
	}
	u, err := url.Parse(repository)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, problem("", "dependency %q: repository %q: want oci://, https:// or file://", dep.Name, repository)
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), ""
	return f.repository(ctx, u, dep.Name, version)
}

// oci fetches a chart from a registry.
func (f *fetcher) oci(ctx context.Context, ref, version string) (*chart.Chart, error) {
	if strings.Contains(strings.SplitN(strings.TrimPrefix(ref, "oci://"), "/", 2)[0], "@") {
		return nil, problem("", "a chart reference must not contain user or password: log in to the registry with `helm registry login` or `docker login`")
	}
	r, err := registry.ParseReference(strings.TrimPrefix(ref, "oci://"))
	if err != nil {
		return nil, problem("", "chart reference %s: %w", ref, err)
	}
	name := "oci://" + r.Registry + "/" + r.Repository
	switch {
	case r.Reference != "" && version != "" && r.Reference != tag(version):
		return nil, problem("", "%s and option version %s contradict each other: give one of them", ref, version)
	case r.Reference == "":
		if r.Reference, err = f.tag(ctx, r, name, version); err != nil {
			return nil, err
		}
	}
	uri, want := name+":"+r.Reference, f.Locked(name+":"+r.Reference)
	if d, err := r.Digest(); err == nil {
		uri, want = name+"@"+d.String(), d.String()
	}
	data, err := f.remote.manifest(ctx, r.Registry, r.Repository, cmp.Or(want, r.Reference))
	if err != nil {
		return nil, problem("", "fetch chart %s: %w", uri, err)
	}
	got := digest.FromBytes(data)
	if want != "" && want != got.String() {
		return nil, problem("", "fetch chart %s: the registry returned %s instead of %s", uri, got, want)
	}
	if err := f.record(uri, got); err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, problem("", "fetch chart %s: its manifest: %w", uri, err)
	}
	i := slices.IndexFunc(m.Layers, func(l ocispec.Descriptor) bool {
		return l.MediaType == chartLayer || l.MediaType == legacyChartLayer
	})
	if i < 0 {
		return nil, problem("", "%s is not a chart: it has no layer of type %s", uri, chartLayer)
	}
	if m.Layers[i].Size > maxChart {
		return nil, problem("", "%s has %d bytes, more than the %d allowed for a chart", uri, m.Layers[i].Size, maxChart)
	}
	layer, err := f.remote.blob(ctx, r.Registry, r.Repository, m.Layers[i])
	if err != nil {
		return nil, problem("", "fetch chart %s: %w", uri, err)
	}
	return unpack(uri, layer)
}

// tag returns the tag for a version. For a range, it is the tag of the newest version in the
// range, preferring locked versions.
func (f *fetcher) tag(ctx context.Context, r registry.Reference, name, version string) (string, error) {
	if _, err := semver.StrictNewVersion(version); err == nil {
		return tag(version), nil
	}
	tags, err := f.remote.tags(ctx, r.Registry, r.Repository)
	if err != nil {
		return "", problem("", "list the versions of chart %s: %w", name, err)
	}
	versions := make([]string, len(tags))
	for i, t := range tags {
		versions[i] = strings.ReplaceAll(t, "_", "+")
	}
	v, err := newest(versions, version, func(v string) bool { return f.Locked(name+":"+tag(v)) != "" })
	if err != nil {
		return "", problem("", "chart %s: %w", name, err)
	}
	return tag(v), nil
}

// tag returns the tag for a version: tags cannot contain a plus.
func tag(version string) string { return strings.ReplaceAll(version, "+", "_") }

// repository fetches a chart from a chart repository. The index is not a material, because it
// only locates the package, which is a material.
func (f *fetcher) repository(ctx context.Context, base *url.URL, name, version string) (*chart.Chart, error) {
	where := materialURI(base)
	index, err := f.index(ctx, base)
	if err != nil {
		return nil, problem("", "read the index of chart repository %s: %w", where, err)
	}
	urls := map[string]*url.URL{}
	var versions []string
	for _, r := range index[name] {
		if len(r.URLs) == 0 || urls[r.Version] != nil {
			continue
		}
		if u, err := resolve(base, r.URLs[0]); err == nil {
			urls[r.Version] = u
			versions = append(versions, r.Version)
		}
	}
	if len(versions) == 0 {
		return nil, problem("", "chart repository %s has no chart %q", where, name)
	}
	v, err := newest(versions, version, func(v string) bool { return f.Locked(materialURI(urls[v])) != "" })
	if err != nil {
		return nil, problem("", "chart %q in repository %s: %w", name, where, err)
	}
	return f.download(ctx, urls[v])
}

// index returns the index of a repository. It is read once per render.
func (f *fetcher) index(ctx context.Context, base *url.URL) (map[string][]indexed, error) {
	key := base.String()
	if index, ok := f.indexes[key]; ok {
		return index, nil
	}
	u := *base
	u.Path += "/index.yaml"
	data, err := f.remote.get(ctx, &u, maxIndex)
	if err != nil {
		return nil, err
	}
	var index struct {
		Entries map[string][]indexed `json:"entries"`
	}
	if err := yaml.Unmarshal(data, &index); err != nil {
		return nil, err
	}
	f.indexes[key] = index.Entries
	return index.Entries, nil
}

// download fetches a packaged chart.
func (f *fetcher) download(ctx context.Context, u *url.URL) (*chart.Chart, error) {
	uri := materialURI(u)
	data, err := f.remote.get(ctx, u, maxChart)
	if err != nil {
		return nil, problem("", "fetch chart %s: %w", uri, err)
	}
	if err := f.record(uri, digest.FromBytes(data)); err != nil {
		return nil, err
	}
	return unpack(uri, data)
}

// newest returns the newest version in a range, or the newest locked one if any is locked.
// An empty range means any version except pre-releases.
func newest(versions []string, within string, locked func(string) bool) (string, error) {
	constraint, err := semver.NewConstraint(cmp.Or(within, "*"))
	if err != nil {
		return "", fmt.Errorf("version %q: %w", within, err)
	}
	if slices.Contains(versions, within) {
		return within, nil
	}
	type candidate struct {
		version *semver.Version
		locked  bool
	}
	var best candidate
	for _, s := range versions {
		v, err := semver.NewVersion(s)
		if err != nil || !constraint.Check(v) {
			continue
		}
		c := candidate{v, locked(s)}
		if best.version == nil || c.locked && !best.locked || c.locked == best.locked && v.GreaterThan(best.version) {
			best = c
		}
	}
	if best.version == nil {
		return "", fmt.Errorf("no version matches %q", cmp.Or(within, "*"))
	}
	return best.version.Original(), nil
}

// resolve resolves a URL in an index, which may be relative to the repository.
func resolve(base *url.URL, ref string) (*url.URL, error) {
	u, err := url.Parse(ref)
	if err != nil || u.IsAbs() {
		return u, err
	}
	folder := *base
	folder.Path = strings.TrimSuffix(folder.Path, "/") + "/"
	u = folder.ResolveReference(u)
	u.RawQuery = cmp.Or(u.RawQuery, base.RawQuery)
	return u, nil
}

// materialURI returns a URL without credentials and without the query, which may contain
// tokens.
func materialURI(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

func isPackage(u *url.URL) bool {
	return strings.HasSuffix(u.Path, ".tgz") || strings.HasSuffix(u.Path, ".tar.gz")
}
