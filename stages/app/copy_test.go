// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/crane"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// copyTo copies the application, or the one that from names.
func (a *signedApp) copyTo(t *testing.T, from, to string) app.CopyResult {
	t.Helper()
	results, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: from, Target: to}}})
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

// tags returns the tags of a repository, sorted, except those for referrers.
func tags(t *testing.T, repository string) []string {
	t.Helper()
	list, err := crane.ListTags(repository, crane.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return slices.DeleteFunc(list, func(tag string) bool {
		return strings.HasPrefix(tag, "sha256-") && !strings.Contains(tag, ".")
	})
}

// TestCopy copies from any kind of registry to any other, directly and through a layout, and
// checks that everything arrives.
func TestCopy(t *testing.T) {
	for from, src := range twoRegistries() {
		a := newSignedApp(t, src())
		want := tags(t, a.host+"/team/shop")
		layout := a.layout(t)
		for to, dst := range twoRegistries() {
			t.Run(from+" to one "+to, func(t *testing.T) {
				host := registrytest.Serve(t, dst())
				for _, from := range []string{a.ref, "oci:" + layout, "oci:" + layout + ":v1"} {
					repository := fmt.Sprintf("%s/copies/%d", host, len(from))
					r := a.copyTo(t, from, repository)
					if r.Digest != a.root || r.Ref != repository+":v1@"+a.root.String() || r.PointsTo != a.host+"/team/shop" {
						t.Errorf("%+v", r)
					}
					if r.Moved.Blobs == 0 || r.Moved.Mounted+r.Moved.Existing != 0 {
						t.Errorf("moved %+v", r.Moved)
					}
					if got := tags(t, repository); !slices.Equal(got, want) {
						t.Errorf("tags %v, want %v", got, want)
					}
					if r := a.verify(t, app.VerifyOptions{Ref: repository + ":v1"}); !r.OK || len(r.Links) != len(a.verify(t, app.VerifyOptions{}).Links) {
						t.Errorf("the copy: %v", failing(r))
					}
					if again := a.copyTo(t, from, repository); again.Moved.Blobs != 0 || again.Moved.Bytes != 0 {
						t.Errorf("again: moved %+v", again.Moved)
					}
				}
				renamed := a.copyTo(t, a.ref, host+"/copies/renamed:v2")
				if !slices.Equal(renamed.Tags, []string{"manifests.v2", "v2"}) {
					t.Errorf("tags %v", renamed.Tags)
				}
			})
		}
	}
}

// TestCopyMounts checks that no blob is sent within a registry that supports mounts.
func TestCopyMounts(t *testing.T) {
	a := newSignedApp(t, registrytest.Distribution(""))
	r := a.copyTo(t, a.ref, a.host+"/elsewhere/shop")
	if r.Moved.Blobs != 0 || r.Moved.Bytes != 0 || r.Moved.Mounted == 0 {
		t.Errorf("moved %+v", r.Moved)
	}
	if r := a.verify(t, app.VerifyOptions{Ref: a.host + "/elsewhere/shop:v1", Deep: true}); !r.OK {
		t.Errorf("the copy: %v", failing(r))
	}
}

// TestCopyLayouts checks that a copy of a layout lists the same.
func TestCopyLayouts(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	first := a.layout(t)
	second := filepath.Join(t.TempDir(), "second")
	a.copyTo(t, "oci:"+first, "oci:"+second)
	var indexes [2][]byte
	for i, dir := range []string{first, second} {
		var err error
		if indexes[i], err = os.ReadFile(filepath.Join(dir, "index.json")); err != nil {
			t.Fatal(err)
		}
	}
	if string(indexes[0]) != string(indexes[1]) {
		t.Errorf("a copy lists\n%s\nof\n%s", indexes[1], indexes[0])
	}
	var index ocispec.Index
	mustUnmarshal(t, indexes[0], &index)
	if len(index.Manifests) != 3 || index.Manifests[0].Digest != a.root && index.Manifests[2].Digest != a.root {
		t.Errorf("it lists %d manifests, want root and two signatures", len(index.Manifests))
	}
}

// TestCopyImage copies an image that is not an application, with everything attached to it.
func TestCopyImage(t *testing.T) {
	upstream := &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) {
		i := registrytest.Published()
		i.Deep, i.Attestations = true, 1
		return i, true
	}}
	host := registrytest.Serve(t, upstream)
	for name, dst := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := &signedApp{env: environmentOf(t, "")}
			repository := registrytest.Serve(t, dst()) + "/images/web"
			r := a.copyTo(t, host+"/library/web:1", repository)
			if !slices.Equal(r.Tags, []string{"1"}) || r.PointsTo != "" {
				t.Errorf("%+v", r)
			}
			// Of the index and its two platforms: a signature and an attestation.
			if got := tags(t, repository); len(got) != 1+3*2 {
				t.Errorf("tags %v", got)
			}
			data, err := crane.Manifest(repository+":1", crane.Insecure)
			if err != nil {
				t.Fatal(err)
			}
			var index ocispec.Index
			if err := json.Unmarshal(data, &index); err != nil {
				t.Fatal(err)
			}
			at, err := a.env.Registry.Repository(repository)
			if err != nil {
				t.Fatal(err)
			}
			for _, subject := range []ocispec.Descriptor{{Digest: r.Digest}, index.Manifests[0]} {
				if list, err := at.Referrers(t.Context(), subject.Digest); err != nil || len(list) != 1 {
					t.Errorf("%d referrers of %s, %v", len(list), subject.Digest, err)
				}
			}
		})
	}
}

// TestCopyInterrupted checks that an interrupted copy leaves no tag, and can be continued.
func TestCopyInterrupted(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	// Everything that the root lists arrives (an image of two platforms with their attestations,
	// its signature and its SBOM, content and statements); the root does not.
	registry := registrytest.Distribution("")
	cut := registrytest.Misbehave(registry, registrytest.After(9, registrytest.Is(registrytest.Manifests, http.MethodPut)), registrytest.Status(http.StatusForbidden))
	now := &atomic.Pointer[http.Handler]{}
	now.Store(&cut)
	host := registrytest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*now.Load()).ServeHTTP(w, r) }))
	_, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: a.ref, Target: host + "/team/shop"}}})
	if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "copy "+a.ref+" to "+host) {
		t.Fatalf("copy without permission: %v", err)
	}
	if _, err := crane.Digest(host+"/team/shop:v1", crane.Insecure); err == nil {
		t.Error("it has its tag")
	}
	now.Store(&registry)
	if r := a.copyTo(t, a.ref, host+"/team/shop"); r.Moved.Existing != 5 || r.Moved.Blobs != 3 {
		t.Errorf("moved %+v, want what the root lists to stay, and blobs of two signatures alone to move", r.Moved)
	}
	if r := a.verify(t, app.VerifyOptions{Ref: host + "/team/shop:v1"}); !r.OK {
		t.Errorf("the copy: %v", failing(r))
	}
}

// TestCopySeveral checks that a failed copy does not stop the others.
func TestCopySeveral(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	dir := filepath.Join(t.TempDir(), "layout")
	results, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{
		{Source: a.ref, Target: a.host + "/a/shop"},
		{Source: a.host + "/team/missing:v1", Target: a.host + "/b/shop"},
		{Source: a.ref, Target: "oci:" + dir + ":one"},
		{Source: a.ref, Target: "oci:" + dir + ":two"},
	}})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "team/missing:v1") {
		t.Errorf("error %v", err)
	}
	if len(results) != 3 {
		t.Fatalf("%d results, want 3", len(results))
	}
	for _, ref := range []string{a.host + "/a/shop:v1", "oci:" + dir + ":one", "oci:" + dir + ":two"} {
		if r := a.verify(t, app.VerifyOptions{Ref: ref}); !r.OK {
			t.Errorf("%s: %v", ref, failing(r))
		}
	}
}

// TestCopyOnto checks that no source takes the tag of another one, and nothing is copied then.
func TestCopyOnto(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	to := a.host + "/a/shop"
	for _, c := range []struct {
		targets [2]string
		refused bool
	}{
		{[2]string{to + ":v1", to + ":v1"}, true},
		{[2]string{to, to + ":v1"}, true},
		{[2]string{"archive:a.tar", "archive:a.tar"}, true},
		{[2]string{to + ":v1", to + ":v2"}, false},
		{[2]string{to, to}, false}, // v1 and v2
	} {
		other := a.host + "/team/missing:v2"
		_, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{
			{Source: a.host + "/team/missing:v1", Target: c.targets[0]}, {Source: other, Target: c.targets[1]},
		}})
		if usage, ok := errors.AsType[*app.UsageError](err); ok != c.refused || ok && !strings.Contains(usage.Error(), other) {
			t.Errorf("%v: %v", c.targets, err)
		}
	}
}

// TestCopyCollected checks that a registry that deletes untagged content during a copy gets no
// tag for incomplete content. The error gives advice, and following it succeeds.
func TestCopyCollected(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: a.ref})
	if err != nil {
		t.Fatal(err)
	}
	platform := view.Images[0].Platforms[0].Digest.String()
	registry := registrytest.Distribution("")
	var once sync.Once
	host := registrytest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/"+a.root.String()) {
			once.Do(func() {
				for _, lost := range []string{view.Content.Digest.String(), platform} {
					path := strings.Replace(r.URL.Path, a.root.String(), lost, 1)
					answer := httptest.NewRecorder()
					registry.ServeHTTP(answer, httptest.NewRequest(http.MethodDelete, path, http.NoBody))
					if answer.Code != http.StatusAccepted {
						t.Errorf("delete %s: %d", path, answer.Code)
					}
				}
			})
		}
		registry.ServeHTTP(w, r)
	}))
	to := host + "/team/shop"
	o := app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: a.ref, Target: to}}}
	if _, err := app.Copy(t.Context(), o); err == nil || !strings.Contains(err.Error(), "content that it refers to is gone") || !strings.Contains(err.Error(), "check everything") {
		t.Errorf("got %v", err)
	}
	untagged(t, a.env, to)
	o.Check = true
	if _, err := app.Copy(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if r := a.verify(t, app.VerifyOptions{Ref: to + ":v1", Deep: true}); !r.OK {
		t.Errorf("the copy: %v", failing(r))
	}
}
