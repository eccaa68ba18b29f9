// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// packaged returns a chart with one ConfigMap that contains its version.
func packaged(t *testing.T, chart, version string) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	files := map[string]string{
		"Chart.yaml":         fmt.Sprintf("apiVersion: v2\nname: %s\nversion: %s\n", chart, version),
		"templates/cm.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Chart.Name }}-{{ .Chart.Version }}\n",
		"templates/_ignored": "",
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if err := tw.WriteHeader(&tar.Header{Name: chart + "/" + file, Mode: 0o644, Size: int64(len(files[file]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, files[file]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// serve starts a server and returns its host and port.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func newRegistry() http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)))
}

// push puts a chart into a registry and returns its digest.
func push(t *testing.T, ref string, layer []byte) string {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer, chartLayer))
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), "application/vnd.cncf.helm.config.v1+json")
	return pushImage(t, ref, img)
}

func pushImage(t *testing.T, ref string, img v1.Image) string {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err == nil {
		err = ggcr.Write(r, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// isolated isolates the tests from the user's credentials.
func isolated(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("HELM_CONFIG_HOME", t.TempDir())
	t.Setenv("HELM_REGISTRY_CONFIG", "")
	t.Setenv("HELM_REPOSITORY_CONFIG", "")
}

// outcome is the result of rendering a remote chart.
type outcome struct {
	Object    string // the name of its ConfigMap
	Materials []interpreter.Material
	Problem   string
}

func outcomeOf(t *testing.T, req *interpreter.RenderRequest) outcome {
	t.Helper()
	resp := rendered(t, req)
	o := outcome{Materials: resp.Materials, Problem: summaries(resp.Diagnostics)}
	for _, f := range resp.Files {
		if _, name, ok := strings.Cut(string(f.Data), "name: "); ok {
			o.Object += strings.TrimSpace(name)
		}
	}
	return o
}

func jsonOf(t *testing.T, v any) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestRegistryCharts(t *testing.T) {
	isolated(t)
	host := serve(t, newRegistry())
	digests := map[string]string{}
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0+build.1", "2.0.0-rc.1"} {
		digests[v] = push(t, host+"/charts/shop:"+tag(v), packaged(t, "shop", v))
	}
	pushImage(t, host+"/charts/shop:latest", empty.Image)
	shop := "oci://" + host + "/charts/shop"
	material := func(v string) []interpreter.Material {
		return []interpreter.Material{{URI: shop + ":" + tag(v), Digest: digests[v]}}
	}
	for _, tt := range []struct {
		name, ref, version string
		locked             []interpreter.Material
		want               outcome
	}{
		{name: "tag", ref: shop + ":1.0.0", want: outcome{Object: "shop-1.0.0", Materials: material("1.0.0")}},
		{name: "version", ref: shop, version: "1.1.0", want: outcome{Object: "shop-1.1.0", Materials: material("1.1.0")}},
		{name: "version with build", ref: shop, version: "1.2.0+build.1", want: outcome{Object: "shop-1.2.0+build.1", Materials: material("1.2.0+build.1")}},
		{name: "tag and its version", ref: shop + ":1.1.0", version: "1.1.0", want: outcome{Object: "shop-1.1.0", Materials: material("1.1.0")}},
		{name: "tag and another version", ref: shop + ":1.1.0", version: "1.0.0", want: outcome{Problem: "error: : " + shop + ":1.1.0 and option version 1.0.0 contradict each other: give one of them"}},
		{name: "newest release", ref: shop, want: outcome{Object: "shop-1.2.0+build.1", Materials: material("1.2.0+build.1")}},
		{name: "range", ref: shop, version: "~1.1", want: outcome{Object: "shop-1.1.0", Materials: material("1.1.0")}},
		{name: "range of pre-releases", ref: shop, version: ">=2.0.0-0", want: outcome{Object: "shop-2.0.0-rc.1", Materials: material("2.0.0-rc.1")}},
		{name: "locked in range", ref: shop, version: "^1", locked: material("1.0.0"), want: outcome{Object: "shop-1.0.0", Materials: material("1.0.0")}},
		{name: "none in range", ref: shop, version: "^3", want: outcome{Problem: "error: : chart " + shop + `: no version matches "^3"`}},
		{name: "no range", ref: shop, version: "one", want: outcome{Problem: "error: : chart " + shop + `: version "one": improper constraint: "one"`}},
		{
			name: "digest", ref: shop + "@" + digests["1.0.0"],
			want: outcome{Object: "shop-1.0.0", Materials: []interpreter.Material{{URI: shop + "@" + digests["1.0.0"], Digest: digests["1.0.0"]}}},
		},
		{
			name: "locked, and the tag has moved", ref: shop + ":1.1.0",
			locked: []interpreter.Material{{URI: shop + ":1.1.0", Digest: digests["1.0.0"]}},
			want:   outcome{Object: "shop-1.0.0", Materials: []interpreter.Material{{URI: shop + ":1.1.0", Digest: digests["1.0.0"]}}},
		},
		{
			name: "locked, and gone", ref: shop + ":1.1.0",
			locked: []interpreter.Material{{URI: shop + ":1.1.0", Digest: string(digest.FromString("gone"))}},
			want:   outcome{Problem: "error: : fetch chart " + shop + ":1.1.0: " + host + " returned 404 Not Found"},
		},
		{name: "absent", ref: "oci://" + host + "/charts/none:1.0.0", want: outcome{Problem: "error: : fetch chart oci://" + host + "/charts/none:1.0.0: " + host + " returned 404 Not Found"}},
		{name: "no chart", ref: shop + ":latest", want: outcome{Problem: "error: : " + shop + ":latest is not a chart: it has no layer of type " + chartLayer}},
		{name: "no reference", ref: "oci://" + host + "/UPPER", want: outcome{Problem: "error: : chart reference oci://" + host + `/UPPER: invalid reference: invalid repository "UPPER"`}},
		{name: "no scheme of ours", ref: "ftp://example.com/shop", want: outcome{Problem: "error: : ftp://example.com/shop: want a chart reference that begins with oci:// or https://"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := outcomeOf(t, &interpreter.RenderRequest{Reference: tt.ref, Options: jsonOf(t, map[string]any{"version": tt.version}), Materials: tt.locked})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRepositoryCharts(t *testing.T) {
	isolated(t)
	one, two := packaged(t, "shop", "1.0.0"), packaged(t, "shop", "1.1.0")
	elsewhere := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the repository's credentials were sent elsewhere")
		}
		w.Write(two)
	}))
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); r.URL.Path != "/private/index.yaml" && user != "" || r.URL.Path == "/private/index.yaml" && (user != "me" || password != "secret") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/charts/index.yaml", "/private/index.yaml":
			fmt.Fprintf(w, "apiVersion: v1\nentries:\n  shop:\n  - {version: 1.0.0, urls: [shop-1.0.0.tgz]}\n  - {version: 1.1.0, urls: ['http://%s/shop-1.1.0.tgz']}\n  - {version: not-one, urls: [x]}\n  - {version: 0.9.0, urls: []}\n", elsewhere)
		case "/charts/shop-1.0.0.tgz", "/private/shop-1.0.0.tgz":
			w.Write(one)
		case "/charts/bad/index.yaml":
			io.WriteString(w, "<html>")
		default:
			http.NotFound(w, r)
		}
	}))
	repo := "http://" + host + "/charts"
	uri := map[string]string{"1.0.0": repo + "/shop-1.0.0.tgz", "1.1.0": "http://" + elsewhere + "/shop-1.1.0.tgz"}
	sum := map[string]string{"1.0.0": string(digest.FromBytes(one)), "1.1.0": string(digest.FromBytes(two))}
	material := func(v string) []interpreter.Material { return []interpreter.Material{{URI: uri[v], Digest: sum[v]}} }
	for _, tt := range []struct {
		name, ref, version string
		locked             []interpreter.Material
		want               outcome
	}{
		{name: "newest", ref: repo + "/shop", want: outcome{Object: "shop-1.1.0", Materials: material("1.1.0")}},
		{name: "version", ref: repo + "/shop/", version: "1.0.0", want: outcome{Object: "shop-1.0.0", Materials: material("1.0.0")}},
		{name: "package", ref: uri["1.0.0"], want: outcome{Object: "shop-1.0.0", Materials: material("1.0.0")}},
		{name: "locked in range", ref: repo + "/shop", version: "^1", locked: material("1.0.0"), want: outcome{Object: "shop-1.0.0", Materials: material("1.0.0")}},
		{
			name: "changed since it was locked", ref: uri["1.0.0"],
			locked: []interpreter.Material{{URI: uri["1.0.0"], Digest: sum["1.1.0"]}},
			want:   outcome{Problem: fmt.Sprintf("error: : %s is locked to %s but now has %s: updating the materials of the lock accepts the new one", uri["1.0.0"], sum["1.1.0"], sum["1.0.0"])},
		},
		{
			name: "credentials in the reference", ref: "http://me:secret@" + host + "/private/shop", version: "1.1.0",
			want: outcome{Object: "shop-1.1.0", Materials: material("1.1.0")},
		},
		{name: "no credentials", ref: "http://" + host + "/private/shop", want: outcome{Problem: "error: : read the index of chart repository http://" + host + "/private: " + host + " returned 401 Unauthorized"}},
		{name: "no such chart", ref: repo + "/none", want: outcome{Problem: "error: : chart repository " + repo + ` has no chart "none"`}},
		{name: "no such version", ref: repo + "/shop", version: "2", want: outcome{Problem: `error: : chart "shop" in repository ` + repo + `: no version matches "2"`}},
		{name: "no repository", ref: "http://" + host + "/shop", want: outcome{Problem: "error: : read the index of chart repository http://" + host + ": " + host + " returned 404 Not Found"}},
		{name: "no chart named", ref: "http://" + host + "/", want: outcome{Problem: "error: : http://" + host + "/ names no chart: want https://<repository>/<chart> or the URL of a package (.tgz)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := outcomeOf(t, &interpreter.RenderRequest{Reference: tt.ref, Options: jsonOf(t, map[string]any{"version": tt.version}), Materials: tt.locked})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDependenciesAreFetched(t *testing.T) {
	isolated(t)
	registry := serve(t, newRegistry())
	var indexed int
	repository := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/charts/index.yaml":
			indexed++
			io.WriteString(w, "entries:\n  web: [{version: 1.0.0, urls: [web-1.0.0.tgz]}, {version: 1.5.0, urls: [web-1.5.0.tgz]}]\n  cache: [{version: 0.1.0, urls: [cache-0.1.0.tgz]}]\n")
		case "/charts/web-1.0.0.tgz":
			w.Write(packaged(t, "web", "1.0.0"))
		case "/charts/cache-0.1.0.tgz":
			w.Write(packaged(t, "cache", "0.1.0"))
		default:
			http.NotFound(w, r)
		}
	}))
	db := push(t, registry+"/charts/db:14.0.0", packaged(t, "db", "14.0.0"))
	push(t, registry+"/charts/db:14.2.0", packaged(t, "db", "14.2.0"))
	config := filepath.Join(t.TempDir(), "repositories.yaml")
	write(t, config, fmt.Sprintf("repositories:\n- {name: mine, url: http://%s/charts, username: me, password: secret}\n", repository))
	t.Setenv("HELM_REPOSITORY_CONFIG", config)

	deps := fmt.Sprintf(`dependencies:
- {name: db, version: ^14.0.0, repository: oci://%s/charts}
- {name: web, version: ^1.0.0, repository: http://%s/charts}
- {name: web, alias: admin, version: ^1.0.0, repository: http://%[2]s/charts}
- {name: cache, version: "*", repository: "@mine"}
`, registry, repository)
	lock := strings.NewReplacer("^14.0.0", "14.0.0", "^1.0.0", "1.0.0", `"*"`, "0.1.0").Replace(deps)
	root := t.TempDir()
	write(t, filepath.Join(root, "app/Chart.yaml"), "apiVersion: v2\nname: app\nversion: 0.1.0\n"+deps)
	write(t, filepath.Join(root, "app/Chart.lock"), lock)

	in, err := New().Inputs(t.Context(), &interpreter.InputsRequest{Root: root, Path: "app"})
	if err != nil || len(in.Paths)+len(in.Diagnostics) > 0 {
		t.Fatalf("inputs %v, %v: want none, and no fetching", in, err)
	}
	got := outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: "app"})
	want := outcome{
		Object: "admin-1.0.0cache-0.1.0db-14.0.0web-1.0.0",
		Materials: []interpreter.Material{
			{URI: "http://" + repository + "/charts/cache-0.1.0.tgz", Digest: string(digest.FromBytes(packaged(t, "cache", "0.1.0")))},
			{URI: "http://" + repository + "/charts/web-1.0.0.tgz", Digest: string(digest.FromBytes(packaged(t, "web", "1.0.0")))},
			{URI: "oci://" + registry + "/charts/db:14.0.0", Digest: db},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if indexed != 1 {
		t.Errorf("the index was read %d times in one render, want once", indexed)
	}

	write(t, filepath.Join(root, "app/Chart.yaml"), "apiVersion: v2\nname: app\nversion: 0.1.0\ndependencies: [{name: x, version: 1.0.0, repository: \"alias:theirs\"}]\n")
	write(t, filepath.Join(root, "app/Chart.lock"), "dependencies: [{name: x, version: 1.0.0, repository: \"alias:theirs\"}]\n")
	got = outcomeOf(t, &interpreter.RenderRequest{Source: root, Path: "app"})
	want = outcome{Problem: "error: app/Chart.yaml:4: dependency \"x\": unknown repository \"theirs\": run `helm repo add theirs URL`, or give the URL in Chart.yaml"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRegistriesAreReachedAsTapeReachesThem(t *testing.T) {
	isolated(t)
	var namespaces []string
	inner := newRegistry()
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ns := r.URL.Query().Get("ns"); ns != "" && !slices.Contains(namespaces, ns) {
			namespaces = append(namespaces, ns)
		}
		inner.ServeHTTP(w, r)
	}))
	digest := push(t, host+"/charts/shop:1.0.0", packaged(t, "shop", "1.0.0"))

	hosts := t.TempDir()
	write(t, filepath.Join(hosts, "_default/hosts.toml"), fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+host))
	got := outcomeOf(t, &interpreter.RenderRequest{
		Reference:  "oci://registry.invalid/charts/shop",
		Registries: &interpreter.Registries{HostsDir: hosts},
	})
	want := outcome{Object: "shop-1.0.0", Materials: []interpreter.Material{{URI: "oci://registry.invalid/charts/shop:1.0.0", Digest: digest}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("through a mirror (-want +got):\n%s", diff)
	}
	if !slices.Equal(namespaces, []string{"registry.invalid"}) {
		t.Errorf("the mirror was asked for %q, want registry.invalid", namespaces)
	}

	if got := outcomeOf(t, &interpreter.RenderRequest{Reference: "oci://" + host + "/charts/shop", Registries: &interpreter.Registries{PlainHTTP: []string{host}}}); got.Object != "shop-1.0.0" {
		t.Errorf("plain http: %+v", got)
	}
	write(t, filepath.Join(hosts, "broken.invalid/hosts.toml"), "not toml at all")
	if got := outcomeOf(t, &interpreter.RenderRequest{Reference: "oci://broken.invalid/shop:1.0.0", Registries: &interpreter.Registries{HostsDir: hosts}}); !strings.Contains(got.Problem, "hosts.toml of broken.invalid") {
		t.Errorf("a hosts.toml that cannot be read: %+v", got)
	}
	missing := filepath.Join(hosts, "none.pem")
	if got := outcomeOf(t, &interpreter.RenderRequest{Reference: "oci://" + host + "/charts/shop", Registries: &interpreter.Registries{CAFile: missing}}); !strings.Contains(got.Problem, "read CA file") {
		t.Errorf("a CA file that is missing: %+v", got)
	}
}

func TestCredentials(t *testing.T) {
	isolated(t)
	inner := newRegistry()
	open := serve(t, inner)
	push(t, open+"/charts/shop:1.0.0", packaged(t, "shop", "1.0.0"))
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="charts"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	ref := "oci://" + host + "/charts/shop:1.0.0"
	login := func(password string) string {
		return fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte("me:"+password)))
	}

	want := "error: : fetch chart " + ref + ": " + host + " returned 401 Unauthorized: log in with `helm registry login " + host + "`"
	if got := outcomeOf(t, &interpreter.RenderRequest{Reference: ref}); got.Problem != want {
		t.Errorf("without credentials: %q, want %q", got.Problem, want)
	}
	docker := t.TempDir()
	write(t, filepath.Join(docker, "config.json"), login("secret"))
	t.Setenv("DOCKER_CONFIG", docker)
	if got := outcomeOf(t, &interpreter.RenderRequest{Reference: ref}); got.Object != "shop-1.0.0" {
		t.Errorf("docker's credentials: %+v", got)
	}
	own := filepath.Join(t.TempDir(), "config.json")
	write(t, own, login("wrong"))
	t.Setenv("HELM_REGISTRY_CONFIG", own)
	if got := outcomeOf(t, &interpreter.RenderRequest{Reference: ref}); !strings.Contains(got.Problem, "401 Unauthorized") || strings.Contains(got.Problem, "wrong") {
		t.Errorf("helm's credentials come first: %+v", got)
	}
}

func TestWrongBytes(t *testing.T) {
	isolated(t)
	inner := newRegistry()
	corrupt := ""
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, corrupt) && corrupt != "" {
			rec := httptest.NewRecorder()
			inner.ServeHTTP(rec, r)
			body := rec.Body.Bytes()
			body[len(body)-1] ^= 1
			w.Write(body)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	digest := push(t, host+"/charts/shop:1.0.0", packaged(t, "shop", "1.0.0"))
	for corrupt = range map[string]bool{"/manifests/": true, "/blobs/": true} {
		got := outcomeOf(t, &interpreter.RenderRequest{Reference: "oci://" + host + "/charts/shop@" + digest})
		if !strings.Contains(got.Problem, "instead of sha256:") {
			t.Errorf("%s: %+v", corrupt, got)
		}
	}
}

func TestFetchStopsWithItsContext(t *testing.T) {
	isolated(t)
	gone := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	host := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel(gone)
		<-r.Context().Done()
	}))
	for _, ref := range []string{"oci://" + host + "/charts/shop:1.0.0", "http://" + host + "/shop-1.0.0.tgz"} {
		_, err := New().Render(ctx, &interpreter.RenderRequest{Reference: ref})
		if !errors.Is(err, gone) {
			t.Errorf("%s: error %v, want %v", ref, err, gone)
		}
	}
}

func TestTagsOfManyPages(t *testing.T) {
	isolated(t)
	inner := newRegistry()
	host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tags/list") {
			if r.URL.Query().Get("last") == "" {
				w.Header().Set("Link", `</v2/charts/shop/tags/list?last=1.0.0&n=1>; rel="next"`)
				io.WriteString(w, `{"tags": ["1.0.0"]}`)
			} else {
				io.WriteString(w, `{"tags": ["1.1.0"]}`)
			}
			return
		}
		inner.ServeHTTP(w, r)
	}))
	push(t, host+"/charts/shop:1.1.0", packaged(t, "shop", "1.1.0"))
	if got := outcomeOf(t, &interpreter.RenderRequest{Reference: "oci://" + host + "/charts/shop"}); got.Object != "shop-1.1.0" {
		t.Errorf("%+v", got)
	}
}

func TestCAFile(t *testing.T) {
	isolated(t)
	inner := newRegistry()
	open := serve(t, inner)
	push(t, open+"/charts/shop:1.0.0", packaged(t, "shop", "1.0.0"))
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/shop-1.0.0.tgz" {
			w.Write(packaged(t, "shop", "1.0.0"))
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	// A name that is not a loopback address, for which TLS would not be verified.
	hosts := t.TempDir()
	write(t, filepath.Join(hosts, "registry.invalid/hosts.toml"), fmt.Sprintf("[host.%q]\n", s.URL))

	for _, ref := range []string{"oci://registry.invalid/charts/shop:1.0.0", s.URL + "/shop-1.0.0.tgz"} {
		how := &interpreter.Registries{HostsDir: hosts}
		if got := outcomeOf(t, &interpreter.RenderRequest{Reference: ref, Registries: how}); !strings.Contains(got.Problem, "certificate") {
			t.Errorf("%s without the CA file: %+v", ref, got)
		}
		how.CAFile = ca
		if got := outcomeOf(t, &interpreter.RenderRequest{Reference: ref, Registries: how}); got.Object != "shop-1.0.0" {
			t.Errorf("%s with the CA file: %+v", ref, got)
		}
	}
}
