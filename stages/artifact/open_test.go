// SPDX-License-Identifier: Apache-2.0

package artifact_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	orasfile "oras.land/oras-go/v2/content/file"
	orasremote "oras.land/oras-go/v2/registry/remote"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/artifact"
)

func TestOpen(t *testing.T) {
	for name, handler := range registries() {
		t.Run(name, func(t *testing.T) {
			app := newApp(t, registrytest.Serve(t, handler()))
			a, err := artifact.Open(t.Context(), app.repo, tag)
			if err != nil {
				t.Fatal(err)
			}
			if a.Root.Digest != app.root.Digest || a.Content.Digest != app.manifest.Digest || a.Format != artifact.Format {
				t.Errorf("opened %+v", a)
			}
			list, err := a.Files(t.Context())
			if diff := cmp.Diff(app.files, list); err != nil || diff != "" {
				t.Errorf("files: %v %s", err, diff)
			}
			statements, err := a.Statements(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var lines bytes.Buffer
			if err := artifact.WriteStatements(&lines, statements); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(lines.String(), "\n"); n != 4 || n != len(statements) {
				t.Errorf("%d statements on %d lines: %s", len(statements), n, lines.String())
			}
			view, err := a.View(t.Context(), app.repo.Name(), tag, true)
			if err != nil {
				t.Fatal(err)
			}
			checkView(t, app, view)
		})
	}
}

func checkView(t *testing.T, app *app, v *artifact.View) {
	t.Helper()
	repo := app.repo.Name()
	if diff := cmp.Diff(repo+":v1.0.0@"+app.root.Digest.String(), v.Root.Ref); diff != "" {
		t.Errorf("root: %s", diff)
	}
	if diff := cmp.Diff(repo+":manifests.v1.0.0@"+app.manifest.Digest.String(), v.Content.Ref); diff != "" {
		t.Errorf("content: %s", diff)
	}
	if diff := cmp.Diff([]string{tag}, v.Tags); diff != "" {
		t.Errorf("tags: %s", diff)
	}
	if v.Source.URI != "https://example.com/shop" || v.Source.Commit != strings.Repeat("c", 40) || v.Source.Modified != "no" {
		t.Errorf("source: %+v", v.Source)
	}
	if len(v.Signatures) != 0 || len(v.Warnings) != 0 {
		t.Errorf("signatures %v, warnings %v", v.Signatures, v.Warnings)
	}
	image := v.Images[0]
	if len(v.Images) != 1 || image.Digest != app.image.Digest || !strings.HasPrefix(image.Ref, repo+":nginx.1.") || image.Name != app.upstream+"/library/nginx:1" {
		t.Errorf("images: %+v", v.Images)
	}
	var platforms, related []string
	for _, p := range image.Platforms {
		platforms = append(platforms, p.Platform)
		if p.Bytes < 1000 || p.Size < 100 {
			t.Errorf("sizes: %+v", p)
		}
	}
	for _, r := range image.Related {
		related = append(related, r.Kind+" "+r.Via)
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("platforms: %s", diff)
	}
	want := map[string]int{"signature tag": 1, "sbom referrer": 1, "attestation inline": 2, "sbom inline": 2}
	got := map[string]int{}
	for _, r := range related {
		got[r]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("related: %s", diff)
	}

	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("null")) {
		t.Errorf("a list is null: %s", data)
	}
}

// TestIndependentReaders reads what tape wrote with independent libraries.
func TestIndependentReaders(t *testing.T) {
	for kind, handler := range registries() {
		t.Run(kind, func(t *testing.T) {
			app := newApp(t, registrytest.Serve(t, handler()))
			ref, err := name.NewTag(app.repo.Name()+":"+tag, name.Insecure)
			if err != nil {
				t.Fatal(err)
			}

			// Flux fetches the root's tag: the default platform is the content.
			image, err := remote.Image(ref)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := image.Digest(); err != nil || d.String() != app.manifest.Digest.String() {
				t.Errorf("the default platform of the root is %s, not content %s (%v)", d, app.manifest.Digest, err)
			}

			// oras pull unpacks the content's tag.
			client, err := orasremote.NewRepository(app.repo.Name())
			if err != nil {
				t.Fatal(err)
			}
			client.PlainHTTP = true
			dir := t.TempDir()
			folder, err := orasfile.New(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			if _, err := oras.Copy(t.Context(), client, artifact.ContentTag(tag), folder, "", oras.DefaultCopyOptions); err != nil {
				t.Fatal(err)
			}
			for _, f := range app.files {
				if data, err := os.ReadFile(filepath.Join(dir, f.Name)); err != nil || !bytes.Equal(data, f.Data) {
					t.Errorf("%s: %q, %v", f.Name, data, err)
				}
			}

			// Copying the root copies the application.
			elsewhere := registrytest.Serve(t, handler()) + "/mirror/shop"
			copyTag(t, ref.String(), elsewhere+":"+tag)
			checkComplete(t, elsewhere, app.root.Digest.String())
		})
	}
}

// checkComplete checks that everything that a manifest refers to exists.
func checkComplete(t *testing.T, repo, dgst string) {
	t.Helper()
	data, err := crane.Manifest(repo+"@"+dgst, crane.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Manifests []ocispec.Descriptor
		Config    ocispec.Descriptor
		Layers    []ocispec.Descriptor
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, child := range m.Manifests {
		checkComplete(t, repo, child.Digest.String())
	}
	if m.Config.Digest != "" {
		m.Layers = append(m.Layers, m.Config)
	}
	for _, blob := range m.Layers {
		layer, err := crane.PullLayer(repo+"@"+blob.Digest.String(), crane.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := layer.Size(); err != nil || size != blob.Size {
			t.Errorf("blob %s: %d bytes of %d, %v", blob.Digest, size, blob.Size, err)
		}
	}
}
