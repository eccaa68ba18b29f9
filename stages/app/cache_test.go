// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/cache/remote"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// Anyone who may write to a cache can add a result of another source under the key of this one.
// With trusted keys it is not used, and without any an audit finds it.
func TestPoisonedCache(t *testing.T) {
	up := registrytest.Serve(t, &registrytest.Upstream{})
	destination := registrytest.Serve(t, registrytest.Distribution(""))
	_, signer := newKey(t)
	source := func(name string) string {
		dir := filepath.Join(t.TempDir(), "app")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec: {containers: [{name: b, image: \"nginx:1\"}]}\n"
		if err := os.WriteFile(filepath.Join(dir, "pod.yaml"), []byte(pod), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	good, evil := source("good"), source("evil")
	// pack packages with a new store.
	pack := func(source string, s app.CacheSettings, audit float64) (digest.Digest, *remote.Cache, error) {
		t.Helper()
		env, closeEnv, err := environment(t.TempDir(), up)
		if err != nil {
			t.Fatal(err)
		}
		defer closeEnv()
		o := app.PackageOptions{
			Options:    app.Options{Environment: env, Sources: []app.Source{{Path: source}}, Version: "test", Audit: audit},
			Repository: destination + "/team/app", Tags: []string{"v1"},
		}
		if s.Repository != "" {
			if o.Cache, err = env.OpenCache(s); err != nil {
				t.Fatal(err)
			}
		}
		result, err := app.Package(t.Context(), o)
		if err != nil {
			return "", o.Cache, err
		}
		return result.Root.Digest, o.Cache, nil
	}
	packed := func(source string, s app.CacheSettings, audit float64) digest.Digest {
		t.Helper()
		root, _, err := pack(source, s, audit)
		if err != nil {
			t.Fatal(err)
		}
		return root
	}
	entry := func(c *remote.Cache) digest.Digest {
		t.Helper()
		entries, err := c.Entries(t.Context())
		if err != nil || len(entries) != 1 {
			t.Fatalf("entries %+v, %v", entries, err)
		}
		return entries[0].Key
	}
	want := packed(good, app.CacheSettings{}, 0)
	_, other, err := pack(evil, app.CacheSettings{Repository: destination + "/ci/other"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	documents, err := other.Get(t.Context(), entry(other))
	if err != nil {
		t.Fatal(err)
	}
	plain := app.CacheSettings{Repository: destination + "/ci/cache"}
	_, cache, err := pack(good, plain, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := packed(good, plain, 100); got != want {
		t.Errorf("with the cache the root is %s, without it %s", got, want)
	}
	key := entry(cache)
	if err := cache.Put(t.Context(), key, documents); err != nil {
		t.Fatal(err)
	}
	if got := packed(good, plain, 0); got == want {
		t.Error("the poisoned entry was not used: the test proves nothing")
	}
	_, _, err = pack(good, plain, 100)
	if found, ok := errors.AsType[*engine.AuditError](err); !ok || found.Key != key || !strings.Contains(err.Error(), cache.Name(key)) {
		t.Errorf("audit: %v", err)
	}
	signed := plain
	signed.Signer = signer
	if got := packed(good, signed, 0); got != want {
		t.Errorf("with a key the root is %s, without a cache %s", got, want)
	}
	// That has added a signed one in its place.
	if got := packed(good, plain, 100); got != want {
		t.Errorf("then the root is %s", got)
	}
}

func TestParsePercent(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "1%": 1, "0.5": 0.5, "100%": 100, "101": -1, "-1": -1, "": -1, "%": -1, "NaN": -1, "half": -1} {
		got, err := app.ParsePercent(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
