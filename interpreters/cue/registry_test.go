// SPDX-License-Identifier: Apache-2.0

package cue_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"cuelang.org/go/mod/modregistrytest"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/taped-dev/tape/plugins/interpreter"
)

const published = `
-- example.org_lib_v0.1.0/cue.mod/module.cue --
module: "example.org/lib@v0"
language: version: "v0.15.0"
deps: "example.org/names@v0": v: "v0.2.0"
-- example.org_lib_v0.1.0/lib.cue --
package lib

import "example.org/names"

#Map: {apiVersion: "v1", kind: "ConfigMap", metadata: name: names.prefix + #name, #name: string}
-- example.org_names_v0.2.0/cue.mod/module.cue --
module: "example.org/names@v0"
language: version: "v0.15.0"
-- example.org_names_v0.2.0/names.cue --
package names

prefix: "shop-"
`

const consumer = `
-- cue.mod/module.cue --
module: "example.com/shop@v0"
language: version: "v0.15.0"
deps: {
	"example.org/lib@v0": v: "v0.1.0"
	"example.org/names@v0": v: "v0.2.0"
}
-- app.cue --
package app

import "example.org/lib"

config: lib.#Map & {#name: "web"}
`

// registryServer is a registry that has modules and records requests.
type registryServer struct {
	host string
	mu   sync.Mutex
	seen []string // method and path
}

func newRegistry(t *testing.T, archive string) *registryServer {
	t.Helper()
	fsys := fstest.MapFS{}
	for _, f := range txtar.Parse([]byte(archive)).Files {
		fsys[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	memory := ocimem.New()
	if err := modregistrytest.Upload(t.Context(), memory, fsys); err != nil {
		t.Fatal(err)
	}
	s := &registryServer{}
	backend := ociserver.New(memory, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

// asked returns the requests that contain a text.
func (s *registryServer) asked(text string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.seen), func(r string) bool { return !strings.Contains(r, text) })
}

const want = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: shop-web\n"

// noConfiguration isolates the test from the user's configuration.
func noConfiguration(t *testing.T) {
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "CUE_CONFIG_DIR"} {
		t.Setenv(name, t.TempDir())
	}
}

// Modules from a registry are materials; a locked one is fetched by its digest even if its tag
// was moved.
func TestRegistry(t *testing.T) {
	noConfiguration(t)
	registry := newRegistry(t, published)
	t.Setenv("CUE_REGISTRY", registry.host)
	dir := layOut(t, consumer)

	resp := render(t, interpreter.RenderRequest{Source: dir, Path: "."})
	if len(resp.Diagnostics) > 0 || len(resp.Files) != 1 || string(resp.Files[0].Data) != want {
		t.Fatalf("response %+v", resp)
	}
	var uris []string
	for _, m := range resp.Materials {
		uris = append(uris, m.URI)
		if !strings.HasPrefix(m.Digest, "sha256:") || len(m.Digest) != 71 {
			t.Errorf("material %+v", m)
		}
	}
	base := "oci://" + registry.host + "/example.org/"
	if diff := cmp.Diff([]string{base + "lib:v0.1.0", base + "names:v0.2.0"}, uris); diff != "" {
		t.Error(diff)
	}

	locked := render(t, interpreter.RenderRequest{Source: dir, Path: ".", Materials: resp.Materials})
	if diff := cmp.Diff(resp, locked); diff != "" {
		t.Error(diff)
	}
	if n := len(registry.asked("/names/manifests/v0.2.0")); n != 1 {
		t.Errorf("the tag of a locked module was asked for: %d times in all", n)
	}

	gone := slices.Clone(resp.Materials)
	gone[0].Digest = "sha256:" + strings.Repeat("0", 64)
	failed := render(t, interpreter.RenderRequest{Source: dir, Path: ".", Materials: gone})
	if len(failed.Diagnostics) == 0 || !strings.Contains(failed.Diagnostics[0].Summary, "as locked (sha256:000") {
		t.Errorf("diagnostics %+v", failed.Diagnostics)
	}
}

// tape's registry settings apply: plain HTTP and mirrors.
func TestRegistries(t *testing.T) {
	noConfiguration(t)
	registry := newRegistry(t, published)
	dir := layOut(t, consumer)
	_, port, _ := strings.Cut(registry.host, ":")

	// For this name CUE itself would use TLS.
	name := "ip6-localhost.example:" + port
	t.Setenv("CUE_REGISTRY", name)
	hosts := t.TempDir()
	file := filepath.Join(hosts, "_default", "hosts.toml")
	if err := os.MkdirAll(filepath.Dir(file), fs.ModePerm); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("[host.\"http://"+registry.host+"\"]\n  capabilities = [\"pull\", \"resolve\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp := render(t, interpreter.RenderRequest{Source: dir, Path: ".", Registries: &interpreter.Registries{HostsDir: hosts}})
	if len(resp.Files) != 1 || string(resp.Files[0].Data) != want {
		t.Fatalf("by way of a mirror: %+v", resp)
	}
	if len(registry.asked("ns=ip6-localhost.example")) == 0 {
		t.Error("the mirror was not told what it mirrors")
	}
	if uri := resp.Materials[0].URI; !strings.HasPrefix(uri, "oci://"+name+"/") {
		t.Errorf("material %s is named after the mirror", uri)
	}

	if err := os.WriteFile(file, []byte("not toml at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp = render(t, interpreter.RenderRequest{Source: dir, Path: ".", Registries: &interpreter.Registries{HostsDir: hosts}})
	if len(resp.Diagnostics) == 0 || !strings.Contains(fmt.Sprint(resp.Diagnostics), "hosts.toml of "+name) {
		t.Errorf("a hosts.toml that cannot be read: %+v", resp.Diagnostics)
	}

	t.Setenv("CUE_REGISTRY", registry.host+"+secure")
	resp = render(t, interpreter.RenderRequest{Source: dir, Path: ".", Registries: &interpreter.Registries{PlainHTTP: []string{registry.host}}})
	if len(resp.Files) != 1 {
		t.Errorf("without TLS: %+v", resp.Diagnostics)
	}
	resp = render(t, interpreter.RenderRequest{Source: dir, Path: "."})
	if len(resp.Diagnostics) == 0 {
		t.Error("a registry without TLS was taken for one with")
	}
}

// A module without dependencies sends no request, whatever is configured.
func TestNoRegistry(t *testing.T) {
	noConfiguration(t)
	t.Setenv("CUE_REGISTRY", "not a registry!")
	resp := render(t, interpreter.RenderRequest{Path: ".", Source: layOut(t, module+"-- app.cue --\npackage app\n\napiVersion: \"v1\"\nkind: \"Secret\"\nmetadata: name: \"x\"\n")})
	if len(resp.Files) != 1 || resp.Materials != nil {
		t.Errorf("response %+v", resp)
	}
}
