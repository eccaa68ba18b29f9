// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/stages/app"
)

// A run makes only the necessary requests, and the next one only those for what can have
// changed: the tags, and what was attached to the images since. (An image has two platforms
// with attestation manifests, two layers each, and a signature.)
func TestRequests(t *testing.T) {
	const count, first, again = 20, 63, 15
	for name, destination := range map[string]http.Handler{
		"without referrers": registrytest.Distribution(""),
		"with referrers":    registrytest.GGCR(),
	} {
		t.Run(name, func(t *testing.T) {
			up := registrytest.Count(&registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) {
				return registrytest.Image{Layers: []int64{2000, 800}, Inline: 1, Signatures: 1}, true
			}})
			down := registrytest.Count(destination)
			upAddr, downAddr := registrytest.Serve(t, up), registrytest.Serve(t, down)
			dir := t.TempDir()
			manifests := filepath.Join(dir, "manifests")
			if err := os.Mkdir(manifests, 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range count {
				pod := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p%d}\nspec: {containers: [{name: c, image: '%s/app%[1]d:1'}]}\n", i, upAddr)
				if err := os.WriteFile(filepath.Join(manifests, fmt.Sprintf("%d.yaml", i)), []byte(pod), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			kept, err := store.Open(t.Context(), filepath.Join(dir, "store"), store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			// run is one process: what a client knows comes from the store.
			run := func() (upstream, downstream registrytest.Stats) {
				t.Helper()
				client, err := registry.New(registry.Options{ManifestFile: store.ManifestFile(kept.Dir())})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := app.Package(t.Context(), app.PackageOptions{
					Options: app.Options{
						Environment: app.Environment{Store: kept, Registry: client, Interpreters: plainAlone{}},
						Sources:     []app.Source{{Path: manifests}},
					},
					Repository: downAddr + "/app",
				}); err != nil {
					t.Fatal(err)
				}
				return up.Reset(), down.Reset()
			}

			upstream, downstream := run()
			if n := upstream.Total() + downstream.Total(); n > first*count {
				t.Errorf("%d requests for %d images: %v, %v", n, count, upstream.Requests, downstream.Requests)
			}
			upstream, downstream = run()
			if n := upstream.Total() + downstream.Total(); n > again*count {
				t.Errorf("again: %d requests for %d images: %v, %v", n, count, upstream.Requests, downstream.Requests)
			}
			if n := upstream.Requests["GET manifests"] + upstream.Requests["GET blobs"] + downstream.Requests["PUT uploads"]; n > 0 {
				t.Errorf("again: %d bodies moved: %v, %v", n, upstream.Requests, downstream.Requests)
			}
		})
	}
}
