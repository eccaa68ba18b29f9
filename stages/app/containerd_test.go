// SPDX-License-Identifier: Apache-2.0

//go:build containerd

package app_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/local/containerdtest"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// TestContainerd imports archives into a private containerd: unchanged, for one platform, and
// of images alone. It needs root, and containerd and ctr on the PATH.
func TestContainerd(t *testing.T) {
	ctr, _ := containerdtest.Start(t)
	a := newSignedApp(t, registrytest.GGCR())
	for name, o := range map[string]app.SaveOptions{
		"whole":        {},
		"one platform": {Platform: "linux/amd64"},
		"images only":  {ImagesOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Environment, o.Ref, o.File = a.env, a.ref, filepath.Join(t.TempDir(), "app.tar")
			if _, err := app.Save(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			namespace := strings.ReplaceAll(name, " ", "-")
			// The layers of the test are random, and cannot be unpacked.
			ctr(t, "-n", namespace, "images", "import", "--no-unpack", o.File)
			names := ctr(t, "-n", namespace, "images", "ls", "-q")
			for _, want := range []string{a.host + "/team/shop@sha256:", a.host + "/team/shop:web.1."} {
				if !strings.Contains(names, want) {
					t.Errorf("no image %s…, only\n%s", want, names)
				}
			}
			if root := strings.Contains(names, "import-"); root == o.ImagesOnly {
				t.Errorf("root there: %v\n%s", root, names)
			}
		})
	}
}

// TestContainerdFrom reads an image from a private containerd that has all of it, one platform
// of it, or nothing.
func TestContainerdFrom(t *testing.T) {
	ctr, socket := containerdtest.Start(t)
	a := newLocalApp(t)
	file := filepath.Join(t.TempDir(), "web.tar")
	tarUp(t, a.layout, file)
	var index ocispec.Index
	a.read(t, a.image, &index)
	imported := func(namespace string) {
		ctr(t, "-n", namespace, "images", "import", "--no-unpack", "--all-platforms", "--base-name", "registry.example/web", file)
	}
	imported("whole")
	imported("part")
	for _, child := range index.Manifests[1:] {
		ctr(t, "-n", "part", "content", "rm", child.Digest.String())
	}
	for namespace, tt := range map[string]struct {
		want         digest.Digest
		related      int
		warning, err string
	}{
		"whole": {want: a.image, related: 1}, // a signature by its tag; containerd has no referrers
		"part":  {want: index.Manifests[0].Digest, warning: "only linux/amd64 is taken: containerd does not have its attestations, linux/arm64"},
		"none":  {err: "containerd has no image registry.example/web:1 in namespace none, which has none; $CONTAINERD_NAMESPACE names another"},
	} {
		t.Run(namespace, func(t *testing.T) {
			a.env.Local = local.New(local.Options{Containerd: socket, Namespace: namespace})
			defer a.env.Local.Close()
			result, err := app.Package(t.Context(), app.PackageOptions{
				Options: a.options(local.Containerd), Repository: registrytest.Serve(t, registrytest.GGCR()) + "/app", Tags: []string{"v1"},
			})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := result.Images[0].Digest; got != tt.want {
				t.Errorf("digest %s, want %s", got, tt.want)
			}
			if result.Related != tt.related {
				t.Errorf("%d related, want %d", result.Related, tt.related)
			}
			if got := strings.Join(result.Warnings, "\n"); !strings.HasSuffix(got, tt.warning) || (got == "") != (tt.warning == "") {
				t.Errorf("warnings %q, want %q", got, tt.warning)
			}
		})
	}
}
