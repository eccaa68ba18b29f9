// SPDX-License-Identifier: Apache-2.0

//go:build registries

package app_test

import (
	"bufio"
	"bytes"

	"fmt"

	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// oldRegistry is Debian's docker-registry, distribution 2.8, as a process with its own folder.
type oldRegistry struct {
	host   string
	config string // file
	stop   func() // until start
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// startOldRegistry starts one on a folder, possibly of an earlier one.
func startOldRegistry(t *testing.T, root string) *oldRegistry {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.yml")
	data := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: \"127.0.0.1:0\"}\n", root)
	if err := os.WriteFile(config, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("docker-registry", "serve", config)
	output, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	r := &oldRegistry{config: config}
	var log bytes.Buffer
	lines := bufio.NewScanner(output)
	for r.host == "" && lines.Scan() {
		log.Write(append(lines.Bytes(), '\n'))
		if found := listening.FindStringSubmatch(lines.Text()); found != nil {
			r.host = found[1]
		}
	}
	read := make(chan struct{})
	go func() { // a full pipe would block it
		defer close(read)
		for lines.Scan() {
		}
	}()
	r.stop = func() {
		if server.ProcessState == nil {
			_ = server.Process.Kill()
			<-read
			_ = server.Wait()
		}
	}
	t.Cleanup(r.stop)
	if r.host == "" {
		t.Fatalf("docker-registry does not listen:\n%s", log.String())
	}
	return r
}

// collect stops it, collects garbage, and starts it again.
func (r *oldRegistry) collect(t *testing.T, root string, flags ...string) *oldRegistry {
	t.Helper()
	r.stop()
	command(t, "docker-registry", append([]string{"garbage-collect", r.config}, flags...)...)
	return startOldRegistry(t, root)
}

func command(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := tryCommand(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryCommand(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errors.String())
	}
	return out, nil
}

// TestOldRegistry checks that docker-registry 2.8 accepts an application, and that all commands
// work there. It does not support referrers.
func TestOldRegistry(t *testing.T) {
	old := startOldRegistry(t, t.TempDir())
	a := newSignedAppAt(t, old.host, app.Options{})
	repository := old.host + "/team/shop"
	sound := func(t *testing.T, ref string) {
		t.Helper()
		for _, deep := range []bool{false, true} {
			if r := a.verify(t, app.VerifyOptions{Ref: ref, Deep: deep}); !r.OK || r.Root != a.root || len(r.Warnings) != 0 {
				t.Errorf("%s: %v, warnings %q", ref, failing(r), r.Warnings)
			}
		}
	}
	sound(t, a.ref)

	t.Run("view", func(t *testing.T) {
		view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: a.ref})
		if err != nil {
			t.Fatal(err)
		}
		if len(view.Images) != 1 || len(view.Images[0].Related) == 0 || len(view.Signatures) != 2 {
			t.Errorf("%d images, %d signatures: %+v", len(view.Images), len(view.Signatures), view.Images)
		}
	})
	t.Run("pull", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "out")
		if _, err := app.Pull(t.Context(), app.PullOptions{Environment: a.env, Ref: a.ref, Dir: dir}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "shop.yaml"))
		if err != nil || !bytes.Contains(data, []byte(repository+":web.1.")) {
			t.Errorf("%v\n%s", err, data)
		}
	})
	t.Run("signatures at the tag", func(t *testing.T) {
		public, signer := newKey(t)
		if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: a.ref, Signer: signer}); err != nil {
			t.Fatal(err)
		}
		if r := a.verify(t, app.VerifyOptions{Key: public}); !r.OK {
			t.Errorf("by the second key: %v", failing(r))
		}
		sound(t, a.ref)
		data, err := crane.Manifest(repository+":"+registry.FallbackTag(a.root), crane.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		var index ocispec.Index
		mustUnmarshal(t, data, &index)
		if len(index.Manifests) != 2 || index.Manifests[0].ArtifactType != registrytest.SigstoreBundle {
			t.Errorf("listed: %s", data)
		}
	})
	t.Run("copy", func(t *testing.T) {
		r := a.copyTo(t, a.ref, old.host+"/elsewhere/shop")
		if r.Moved.Blobs != 0 || r.Moved.Mounted == 0 {
			t.Errorf("within the registry moved %+v", r.Moved)
		}
		sound(t, old.host+"/elsewhere/shop:v1")
		host := registrytest.Serve(t, registrytest.GGCR())
		a.copyTo(t, a.ref, host+"/team/shop")
		sound(t, host+"/team/shop:v1")
		a.copyTo(t, host+"/team/shop:v1", old.host+"/back/shop")
		sound(t, old.host+"/back/shop:v1")
	})
	t.Run("load", func(t *testing.T) {
		_, err := app.Load(t.Context(), app.LoadOptions{Environment: a.env, File: a.save(t), Repository: old.host + "/loaded/shop"})
		if err != nil {
			t.Fatal(err)
		}
		sound(t, old.host+"/loaded/shop:v1")
	})
}

// TestOldRegistryCollects checks that its garbage collection keeps applications, unless it
// deletes untagged content. Then verify reports that, and a copy with Check restores it.
func TestOldRegistryCollects(t *testing.T) {
	root := t.TempDir()
	old := startOldRegistry(t, root)
	a := newSignedAppAt(t, old.host, app.Options{})
	file := a.save(t)

	old = old.collect(t, root)
	ref := old.host + "/team/shop:v1"
	a.env = environmentOf(t, "") // nothing is cached
	if r := a.verify(t, app.VerifyOptions{Ref: ref, Deep: true}); !r.OK {
		t.Errorf("after a collection: %v", failing(r))
	}

	old = old.collect(t, root, "--delete-untagged")
	ref = old.host + "/team/shop:v1"
	a.env = environmentOf(t, "")
	r := a.verify(t, app.VerifyOptions{Ref: ref, Deep: true})
	if r.OK {
		t.Error("it keeps what has no tag: the documents say that it does not")
	}
	loaded, err := app.Load(t.Context(), app.LoadOptions{Environment: a.env, File: file, Repository: old.host + "/team/shop", Check: true})
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Moved.Existing == 0 || loaded.Moved.Blobs == 0 {
		t.Errorf("mending it moved %+v", loaded.Moved)
	}
	if r := a.verify(t, app.VerifyOptions{Ref: ref, Deep: true}); !r.OK {
		t.Errorf("loaded again: %v", failing(r))
	}
}

// TestSkopeo checks that skopeo does not copy an application of indexes. It copies one of a
// single platform, and loses what the old version does not know, including the signature.
func TestSkopeo(t *testing.T) {
	old := startOldRegistry(t, t.TempDir())
	skopeo := func(args ...string) ([]byte, error) {
		return tryCommand("skopeo", append([]string{"--insecure-policy"}, args...)...)
	}
	copyAll := func(from, to string, flags ...string) error {
		args := append([]string{"copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + from, "docker://" + to}, flags...)
		_, err := skopeo(args...)
		return err
	}
	t.Run("several platforms", func(t *testing.T) {
		a := newSignedAppAt(t, old.host, app.Options{})
		raw, err := skopeo("inspect", "--raw", "--tls-verify=false", "docker://"+a.ref)
		if err != nil || digest.FromBytes(raw) != a.root {
			t.Errorf("it reads %s, %v", raw, err)
		}
		if err := copyAll(a.ref, old.host+"/skopeo/nested:v1"); err == nil {
			t.Error("it copies indexes in indexes: the documents say that it does not")
		}
		view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: a.ref})
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(view.Images[0].Ref, "@")
		if err := copyAll(name, old.host+"/skopeo/web:1", "--preserve-digests"); err != nil {
			t.Error(err)
		}
		if got, err := crane.Digest(old.host+"/skopeo/web:1", crane.Insecure); err != nil || got != view.Images[0].Digest.String() {
			t.Errorf("an image is copied as %s, %v", got, err)
		}
	})
	t.Run("one platform", func(t *testing.T) {
		a := newSignedAppAt(t, old.host, app.Options{Platform: "linux/amd64"})
		to := old.host + "/skopeo/shop:v1"
		if err := copyAll(a.ref, to); err != nil {
			t.Fatal(err)
		}
		view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: to})
		if err != nil {
			t.Fatal(err)
		}
		if view.Root.Digest == a.root || len(view.Images) != 1 {
			t.Errorf("a copy of %s is %s, of %d images", a.root, view.Root.Digest, len(view.Images))
		}
		r := a.verify(t, app.VerifyOptions{Ref: to})
		if reasons := failing(r); len(reasons) != 2 || reasons["signature"] == "" || reasons["content signature"] == "" {
			t.Errorf("it lost its signatures and nothing else: %v", reasons)
		}
	})
}
