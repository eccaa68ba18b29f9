// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// saveAndLoad saves an application of 10 images, 500 MB, from a nearby registry into a file,
// and loads it.
func saveAndLoad(t *testing.T, rows *table) {
	const images, size = 10, 50_000_000
	l := newLab(t, images, registrytest.Image{Single: true, Layers: []int64{size - 10_000_000, 8_000_000, 2_000_000}})
	var saved, pulled, loaded, pushed []sample
	for range rounds {
		ref, dir := l.packaged(t), t.TempDir()
		file, folder := filepath.Join(dir, "app.tar"), filepath.Join(dir, "crane")
		work := craneWork{Verb: "pull", Folder: folder, To: l.dstAddr + "/crane:v1"}
		for _, digest := range l.digests {
			work.Images = append(work.Images, l.dstAddr+"/app@"+digest)
		}
		pulled = append(pulled, l.work(t, work))
		saved = append(saved, l.tape(t, "save", ref, file))
		l.dst.Store(holder{newRegistry()})
		work.Verb = "push"
		pushed = append(pushed, l.work(t, work))
		l.dst.Store(holder{newRegistry()})
		loaded = append(loaded, l.tape(t, "load", file, l.dstAddr+"/loaded"))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		l.dst.Store(holder{newRegistry()})
	}
	mine, theirs := median(saved), median(pulled)
	rows.ratio("save, 10 images, 500 MB: time, against crane pull --format oci", 1, mine.Wall.Seconds(), theirs.Wall.Seconds(), "s")
	rows.most("  peak memory", 150, float64(mine.Memory)/1e6, "MB")
	mine, theirs = median(loaded), median(pushed)
	rows.ratio("  load: time, against crane push --index", 1, mine.Wall.Seconds(), theirs.Wall.Seconds(), "s")
	rows.most("  peak memory", 150, float64(mine.Memory)/1e6, "MB")
}

// copyAndVerify copies and verifies an application of 100 images of two platforms in a distant
// registry.
func copyAndVerify(t *testing.T, rows *table) {
	const images, delay = 100, 20 * time.Millisecond
	l := newLab(t, images, registrytest.Image{Layers: []int64{20_000, 8_000}, Inline: 1, Signatures: 1})
	key := filepath.Join(t.TempDir(), "key")
	t.Setenv("COSIGN_PASSWORD", "")
	l.tape(t, "sign", "--generate-key", key)
	ref := l.packaged(t, "--sign", "--key", key+".key")
	var copied, verified []sample
	l.delay(delay)
	for range rounds {
		other := newRegistry()
		target := registrytest.Count(l.delayed(func() http.Handler { return other }))
		to := registrytest.Serve(t, target)
		s := l.tape(t, "copy", ref, to+"/app")
		s.requests += target.Stats().Total()
		copied = append(copied, s)
		verified = append(verified, l.tape(t, "verify", ref, "--key", key+".pub"))
	}
	l.delay(0)
	l.dst.Store(holder{registrytest.Distribution("")}) // it supports mounts
	within := l.tape(t, "copy", l.packaged(t), l.dstAddr+"/elsewhere")
	mine := median(copied)
	rows.most("copy, 100 images, 20 ms a request: time", 2, mine.Wall.Seconds(), "s")
	rows.count(t, "  requests", 4500, mine.requests)
	rows.most("  peak memory", 150, float64(mine.Memory)/1e6, "MB")
	rows.count(t, "  within a registry that mounts: bytes of blobs that were sent", 0, int(within.uploaded))
	mine = median(verified)
	rows.most("  verify: time", 1.5, mine.Wall.Seconds(), "s")
	rows.most("  peak memory", 150, float64(mine.Memory)/1e6, "MB")
}

// packaged packages the images of the lab and returns the reference.
func (l *lab) packaged(t *testing.T, flags ...string) string {
	t.Helper()
	l.delay(0)
	l.tape(t, append([]string{"package", l.manifests, "-O", l.dstAddr + "/app", "--tag", "v1"}, flags...)...)
	return l.dstAddr + "/app:v1"
}

// pull does the same as crane pull --format oci, for several images into one folder.
func (w craneWork) pull() error {
	folder, err := layout.Write(w.Folder, empty.Index)
	if err != nil {
		return err
	}
	for _, image := range w.Images {
		img, err := crane.Pull(image)
		if err != nil {
			return err
		}
		if err := folder.AppendImage(img); err != nil {
			return err
		}
	}
	return nil
}

// push does the same as crane push --index.
func (w craneWork) push() error {
	index, err := layout.ImageIndexFromPath(w.Folder)
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(w.To)
	if err != nil {
		return err
	}
	return remote.WriteIndex(ref, index)
}
