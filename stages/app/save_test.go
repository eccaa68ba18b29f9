// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/content/oci"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

func (a *signedApp) save(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.tar")
	if _, err := app.Save(t.Context(), app.SaveOptions{Environment: a.env, Ref: a.ref, File: file}); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSaveResumes interrupts a save: what was written is not fetched again, and the resulting
// file is the same.
func TestSaveResumes(t *testing.T) {
	var broken atomic.Bool
	counter := registrytest.Count(registrytest.GGCR())
	fetches := registrytest.Is(registrytest.Blobs, http.MethodGet)
	late := registrytest.After(4, func(r *http.Request) bool { return broken.Load() && fetches(r) })
	a := newSignedApp(t, registrytest.Misbehave(counter, late, registrytest.Status(http.StatusForbidden)))
	want, err := os.ReadFile(a.save(t))
	if err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "app.tar")
	o := app.SaveOptions{Environment: a.env, Ref: a.ref, File: file}
	broken.Store(true)
	if _, err := app.Save(t.Context(), o); err == nil || !strings.Contains(err.Error(), "resume to continue") {
		t.Fatalf("an interrupted save: %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Error("an interrupted save left the file")
	}
	if _, err := os.Stat(file + layout.PartialSuffix); err != nil {
		t.Error(err)
	}
	broken.Store(false)

	// An interruption leaves a file with gaps.
	gap := bytes.Clone(want)
	clear(gap[len(gap)/2 : len(gap)/2+1024])
	if err := os.WriteFile(file+layout.PartialSuffix, gap, 0o644); err != nil {
		t.Fatal(err)
	}
	counter.Reset()
	o.Resume = true
	if _, err := app.Save(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	resumed := counter.Reset().Requests["GET blobs"]
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("resumed, the archive is another one")
	}
	a.save(t)
	if whole := counter.Reset().Requests["GET blobs"]; resumed >= whole-2 {
		t.Errorf("resuming fetched %d blobs, and a whole save %d", resumed, whole)
	}
}

// entry is a file in a tar.
type entry struct {
	header tar.Header
	data   []byte
}

func entries(t *testing.T, file string) []entry {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []entry
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, entry{*h, body})
	}
}

func pack(t *testing.T, list []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range list {
		err := w.WriteHeader(&e.header)
		if err == nil {
			_, err = w.Write(e.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestLoadRefuses loads archives that differ from what was saved: each is an error that states
// that, and leaves no tag.
func TestLoadRefuses(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	whole := entries(t, a.save(t))
	isManifest := func(e entry) bool {
		return strings.HasPrefix(e.header.Name, "blobs/") && bytes.Contains(e.data, []byte(`"schemaVersion"`))
	}
	isBlob := func(e entry) bool { return strings.HasPrefix(e.header.Name, "blobs/") && !isManifest(e) }
	flip := func(list []entry, which func(entry) bool) []entry {
		i := slices.IndexFunc(list, which)
		list[i].data = slices.Clone(list[i].data)
		list[i].data[len(list[i].data)/2] ^= 1
		return list
	}
	drop := func(list []entry, which func(entry) bool) []entry {
		i := slices.IndexFunc(list, which)
		return slices.Delete(list, i, i+1)
	}
	add := func(list []entry, h tar.Header, data string) []entry {
		h.Size = int64(len(data))
		return append(list, entry{h, []byte(data)})
	}
	other := "blobs/sha256/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" // of "foo"
	for name, test := range map[string]struct {
		change func([]entry) []entry
		want   string
	}{
		"a damaged manifest": {func(l []entry) []entry { return flip(l, isManifest) }, "damaged"},
		"a damaged blob":     {func(l []entry) []entry { return flip(l, isBlob) }, "damaged"},
		"a missing manifest": {func(l []entry) []entry { return drop(l, isManifest) }, "is not in"},
		"a missing blob":     {func(l []entry) []entry { return drop(l, isBlob) }, "incomplete, save it again"},
		"no index": {func(l []entry) []entry {
			return drop(l, func(e entry) bool { return e.header.Name == "index.json" })
		}, "index.json"},
		"a blob too many": {func(l []entry) []entry {
			return add(l, tar.Header{Typeflag: tar.TypeReg, Name: other, Mode: 0o644}, "foo")
		}, "nothing in it leads to its blob sha256:2c26"},
		"a link": {func(l []entry) []entry {
			return add(l, tar.Header{Typeflag: tar.TypeSymlink, Name: "blobs/sha256/x", Linkname: "/etc/passwd"}, "")
		}, "neither a file nor a folder"},
		"a way out": {func(l []entry) []entry {
			return add(l, tar.Header{Typeflag: tar.TypeReg, Name: "../x", Mode: 0o644}, "x")
		}, "want a clean relative name"},
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, a, pack(t, test.change(slices.Clone(whole))), test.want)
		})
	}
	t.Run("cut off", func(t *testing.T) {
		data := pack(t, slices.Clone(whole))
		refuses(t, a, data[:len(data)/2], "truncated")
	})
}

func refuses(t *testing.T, a *signedApp, data []byte, want string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bad.tar")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	to := registrytest.Serve(t, registrytest.Distribution("")) + "/team/bad"
	_, err := app.Load(t.Context(), app.LoadOptions{Environment: a.env, File: file, Repository: to})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	untagged(t, a.env, to)
	checked, err := app.Verify(t.Context(), app.VerifyOptions{Environment: a.env, Ref: "archive:" + file, Key: a.public})
	if err == nil && (checked.OK || len(failing(checked)) == 0) {
		t.Errorf("verify finds nothing wrong where load does: %v", err)
	}
}

// untagged checks that a repository has none of the application's tags.
func untagged(t *testing.T, env app.Environment, name string) {
	t.Helper()
	repository, err := env.Registry.Repository(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1", "manifests.v1"} {
		if _, err := repository.Resolve(t.Context(), tag); !errdefs.IsNotFound(err) {
			t.Errorf("%s has the tag %s: %v", name, tag, err)
		}
	}
}

// TestLoadGoesOn interrupts a load: the second one sends only what is missing, and only then
// the tag appears.
func TestLoadGoesOn(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	file := a.save(t)
	var broken atomic.Bool
	broken.Store(true)
	// As in TestCopyInterrupted, everything that the root lists arrives, and the root does not.
	puts := registrytest.Is(registrytest.Manifests, http.MethodPut)
	late := registrytest.After(9, func(r *http.Request) bool { return broken.Load() && puts(r) })
	counter := registrytest.Count(registrytest.GGCR())
	to := registrytest.Serve(t, registrytest.Misbehave(counter, late, registrytest.Status(http.StatusForbidden))) + "/team/shop"
	o := app.LoadOptions{Environment: a.env, File: file, Repository: to}
	if _, err := app.Load(t.Context(), o); err == nil {
		t.Fatal("a registry that refuses manifests is no error")
	}
	untagged(t, a.env, to)
	broken.Store(false)
	first := counter.Reset()
	result, err := app.Load(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	second := counter.Reset()
	if result.Digest != a.root || result.Moved.Existing != 5 || result.Moved.Blobs != 3 {
		t.Errorf("the second load: %+v, want what the root lists to stay, and blobs of two signatures alone to move", result)
	}
	if got, before := second.Requests["POST uploads"], first.Requests["POST uploads"]; got != 3 || before <= got {
		t.Errorf("%d blobs were sent, and then %d", before, got)
	}
	if got := a.verify(t, app.VerifyOptions{Ref: to + ":v1"}); !got.OK {
		t.Errorf("loaded: %v", failing(got))
	}
}

// TestOrasReadsArchive copies root and signatures from an archive with another library.
func TestOrasReadsArchive(t *testing.T) {
	a := newSignedApp(t, registrytest.Distribution(""))
	layout, err := oci.NewFromTar(t.Context(), a.save(t))
	if err != nil {
		t.Fatal(err)
	}
	to := memory.New()
	root, err := oras.ExtendedCopy(t.Context(), layout, "v1", to, "v1", oras.DefaultExtendedCopyOptions)
	if err != nil {
		t.Fatal(err)
	}
	if root.Digest != a.root {
		t.Errorf("root is %s, not %s", root.Digest, a.root)
	}
	signatures, err := to.Predecessors(t.Context(), root)
	if err != nil || len(signatures) != 1 {
		t.Errorf("%d signatures, %v", len(signatures), err)
	}
}
