// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// TestImage writes an image twice, pushes it with tape, and reads it with another library.
func TestImage(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	program := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Path: "example.com/tape"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}}
	var builds []built
	for _, arch := range []string{"amd64", "arm64"} {
		builds = append(builds, built{
			platform: ocispec.Platform{OS: "linux", Architecture: arch}, created: at,
			files: []file{
				{Header: tar.Header{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755, ModTime: at}},
				{tar.Header{Typeflag: tar.TypeReg, Name: "usr/tape", Mode: 0o755, ModTime: at}, []byte(arch), program},
			},
		})
	}
	file, again := filepath.Join(t.TempDir(), "tape.tar"), filepath.Join(t.TempDir(), "other.tar")
	var data [2][]byte
	for i, to := range []string{file, again} {
		err := writeImage(t.Context(), to, "v1", "v1", builds)
		if err == nil {
			data[i], err = os.ReadFile(to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(data[0], data[1]) {
		t.Error("the same builds make another image")
	}

	host := registrytest.Serve(t, registrytest.GGCR())
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = app.Copy(t.Context(), app.CopyOptions{
		Environment: app.Environment{Registry: client},
		Pairs:       []app.CopyPair{{Source: "archive:" + file, Target: host + "/tape"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(host+"/tape:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err == nil {
		err = validate.Index(index)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil || len(list.Manifests) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	checkAttached(t, ref.Context().Digest(digestOf(t, index)), "application/vnd.in-toto+json", `@refs/tags/v1","digest":{"gitCommit":"abc"}`)
	for i, m := range list.Manifests {
		checkAttached(t, ref.Context().Digest(m.Digest.String()), "application/spdx+json", "./usr/tape")
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if m.Platform.Architecture != builds[i].platform.Architecture || config.Architecture != m.Platform.Architecture {
			t.Errorf("image %d is for %s, and says %s", i, m.Platform, config.Architecture)
		}
		if config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/usr/bin/tape" {
			t.Errorf("it runs %q as %q", config.Config.Entrypoint, config.Config.User)
		}
		checkFiles(t, image, m.Platform.Architecture)
	}
}

func digestOf(t *testing.T, index v1.ImageIndex) string {
	t.Helper()
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// checkAttached checks that one artifact of a type is attached to a manifest, and contains a
// text.
func checkAttached(t *testing.T, subject name.Digest, artifactType, text string) {
	t.Helper()
	referrers, err := remote.Referrers(subject)
	if err != nil {
		t.Fatal(err)
	}
	list, err := referrers.IndexManifest()
	if err != nil || len(list.Manifests) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	attached, err := remote.Image(subject.Context().Digest(list.Manifests[0].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := attached.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	if got, err := layers[0].MediaType(); err != nil || string(got) != artifactType {
		t.Errorf("%s has %q attached, %v; want %s", subject, got, err, artifactType)
	}
	r, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || !strings.Contains(string(data), text) {
		t.Errorf("%s of %s lacks %q: %v\n%s", artifactType, subject, text, err, data)
	}
}

// checkFiles checks permissions, that there are certificates, and that the program is for the
// platform.
func checkFiles(t *testing.T, image v1.Image, arch string) {
	t.Helper()
	all := mutate.Extract(image)
	defer all.Close()
	found := map[string]string{}
	for r := tar.NewReader(all); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[path.Clean(h.Name)] = fmt.Sprintf("%o %d", h.Mode, h.Uid)
		switch path.Clean(h.Name) {
		case "usr/tape":
			if string(data) != arch {
				t.Errorf("tape for %s is %q", arch, data)
			}
		case "etc/ssl/certs/ca-certificates.crt":
			n := 0
			for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
				if _, err := x509.ParseCertificate(block.Bytes); err != nil {
					t.Error(err)
				}
				n++
			}
			if n < 100 {
				t.Errorf("it has %d certificates", n)
			}
		}
	}
	want := map[string]string{
		"etc": "755 0", "etc/group": "644 0", "etc/passwd": "644 0", "etc/ssl": "755 0", "etc/ssl/certs": "755 0",
		"etc/ssl/certs/ca-certificates.crt": "644 0", "home": "755 0", "home/tape": "755 65532", "tmp": "1777 0", "work": "755 65532",
		"usr": "755 0", "usr/tape": "755 0",
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
}
