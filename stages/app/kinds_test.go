// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/images"
)

// What is attached to an image has the same kind before and after packaging: bundles, of which
// one is a signature, artifacts that only their layers identify, and manifests in the image's
// index.
func TestKindsAgree(t *testing.T) {
	up := registrytest.Serve(t, &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) {
		image := registrytest.Published()
		image.Referrers = append(image.Referrers,
			registrytest.Bundle("https://sigstore.dev/cosign/sign/v1"), registrytest.Bundle("https://spdx.dev/Document"),
			registrytest.Artifact{Type: "application/vnd.cncf.notary.signature"}, registrytest.Artifact{Type: "application/vnd.example"})
		return image, true
	}})
	down := registrytest.Serve(t, registrytest.Distribution(""))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pod.yaml"), []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: '"+up+"/web:1'}]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	kept, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	options := app.Options{
		Environment: app.Environment{Store: kept, Registry: client, Interpreters: plainAlone{}}, Sources: []app.Source{{Path: dir}},
	}
	found, err := app.Images(t.Context(), app.ImagesOptions{Options: options, Resolve: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Package(t.Context(), app.PackageOptions{Options: options, Repository: down + "/team/app", Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: options.Environment, Ref: down + "/team/app:v1"})
	if err != nil {
		t.Fatal(err)
	}
	kinds := func(list []images.Related) []string {
		out := []string{}
		for _, r := range list {
			out = append(out, r.Kind+" "+r.Via+" "+r.Digest.String()+" of "+r.To.String())
		}
		slices.Sort(out)
		return out
	}
	want, got := kinds(found.Images[0].Related), kinds(view.Images[0].Related)
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 8 {
		t.Errorf("%d kinds, viewed (-found +viewed):\n%s", len(want), diff)
	}
}
