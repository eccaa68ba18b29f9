// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/app"
)

// A dry run reports the same counts as the following run: in a new repository, again, with a
// changed image, with --check, and with images from a repository of the same registry.
func TestDryRunCounts(t *testing.T) {
	for kind, destination := range map[string]http.Handler{
		"distribution": registrytest.Distribution(""), "ggcr": registrytest.GGCR(),
	} {
		t.Run(kind, func(t *testing.T) {
			down := registrytest.Serve(t, destination)
			up := registrytest.Serve(t, &registrytest.Upstream{Image: func(name, _ string) (registrytest.Image, bool) {
				image := registrytest.Published()
				if name == "large" {
					image.Layers = []int64{1<<20 + 1} // too large for memory
				}
				return image, true
			}})
			dir := t.TempDir()
			kept, err := store.Open(t.Context(), filepath.Join(dir, "store"), store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			pack := func(repository string, dry, check bool, images ...string) transfer.Moved {
				t.Helper()
				pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n"
				for _, image := range images {
					pod += "  - {name: c, image: '" + image + "'}\n"
				}
				manifest := filepath.Join(dir, "app", "pod.yaml")
				if err := os.MkdirAll(filepath.Dir(manifest), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(manifest, []byte(pod), 0o644); err != nil {
					t.Fatal(err)
				}
				client, err := registry.New(registry.Options{ManifestFile: store.ManifestFile(kept.Dir())})
				if err != nil {
					t.Fatal(err)
				}
				result, err := app.Package(t.Context(), app.PackageOptions{
					Options: app.Options{
						Environment: app.Environment{Store: kept, Registry: client, Interpreters: plainAlone{}},
						Sources:     []app.Source{{Path: filepath.Dir(manifest)}},
					},
					Repository: down + "/" + repository, Tags: []string{"v1"}, DryRun: dry, Check: check,
				})
				if err != nil {
					t.Fatal(err)
				}
				return result.Moved
			}
			client, err := registry.New(registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := app.Copy(t.Context(), app.CopyOptions{
				Environment: app.Environment{Registry: client}, Pairs: []app.CopyPair{{Source: up + "/a:1", Target: down + "/lib/a"}},
			}); err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				name, repository string
				check            bool
				images           []string
			}{
				{"new", "app", false, []string{up + "/a:1", up + "/large:1"}},
				{"again", "app", false, []string{up + "/a:1", up + "/large:1"}},
				{"checked", "app", true, []string{up + "/a:1", up + "/large:1"}},
				{"one more", "app", false, []string{up + "/a:1", up + "/b:1", up + "/large:1"}},
				{"mounted", "other", false, []string{down + "/lib/a:1"}},
			} {
				if kind == "ggcr" && test.name == "mounted" {
					continue // it does not support mounts, which only shows when one is tried
				}
				dry := pack(test.repository, true, test.check, test.images...)
				if again := pack(test.repository, true, test.check, test.images...); again != dry {
					t.Errorf("%s: a second dry run counts %+v, the first one %+v", test.name, again, dry)
				}
				if run := pack(test.repository, false, test.check, test.images...); dry != run {
					t.Errorf("%s: a dry run counts %+v, the run %+v", test.name, dry, run)
				}
			}
		})
	}
}

// writer is a third-party stage that declares effects.
type writer struct{ ran *atomic.Int32 }

func (w writer) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	w.ran.Add(1)
	desc, err := engine.Put(ctx, t.Store, "text/plain", []byte("told"))
	return engine.Outputs{"told": desc}, err
}

// A stage with effects is not run by a dry run nor by a run that saves, and neither are its
// dependents.
func TestDryRunLeavesOutWhatWrites(t *testing.T) {
	up := registrytest.Serve(t, &registrytest.Upstream{})
	env, closeEnv, err := environment(t.TempDir(), up)
	if err != nil {
		t.Fatal(err)
	}
	defer closeEnv()
	var ran, after atomic.Int32
	kind := func(name string, effects bool, count *atomic.Int32, inputs ...pipeline.Port) pipeline.Kind {
		return pipeline.Kind{
			Name: name, Effects: effects, Inputs: inputs, Outputs: []string{"told"},
			New: func(json.RawMessage) (engine.Stage, error) { return writer{count}, nil },
		}
	}
	env.Kinds = []pipeline.Kind{
		kind("notify", true, &ran, pipeline.Port{Name: "root"}), kind("count", false, &after, pipeline.Port{Name: "told"}),
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tape.yaml"), `apiVersion: tape/v1
kind: Pipeline
sources: [{path: app}]
nodes:
  notify: {inputs: {root: index.root}}
  count: {inputs: {told: notify.told}}
`)
	write(t, filepath.Join(dir, "app", "pod.yaml"), "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'nginx:1'}]}\n")
	o := app.PackageOptions{
		Options:    app.Options{Environment: env, Pipeline: filepath.Join(dir, "tape.yaml")},
		Repository: registrytest.Serve(t, registrytest.Distribution("")) + "/app", Tags: []string{"v1"},
	}
	dry, save := o, o
	dry.DryRun, save.Save = true, filepath.Join(dir, "app.tar")
	for _, test := range []struct {
		name string
		o    app.PackageOptions
		want int32
	}{{"dry", dry, 0}, {"save", save, 0}, {"push", o, 1}} {
		if _, err := app.Package(t.Context(), test.o); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if ran.Load() != test.want || after.Load() != test.want {
			t.Errorf("%s: what writes ran %d times, what waits for it %d times, want %d", test.name, ran.Load(), after.Load(), test.want)
		}
	}
}
