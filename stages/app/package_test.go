// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/rendering"
)

// plainAlone finds one interpreter, in this process.
type plainAlone struct{}

type inProcess struct{ interpreter.Interpreter }

func (inProcess) Name() string { return "plain" }

func (inProcess) Checksum(context.Context) (digest.Digest, error) {
	return digest.FromString("plain"), nil
}

func (plainAlone) Find(_ context.Context, name string) (rendering.Interpreter, error) {
	if name != "plain" {
		return nil, fmt.Errorf("no interpreter %q", name)
	}
	return inProcess{plain.New()}, nil
}

func (plainAlone) List(context.Context) ([]rendering.Interpreter, error) {
	return []rendering.Interpreter{inProcess{plain.New()}}, nil
}

// environment returns an environment with an upstream that makes up every image, and a store.
func environment(dir string, upstream string) (app.Environment, func() error, error) {
	hosts := filepath.Join(dir, "hosts")
	if err := registrytest.WriteHosts(hosts, "_default", upstream); err != nil {
		return app.Environment{}, nil, err
	}
	client, err := registry.New(registry.Options{HostsDir: hosts})
	if err != nil {
		return app.Environment{}, nil, err
	}
	kept, err := store.Open(context.Background(), filepath.Join(dir, "store"), store.Options{})
	if err != nil {
		return app.Environment{}, nil, err
	}
	return app.Environment{Store: kept, Registry: client, Interpreters: plainAlone{}}, kept.Close, nil
}

// TestReadBackByOthers reads what was pushed, with an independent library and from both kinds
// of registry.
func TestReadBackByOthers(t *testing.T) {
	upstream := &registrytest.Upstream{}
	up := registrytest.Serve(t, upstream)
	for kind, dst := range map[string]string{
		"without referrers": registrytest.Serve(t, registrytest.Distribution("")),
		"with referrers":    registrytest.Serve(t, registrytest.GGCR()),
	} {
		t.Run(kind, func(t *testing.T) {
			env, done, err := environment(t.TempDir(), up)
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			result, err := app.Package(t.Context(), app.PackageOptions{
				Options:    app.Options{Environment: env, Sources: []app.Source{{Path: "../../examples/shop/manifests"}}},
				Repository: dst + "/team/shop", Tags: []string{"v1"},
			})
			if err != nil {
				t.Fatal(err)
			}
			ref, err := name.ParseReference(dst + "/team/shop:v1")
			if err != nil {
				t.Fatal(err)
			}
			index, err := remote.Index(ref)
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := index.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			listed := map[v1.Hash]bool{}
			for _, child := range manifest.Manifests {
				listed[child.Digest] = true
				if _, err := remote.Get(ref.Context().Digest(child.Digest.String())); err != nil {
					t.Errorf("child %s: %v", child.Digest, err)
				}
			}
			for _, image := range result.Images {
				source := image.Source[:strings.LastIndex(image.Source, ":")]
				want, err := upstream.Resolve(source, image.Source[len(source)+1:])
				if err != nil {
					t.Fatal(err)
				}
				if want.Digest != image.Digest {
					t.Errorf("%s is %s, its source has %s", image.Ref, image.Digest, want.Digest)
				}
				if hash, err := v1.NewHash(image.Digest.String()); err != nil || !listed[hash] {
					t.Errorf("%s is not in the root (%v)", image.Ref, err)
				}
			}
			// Flux fetches the root as an image of the default platform.
			image, err := remote.Image(ref)
			if err != nil {
				t.Fatal(err)
			}
			got, err := image.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != result.Content.Digest.String() {
				t.Errorf("the default platform is %s, not the content %s", got, result.Content.Digest)
			}
			// Copying the root copies everything.
			elsewhere := registrytest.Serve(t, registrytest.GGCR()) + "/other/place:v1"
			if err := crane.Copy(ref.String(), elsewhere); err != nil {
				t.Fatal(err)
			}
			view, err := app.View(t.Context(), app.ViewOptions{Environment: env, Ref: elsewhere})
			if err != nil {
				t.Fatal(err)
			}
			if view.Root.Digest != result.Root.Digest || len(view.Images) != len(result.Images) {
				t.Errorf("the copy is %s with %d images", view.Root.Digest, len(view.Images))
			}
			for _, i := range view.Images {
				if len(i.Platforms) == 0 {
					t.Errorf("the copy of %s has no platforms", i.Name)
				}
			}
		})
	}
}

// TestSameInputSameRoot packages one commit from a full and from a shallow clone, from another
// folder, and with other umasks, time zones and locales.
func TestSameInputSameRoot(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("this test needs git")
	}
	up := registrytest.Serve(t, &registrytest.Upstream{})
	dst := registrytest.Serve(t, registrytest.GGCR())
	base := t.TempDir()
	git := func(dir string, args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
			"GIT_AUTHOR_DATE=2024-05-06T07:08:09+09:00", "GIT_COMMITTER_DATE=2024-05-06T07:08:09+09:00")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	origin := filepath.Join(base, "origin")
	if err := os.CopyFS(filepath.Join(origin, "deploy"), os.DirFS("../../examples/shop/manifests")); err != nil {
		t.Fatal(err)
	}
	git(origin, "init", "-q", "-b", "main")
	git(origin, "commit", "-q", "--allow-empty", "-m", "first")
	git(origin, "add", "-A")
	git(origin, "commit", "-q", "-m", "second")
	git(origin, "remote", "add", "origin", "https://user:secret@git.example.com/shop.git")

	pack := func(path string) artifactDigests {
		t.Helper()
		env, done, err := environment(t.TempDir(), up)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		result, err := app.Package(t.Context(), app.PackageOptions{
			Options:    app.Options{Environment: env, Sources: []app.Source{{Path: path}}},
			Repository: dst + "/team/shop",
		})
		if err != nil {
			t.Fatal(err)
		}
		return artifactDigests{result.Root.Digest, result.Content.Digest, strings.Join(result.Tags, " ")}
	}
	want := pack(filepath.Join(origin, "deploy"))
	if !strings.HasPrefix(want.tags, "config.") {
		t.Errorf("tags %q", want.tags)
	}

	shallow := filepath.Join(base, "a deep folder", "shallow")
	if err := os.MkdirAll(filepath.Dir(shallow), 0o755); err != nil {
		t.Fatal(err)
	}
	git(base, "clone", "-q", "--depth=1", "file://"+origin, shallow)
	git(shallow, "remote", "set-url", "origin", "https://other:token@git.example.com/shop.git")

	defer umask(0o077)()
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LC_ALL", "tr_TR.UTF-8")
	if got := pack(filepath.Join(shallow, "deploy")); got != want {
		t.Errorf("from a shallow clone under another umask, zone and locale: %+v, want %+v", got, want)
	}
	t.Chdir(filepath.Join(shallow, "deploy"))
	if got := pack("."); got != want {
		t.Errorf("from inside the folder: %+v, want %+v", got, want)
	}

	// The password in the remote's URL is not written anywhere.
	env, done, err := environment(t.TempDir(), up)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	list, err := app.Statements(t.Context(), app.ViewOptions{Environment: env, Ref: fmt.Sprintf("%s/team/shop@%s", dst, want.root)})
	if err != nil {
		t.Fatal(err)
	}
	var statements strings.Builder
	if err := artifact.WriteStatements(&statements, list); err != nil {
		t.Fatal(err)
	}
	if s := statements.String(); strings.Contains(s, "secret") || strings.Contains(s, "token") || !strings.Contains(s, "https://git.example.com/shop.git") {
		t.Errorf("the statements hold a credential, or lack the address: %s", s)
	}
}

type artifactDigests struct {
	root, content digest.Digest
	tags          string
}
