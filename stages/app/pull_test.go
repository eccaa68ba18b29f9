// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// TestPullVerifies pulls with a key: the right one, another one, a bundle, and from a tag that
// moves after it was resolved.
func TestPullVerifies(t *testing.T) {
	var moving atomic.Pointer[http.Request]
	inner := registrytest.GGCR()
	var swap atomic.Value // the path that was replaced after it was requested
	swap.Store("")
	a := newSignedApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tag := swap.Load().(string); tag != "" && strings.HasSuffix(r.URL.Path, "/manifests/"+tag) && r.Method != http.MethodPut {
			if !moving.CompareAndSwap(nil, r) {
				r.URL.Path = strings.TrimSuffix(r.URL.Path, tag) + "evil"
			}
		}
		inner.ServeHTTP(w, r)
	}))
	other, _ := newKey(t)
	// Another application, which is not signed, with the tag evil.
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "evil.yaml"), []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: evil}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Package(t.Context(), app.PackageOptions{
		Options:    app.Options{Environment: a.env, Sources: []app.Source{{Path: source}}},
		Repository: a.host + "/team/shop", Tags: []string{"evil"},
	}); err != nil {
		t.Fatal(err)
	}
	pull := func(o app.PullOptions) (files []string, err error) {
		t.Helper()
		o.Environment, o.Dir = environmentOf(t, t.TempDir()), filepath.Join(t.TempDir(), "out")
		if o.Ref == "" {
			o.Ref = a.ref
		}
		result, err := app.Pull(t.Context(), o)
		if err != nil {
			if _, e := os.Stat(o.Dir); !errors.Is(e, os.ErrNotExist) {
				t.Errorf("%v, and it wrote %s", err, o.Dir)
			}
			return nil, err
		}
		if result.Verified != (o.Key != "") {
			t.Errorf("verified: %v", result.Verified)
		}
		return result.Files, nil
	}
	if files, err := pull(app.PullOptions{Key: a.public}); err != nil || len(files) != 2 {
		t.Errorf("%q, %v", files, err)
	}
	if _, err := pull(app.PullOptions{Key: other}); !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "signature: ") {
		t.Errorf("by another key: %v", err)
	}
	if _, err := pull(app.PullOptions{Ref: a.host + "/team/shop:evil", Key: a.public}); !errors.Is(err, engine.ErrPolicy) {
		t.Errorf("not signed: %v", err)
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: "archive:" + a.save(t), Signer: a.signer, BundleOut: bundle}); err != nil {
		t.Fatal(err)
	}
	if files, err := pull(app.PullOptions{Key: a.public, Bundle: bundle}); err != nil || len(files) != 2 {
		t.Errorf("by a bundle: %q, %v", files, err)
	}
	if _, err := pull(app.PullOptions{Key: a.public, Bundle: bundle, Ref: a.host + "/team/shop:evil"}); !errors.Is(err, engine.ErrPolicy) {
		t.Errorf("by a bundle of another root: %v", err)
	}
	if files, err := pull(app.PullOptions{Key: a.public, Rewrite: true}); err != nil || len(files) != 2 {
		t.Errorf("rewritten: %q, %v", files, err)
	}
	swap.Store("v1")
	for _, o := range []app.PullOptions{{Key: a.public}, {Key: a.public}, {Key: a.public, Bundle: bundle}} {
		moving.Store(nil)
		if files, err := pull(o); err == nil && (len(files) != 2 || files[0] == "evil.yaml") {
			t.Errorf("what was not verified was written: %q", files)
		}
	}
}

// TestContentTag verifies tags whose content is not that of their root.
func TestContentTag(t *testing.T) {
	for name, dst := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := newSignedApp(t, dst())
			repository, err := a.env.Registry.Repository(a.host + "/team/shop")
			if err != nil {
				t.Fatal(err)
			}
			if r := a.verify(t, app.VerifyOptions{}); !r.OK {
				t.Fatal(failing(r))
			}
			desc, data, err := repository.Manifest(t.Context(), a.root.String())
			if err != nil {
				t.Fatal(err)
			}
			// The root is not a content, and as wrong as any other manifest.
			if err := repository.PushManifest(t.Context(), desc, data, "manifests.v1"); err != nil {
				t.Fatal(err)
			}
			if r := a.verify(t, app.VerifyOptions{}); r.OK || !strings.Contains(failing(r)["tag manifests.v1"], "points to "+a.root.String()) || len(failing(r)) != 1 {
				t.Errorf("a content's tag that leads elsewhere: %v", failing(r))
			}
			// By digest no tag is checked, and another tag has another content.
			if r := a.verify(t, app.VerifyOptions{Ref: a.host + "/team/shop@" + a.root.String()}); !r.OK {
				t.Error(failing(r))
			}
			if r := a.verify(t, app.VerifyOptions{Ref: a.ref + "@" + a.root.String()}); r.OK {
				t.Error("with tag and digest it verifies")
			}
			if err := repository.PushManifest(t.Context(), desc, data, "bare"); err != nil {
				t.Fatal(err)
			}
			if r := a.verify(t, app.VerifyOptions{Ref: a.host + "/team/shop:bare"}); !r.OK {
				t.Errorf("without a tag of the content: %v", failing(r))
			}
		})
	}
}
