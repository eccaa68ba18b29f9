// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
)

// localApp is a folder of manifests whose image, registry.example/web:1, is not in any
// reachable registry, but in a layout.
type localApp struct {
	env      app.Environment
	manifest string // folder
	layout   string
	image    digest.Digest
	other    string // layout of another image
	hosts    string // folder of hosts.toml
}

const webRef = "registry.example/web:1"

func newLocalApp(t *testing.T) *localApp {
	t.Helper()
	a := &localApp{manifest: t.TempDir(), layout: filepath.Join(t.TempDir(), "web"), other: filepath.Join(t.TempDir(), "other")}
	if err := os.WriteFile(filepath.Join(a.manifest, "web.yaml"), []byte(`apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: web, image: "registry.example/web:1"}]}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	upstream := registrytest.Serve(t, &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) {
		return registrytest.Published(), true
	}})
	a.env = environmentOf(t, t.TempDir())
	copied, err := app.Copy(t.Context(), app.CopyOptions{
		Environment: a.env,
		Pairs:       []app.CopyPair{{Source: upstream + "/web:1", Target: "oci:" + a.layout}, {Source: upstream + "/other:1", Target: "oci:" + a.other}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.image = copied[0].Digest
	a.hosts = t.TempDir()
	if err := registrytest.WriteHosts(a.hosts, "_default", registrytest.Unreachable(t)); err != nil {
		t.Fatal(err)
	}
	a.env = environmentOf(t, a.hosts)
	places := local.New(local.Options{Containerd: filepath.Join(a.hosts, "none"), DockerHost: "unix://" + a.hosts + "/none", TempDir: t.TempDir()})
	t.Cleanup(func() {
		if err := places.Close(); err != nil {
			t.Error(err)
		}
	})
	a.env.Local = places
	return a
}

func (a *localApp) options(place local.Place) app.Options {
	return app.Options{Environment: a.env, Sources: []app.Source{{Path: a.manifest}}, From: map[string]local.Place{webRef: place}}
}

// TestFrom packs an application whose image is not in a registry.
func TestFrom(t *testing.T) {
	for name, handler := range twoRegistries() {
		t.Run(name, func(t *testing.T) {
			a := newLocalApp(t)
			host := registrytest.Serve(t, handler())
			file := filepath.Join(t.TempDir(), "app.tar")
			o := a.options(local.Place("oci:" + a.layout))
			var public string
			public, o.Signer = newKey(t)
			result, err := app.Package(t.Context(), app.PackageOptions{
				Options: o, Repository: host + "/team/app", Tags: []string{"v1"}, Save: file, Push: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			want := []app.PackagedImage{{
				Source: webRef, Digest: a.image, Ref: host + "/team/app:web.1." + a.image.Encoded()[:8] + "@" + a.image.String(),
			}}
			if diff := cmp.Diff(want, result.Images); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
			if len(result.Warnings) > 0 {
				t.Errorf("warnings: %q", result.Warnings)
			}
			// A signature by its tag, and an SBOM by its subject.
			if result.Related != 2 {
				t.Errorf("%d related, want 2", result.Related)
			}
			for _, ref := range []string{host + "/team/app:v1", "archive:" + file} {
				checked, err := app.Verify(t.Context(), app.VerifyOptions{Environment: a.env, Ref: ref, Key: public, Deep: true})
				if err != nil {
					t.Fatal(err)
				}
				if !checked.OK {
					t.Errorf("%s: %v", ref, failing(checked))
				}
			}
			shown, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: host + "/team/app:v1"})
			if err != nil {
				t.Fatal(err)
			}
			if got := dependency(t, shown.Statements); !strings.HasPrefix(got.URI, "pkg:oci/web@sha256") || strings.Contains(got.URI, "repository_url") ||
				got.Annotations[artifact.AnnotationImageFrom] != "oci" {
				t.Errorf("the provenance says of the image %+v", got)
			}
			for _, s := range shown.Statements {
				if strings.Contains(string(s.Predicate), a.layout) {
					t.Errorf("%s names a path of this machine", s.PredicateType)
				}
			}
		})
	}
}

// dependency returns the provenance's entry for the image.
func dependency(t *testing.T, statements []artifact.ViewStatement) artifact.Resource {
	t.Helper()
	for _, s := range statements {
		if s.PredicateType != artifact.PredicateProvenance {
			continue
		}
		var p artifact.Provenance
		if err := json.Unmarshal(s.Predicate, &p); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(p.BuildDefinition.ResolvedDependencies, func(r artifact.Resource) bool { return r.Name == webRef })
		if i >= 0 {
			return p.BuildDefinition.ResolvedDependencies[i]
		}
	}
	t.Fatal("the provenance does not name the image")
	return artifact.Resource{}
}

// TestFromArchive reads an image from an archive, and relocates it.
func TestFromArchive(t *testing.T) {
	a := newLocalApp(t)
	file := filepath.Join(t.TempDir(), "web.tar")
	tarUp(t, a.layout, file)
	host := registrytest.Serve(t, registrytest.GGCR())
	o := a.options(local.Place("archive:" + file + ":1"))
	result, err := app.Relocate(t.Context(), app.RelocateOptions{Options: o, Source: a.manifest, Prefix: host + "/inside"})
	if err != nil {
		t.Fatal(err)
	}
	if got := result.Mapping[webRef]; !strings.HasPrefix(got, host+"/inside/web-") || !strings.HasSuffix(got, ":1@"+a.image.String()) {
		t.Errorf("%s is %s", webRef, got)
	}
}

// TestFromLocked requires an image to have the digest in the lock.
func TestFromLocked(t *testing.T) {
	a := newLocalApp(t)
	file := filepath.Join(a.manifest, app.PipelineFile)
	pipeline := "apiVersion: tape/v1\nkind: Pipeline\nsources: [{path: web.yaml}]\noutput: {image: " + registrytest.Serve(t, registrytest.GGCR()) + "/team/app}\nimages: {from: {\"registry.example/*\": containerd}}\n"
	if err := os.WriteFile(file, []byte(pipeline), 0o644); err != nil {
		t.Fatal(err)
	}
	// An option takes precedence over a pattern in the file.
	o := a.options(local.Place("oci:" + a.layout))
	o.Sources, o.Pipeline, o.Update = nil, file, "all"
	if _, err := app.Package(t.Context(), app.PackageOptions{Options: o}); err != nil {
		t.Fatal(err)
	}
	o.Update, o.Locked = "", true
	if _, err := app.Package(t.Context(), app.PackageOptions{Options: o}); err != nil {
		t.Fatal(err)
	}
	o.From[webRef] = local.Place("oci:" + a.other)
	_, err := app.Package(t.Context(), app.PackageOptions{Options: o})
	if err == nil || !strings.Contains(err.Error(), "the lock has "+a.image.String()+"; update the images of the lock") {
		t.Errorf("another image: %v", err)
	}
}

// TestFromIncomplete reads images of which a place contains only a part.
func TestFromIncomplete(t *testing.T) {
	const amd64, arm64 = "linux/amd64", "linux/arm64"
	for name, tt := range map[string]struct {
		missing  []string
		platform string
		got      string // platform; "" is all
		warning  string
		err      string
	}{
		"all of it":          {},
		"one is there":       {missing: []string{arm64}, got: amd64, warning: "image registry.example/web:1: only linux/amd64 is taken: oci:"},
		"that one is wanted": {missing: []string{arm64}, platform: amd64, got: amd64},
		"the other is":       {missing: []string{arm64}, platform: arm64, err: "does not have all of its linux/arm64"},
		"attestations alone": {missing: []string{"unknown/unknown"}, err: "has linux/amd64, linux/arm64 of it, but not its attestations; choose one"},
		"nothing":            {missing: []string{amd64, arm64, "unknown/unknown"}, err: "has nothing whole of it"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newLocalApp(t)
			var image ocispec.Index
			a.read(t, a.image, &image)
			platforms := map[string]digest.Digest{}
			for _, child := range image.Manifests {
				platform := child.Platform.OS + "/" + child.Platform.Architecture
				platforms[platform] = child.Digest
				if !slices.Contains(tt.missing, platform) {
					continue
				}
				var m ocispec.Manifest
				a.read(t, child.Digest, &m)
				if err := os.Remove(filepath.Join(a.layout, "blobs", "sha256", m.Layers[0].Digest.Encoded())); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			o := a.options(local.Place("oci:" + a.layout))
			o.Platform = tt.platform
			result, err := app.Package(t.Context(), app.PackageOptions{
				Options: o, Repository: registrytest.Serve(t, registrytest.GGCR()) + "/app", Tags: []string{"v1"},
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
			want := a.image
			if tt.got != "" {
				want = platforms[tt.got]
			}
			if got := result.Images[0].Digest; got != want {
				t.Errorf("digest %s, want %s", got, want)
			}
			if got := strings.Join(result.Warnings, "\n"); !strings.HasPrefix(got, tt.warning) || (got == "") != (tt.warning == "") {
				t.Errorf("warnings %q, want %q", got, tt.warning)
			}
		})
	}
}

// TestFromNothing reports an entry that matches no image in the manifests.
func TestFromNothing(t *testing.T) {
	a := newLocalApp(t)
	o := a.options(local.Place("oci:" + a.layout))
	o.From["registry.example/wbe:1"] = "docker-daemon"
	result, err := app.Package(t.Context(), app.PackageOptions{Options: o, Repository: "registry.example/team/app", DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	want := `no image in the manifests matches registry.example/wbe:1, which was to be read from docker-daemon (did you mean "registry.example/web:1"?)`
	if diff := cmp.Diff([]string{want}, result.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	listed, err := app.Images(t.Context(), app.ImagesOptions{Options: a.options(local.Place("oci:" + a.layout)), Resolve: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := listed.Images[0]; got.From != local.Place("oci:"+a.layout) || got.Ref != webRef+"@"+a.image.String() {
		t.Errorf("image %s is from %q", got.Ref, got.From)
	}
}

// TestFromIndirect requires an image that only a ConfigMap references, if its place was given.
func TestFromIndirect(t *testing.T) {
	a := newLocalApp(t)
	if err := os.WriteFile(filepath.Join(a.manifest, "config.yaml"), []byte(`apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {image: "registry.example/helper:1"}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	o := a.options(local.Place("oci:" + a.layout))
	o.From["registry.example/helper:1"] = local.Place("oci:" + a.other + ":none")
	_, err := app.Package(t.Context(), app.PackageOptions{Options: o, Repository: "registry.example/team/app", DryRun: true})
	if want := "image registry.example/helper:1 (" + a.manifest + "/config.yaml:4:16): "; !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// read reads a document of the layout.
func (a *localApp) read(t *testing.T, dgst digest.Digest, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(a.layout, "blobs", "sha256", dgst.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	mustUnmarshal(t, data, v)
}
