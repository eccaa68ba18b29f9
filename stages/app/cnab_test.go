// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	containerdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// bundleOf returns a bundle of images in a registry.
func bundleOf(host string) []byte {
	return []byte(`{"schemaVersion":"v1.0.0","name":"shop","version":"1.0.0","description":"",` +
		`"invocationImages":[{"image":"` + host + `/shop/installer:1","imageType":"docker"}],` +
		`"images":{"web":{"image":"` + host + `/shop/web:1"},"also":{"image":"` + host + `/shop/web:1"}},` +
		`"credentials":{"key":{"path":"/key"}}}`)
}

func bundleEnvironment(t *testing.T) app.Environment {
	t.Helper()
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return app.Environment{Registry: client}
}

// TestBundle checks that a bundle pushed to any kind of registry can be pulled from it, with
// all images.
func TestBundle(t *testing.T) {
	upstream := registrytest.Serve(t, &registrytest.Upstream{})
	for kind, handler := range twoRegistries() {
		t.Run(kind, func(t *testing.T) {
			repository := registrytest.Serve(t, handler()) + "/team/shop"
			o := app.BundleOptions{Environment: bundleEnvironment(t), Bundle: bundleOf(upstream), Target: repository + ":v1"}
			pushed, err := app.PushBundle(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if pushed.Moved.Blobs == 0 || len(pushed.Warnings) > 0 || pushed.Ref != repository+":v1@"+pushed.Digest.String() {
				t.Errorf("%+v", pushed)
			}
			for _, ref := range []string{repository + ":v1", repository + "@" + pushed.Digest.String()} {
				pulled, err := app.PullBundle(t.Context(), app.PullBundleOptions{Environment: o.Environment, Ref: ref})
				if err != nil {
					t.Fatal(err)
				}
				want := *pushed
				want.Ref, want.Moved, want.MovedTags = pulled.Ref, nil, nil
				if diff := cmp.Diff(&want, pulled); diff != "" {
					t.Errorf("%s (-pushed +pulled):\n%s", ref, diff)
				}
			}
			// Permission to pull the index is permission to pull everything that it lists.
			to := registrytest.Serve(t, registrytest.GGCR()) + "/copy"
			if _, err := app.Copy(t.Context(), app.CopyOptions{
				Environment: o.Environment, Pairs: []app.CopyPair{{Source: repository + "@" + pushed.Digest.String(), Target: to}},
			}); err != nil {
				t.Error(err)
			}
			again, err := app.PushBundle(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if again.Digest != pushed.Digest || again.Moved.Blobs+again.Moved.Mounted != 0 {
				t.Errorf("again: %s, moved %+v", again.Digest, again.Moved)
			}
		})
	}
}

// TestBundleMounts checks that images of the same registry are not sent again.
func TestBundleMounts(t *testing.T) {
	host := registrytest.Serve(t, registrytest.Distribution(""))
	env := bundleEnvironment(t)
	upstream := registrytest.Serve(t, &registrytest.Upstream{})
	for _, name := range []string{"/shop/installer:1", "/shop/web:1"} {
		if _, err := app.Copy(t.Context(), app.CopyOptions{
			Environment: env, Pairs: []app.CopyPair{{Source: upstream + name, Target: host + name}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	fixed, err := app.FixupBundle(t.Context(), app.BundleOptions{Environment: env, Bundle: bundleOf(host), Target: host + "/team/shop"})
	if err != nil {
		t.Fatal(err)
	}
	if fixed.Moved.Blobs != 0 || fixed.Moved.Mounted == 0 || fixed.Digest != "" {
		t.Errorf("%+v, moved %+v", fixed, fixed.Moved)
	}
}

// TestBundleFallbacks checks that a registry that rejects media types gets a bundle with older
// ones, with a warning, which can be pulled; or none.
func TestBundleFallbacks(t *testing.T) {
	upstream := registrytest.Serve(t, &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) {
		return registrytest.Image{Single: true, Docker: true}, true
	}})
	for name, tt := range map[string]struct {
		refuses  func(registrytest.ManifestFields) bool
		warnings int
		want     string // media type of the index, or part of the error
	}{
		"its config": {func(m registrytest.ManifestFields) bool {
			return m.Config != nil && strings.Contains(m.Config.MediaType, "cnab")
		}, 1, ocispec.MediaTypeImageIndex},
		"all of OCI": {func(m registrytest.ManifestFields) bool {
			return strings.Contains(m.ContentType, "oci")
		}, 2, containerdimages.MediaTypeDockerSchema2ManifestList},
		"every index": {registrytest.Index, 0, "400"},
	} {
		t.Run(name, func(t *testing.T) {
			host := registrytest.Serve(t, registrytest.Reject(registrytest.GGCR(), tt.refuses))
			o := app.BundleOptions{Environment: bundleEnvironment(t), Bundle: bundleOf(upstream), Target: host + "/shop:v1"}
			strict := o
			strict.NoFallbacks = true
			if _, err := app.PushBundle(t.Context(), strict); err == nil || !strings.Contains(err.Error(), "allow fallbacks") {
				t.Errorf("without fallbacks: %v", err)
			}
			pushed, err := app.PushBundle(t.Context(), o)
			if tt.warnings == 0 {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(pushed.Warnings) != tt.warnings {
				t.Errorf("warnings %q", pushed.Warnings)
			}
			repository, err := o.Registry.Repository(host + "/shop")
			if err != nil {
				t.Fatal(err)
			}
			desc, err := repository.Resolve(t.Context(), "v1")
			if err != nil || desc.MediaType != tt.want || desc.Digest != pushed.Digest {
				t.Errorf("index %+v, %v", desc, err)
			}
			if pulled, err := app.PullBundle(t.Context(), app.PullBundleOptions{Environment: o.Environment, Ref: host + "/shop:v1"}); err != nil || string(pulled.Bundle) != string(pushed.Bundle) {
				t.Errorf("pulled %+v, %v", pulled, err)
			}
		})
	}
}

// TestBundleWhole checks that nothing is pushed if any part of a bundle is missing, and that no
// tag is set if the push is interrupted.
func TestBundleWhole(t *testing.T) {
	upstream := registrytest.Serve(t, &registrytest.Upstream{Image: func(name, _ string) (registrytest.Image, bool) {
		return registrytest.Image{}, !strings.Contains(name, "installer")
	}})
	counter := registrytest.Count(registrytest.GGCR())
	host := registrytest.Serve(t, counter)
	var states []engine.State
	env := bundleEnvironment(t)
	env.Events = func(e engine.Event) {
		if e.State != "" {
			states = append(states, e.State)
		}
	}
	_, err := app.PushBundle(t.Context(), app.BundleOptions{Environment: env, Bundle: bundleOf(upstream), Target: host + "/shop:v1"})
	if err == nil || !strings.Contains(err.Error(), "push bundle to "+host+"/shop:v1: invocation image ("+upstream+"/shop/installer:1): ") {
		t.Errorf("%v", err)
	}
	if n := counter.Stats().Total(); n != 0 {
		t.Errorf("%d requests for nothing", n)
	}
	if !slices.Equal(states, []engine.State{engine.Running, engine.Failed}) {
		t.Errorf("states %v", states)
	}

	whole := registrytest.Serve(t, &registrytest.Upstream{})
	broken := registrytest.Serve(t, registrytest.Misbehave(registrytest.GGCR(),
		registrytest.After(1, registrytest.Is(registrytest.Manifests, http.MethodPut)), registrytest.Status(http.StatusForbidden)))
	env = bundleEnvironment(t)
	if _, err := app.PushBundle(t.Context(), app.BundleOptions{Environment: env, Bundle: bundleOf(whole), Target: broken + "/shop:v1"}); err == nil {
		t.Error("a push that was refused succeeds")
	}
	if _, err := app.PullBundle(t.Context(), app.PullBundleOptions{Environment: env, Ref: broken + "/shop:v1"}); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("a tag was set: %v", err)
	}
}
