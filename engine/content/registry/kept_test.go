// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// A manifest is read from its source once, by whichever run; a destination is always asked for
// its own.
func TestManifestsAreKept(t *testing.T) {
	up := &registrytest.Upstream{}
	desc, err := up.Resolve("team/app", "1")
	if err != nil {
		t.Fatal(err)
	}
	count := registrytest.Count(up)
	addr, file := registrytest.Serve(t, count), filepath.Join(t.TempDir(), "made", "manifests")
	read := func(source bool) {
		t.Helper()
		c, err := registry.New(registry.Options{ManifestFile: file})
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

	// Modified data is rejected.
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(ocispec.MediaTypeImageIndex)) + len(ocispec.MediaTypeImageIndex) + 100
	if data[at] ^= 1; data[at] == '=' {
		t.Fatal("the changed byte ends the record")
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	read(true)
	requests(first)
	read(true)
	requests(again)

	// So is a record that a crash truncated, but not those after it.
	if err := os.WriteFile(file, data[:at], 0o600); err != nil {
		t.Fatal(err)
	}
	read(true)
	requests(first)
	read(true)
	requests(again)
}

// A file that cannot be written only costs requests.
func TestNothingKept(t *testing.T) {
	addr := registrytest.Serve(t, &registrytest.Upstream{})
	c, err := registry.New(registry.Options{ManifestFile: "/dev/null/manifests"})
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
