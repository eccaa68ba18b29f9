// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine/registry"
	"github.com/taped-dev/tape/engine/registry/registrytest"
)

// A manifest is read from its source once, whichever run wants it; what lies in a
// destination is always asked of that.
func TestManifestsAreKept(t *testing.T) {
	up := &registrytest.Upstream{}
	desc, err := up.Resolve("team/app", "1")
	if err != nil {
		t.Fatal(err)
	}
	count := registrytest.Count(up)
	addr, dir := registrytest.Serve(t, count), t.TempDir()
	read := func(source bool) {
		t.Helper()
		c, err := registry.New(registry.Options{ManifestDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		repository, err := c.Repository(addr + "/team/app")
		if source {
			repository, err = c.Source(addr + "/team/app")
		}
		if err != nil {
			t.Fatal(err)
		}
		got, data, err := repository.Manifest(t.Context(), "1")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(desc, got); diff != "" || !bytes.Equal(data, up.Manifest("team/app", desc.Digest)) {
			t.Errorf("descriptor (-want +got):\n%s", diff)
		}
	}
	requests := func(want map[string]int) {
		t.Helper()
		if diff := cmp.Diff(want, count.Reset().Requests); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	}
	first, again := map[string]int{"GET manifests": 1}, map[string]int{"HEAD manifests": 1}

	read(true)
	requests(first)
	read(true)
	requests(again)
	read(false)
	requests(first)

	// A file that is not what it was is not believed.
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)-1] ^= 1
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	read(true)
	requests(first)
	read(true)
	requests(again)
}

// A folder that cannot be written to costs requests and nothing else.
func TestNothingKept(t *testing.T) {
	addr := registrytest.Serve(t, &registrytest.Upstream{})
	c, err := registry.New(registry.Options{ManifestDir: "/dev/null/manifests"})
	if err != nil {
		t.Fatal(err)
	}
	repository, err := c.Source(addr + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := repository.Manifest(t.Context(), "1"); err != nil {
		t.Error(err)
	}
}
