// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// forgery is an archive that was changed by someone without a key.
type forgery struct {
	index ocispec.Index
	list  []entry
}

// put adds a blob.
func (f *forgery) put(data []byte) digest.Digest {
	dgst := digest.FromBytes(data)
	f.file("blobs/sha256/"+dgst.Encoded(), data)
	return dgst
}

func (f *forgery) file(name string, data []byte) {
	f.list = append(f.list, entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644}, data})
}

// evil adds a complete image.
func (f *forgery) evil() ocispec.Descriptor {
	config, layer := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`), []byte("evil layer")
	data, _ := json.Marshal(ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: f.put(config), Size: int64(len(config))},
		Layers:    []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: f.put(layer), Size: int64(len(layer))}},
	})
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: f.put(data), Size: int64(len(data))}
}

// named returns the entries of index.json that have the annotation.
func (f *forgery) named(annotation string) []*ocispec.Descriptor {
	var out []*ocispec.Descriptor
	for i := range f.index.Manifests {
		if f.index.Manifests[i].Annotations[annotation] != "" {
			out = append(out, &f.index.Manifests[i])
		}
	}
	return out
}

func (f *forgery) add(desc ocispec.Descriptor, annotation, name string) {
	if annotation != "" {
		desc.Annotations = map[string]string{annotation: name}
	}
	f.index.Manifests = append(f.index.Manifests, desc)
}

// pack packs the archive, in the order of save.
func (f *forgery) pack(t *testing.T) []byte {
	t.Helper()
	index, err := engine.MarshalJSON(f.index)
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.list {
		if f.list[i].header.Name == "index.json" {
			f.list[i].data, f.list[i].header.Size = index, int64(len(index))
		}
	}
	slices.SortStableFunc(f.list, func(a, b entry) int { return strings.Compare(a.header.Name, b.header.Name) })
	return pack(t, f.list)
}

const (
	imageName = images.AnnotationImageName
	refName   = ocispec.AnnotationRefName
)

// TestForgedArchive loads and verifies archives that contain more, less or something else than
// the root in them, which is signed and complete in each.
func TestForgedArchive(t *testing.T) {
	a := newSignedApp(t, registrytest.GGCR())
	whole := entries(t, a.save(t))
	// Each changes the content of the archive; changes to bytes are below.
	for name, change := range map[string]func(f *forgery){
		"another image by the names of the good one": func(f *forgery) {
			evil := f.evil()
			for _, d := range f.named(imageName) {
				d.Digest, d.Size, d.MediaType = evil.Digest, evil.Size, evil.MediaType
			}
		},
		"another image by the digest of the good one": func(f *forgery) {
			evil, d := f.evil(), f.named(imageName)[0]
			d.Digest, d.Size, d.MediaType = evil.Digest, evil.Size, evil.MediaType
		},
		"the names once more for another image": func(f *forgery) {
			evil := f.evil()
			for _, d := range slices.Clone(f.named(imageName)) {
				f.add(evil, imageName, d.Annotations[imageName])
			}
		},
		"an image of a node":                   func(f *forgery) { f.add(f.evil(), imageName, "registry.k8s.io/pause:3.10") },
		"an image of a node, by ref.name":      func(f *forgery) { f.add(f.evil(), refName, "docker.io/library/nginx:latest") },
		"a good image by the name of another":  func(f *forgery) { f.add(f.index.Manifests[0], imageName, "registry.k8s.io/pause:3.10") },
		"an image without a name":              func(f *forgery) { f.add(f.evil(), "", "") },
		"an image by another tag":              func(f *forgery) { f.add(f.evil(), refName, "v2") },
		"an image by the same tag":             func(f *forgery) { f.add(f.evil(), refName, "v1") },
		"an image first, by the same tag":      func(f *forgery) { f.add(f.evil(), refName, "v1"); slices.Reverse(f.index.Manifests) },
		"the content by a name":                func(f *forgery) { f.add(f.content(t), imageName, "registry.k8s.io/pause:3.10") },
		"the root by the name of an image":     func(f *forgery) { f.add(*f.named(refName)[0], imageName, "registry.k8s.io/pause:3.10") },
		"the root by the tag of a content":     func(f *forgery) { f.named(refName)[0].Annotations[refName] = "manifests.v1" },
		"the root by a whole name":             func(f *forgery) { f.named(refName)[0].Annotations[refName] = "docker.io/library/nginx:latest" },
		"the root by the tag of a signature":   func(f *forgery) { f.named(refName)[0].Annotations[refName] = "sha256-" + a.root.Encoded() + ".sig" },
		"the root by the tag of an image":      func(f *forgery) { f.named(refName)[0].Annotations[refName] = f.imageTag() },
		"the root twice by one tag":            func(f *forgery) { f.add(*f.named(refName)[0], refName, "v1") },
		"the root without a tag":               func(f *forgery) { f.named(refName)[0].Annotations = nil },
		"a second application":                 func(f *forgery) { f.add(f.second(t), refName, "v2") },
		"a second application by the same tag": func(f *forgery) { f.add(f.second(t), refName, "v1") },
		"platforms that are all there":         func(f *forgery) { f.named(refName)[0].Annotations["vnd.tape.platforms"] = "linux/amd64" },
		"one more annotation":                  func(f *forgery) { f.named(refName)[0].Annotations["x"] = "y" },
		"an annotation of the index":           func(f *forgery) { f.index.Annotations = map[string]string{imageName: "registry.k8s.io/pause:3.10"} },
		"a name less":                          func(f *forgery) { f.index.Manifests = f.index.Manifests[1:] },
		"another order": func(f *forgery) {
			f.index.Manifests[0], f.index.Manifests[1] = f.index.Manifests[1], f.index.Manifests[0]
		},
		"data in a descriptor": func(f *forgery) { f.index.Manifests[0].Data = []byte("{}") },
		"another size":         func(f *forgery) { f.index.Manifests[0].Size++ },
		"a size of none":       func(f *forgery) { f.index.Manifests[0].Size = 0 },
		"a size below none":    func(f *forgery) { f.index.Manifests[0].Size = -1 },
		"another media type":   func(f *forgery) { f.index.Manifests[0].MediaType = images.MediaTypeDockerSchema2ManifestList },
		"a platform": func(f *forgery) {
			f.index.Manifests[0].Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
		},
		"URLs":                    func(f *forgery) { f.index.Manifests[0].URLs = []string{"https://example.com"} },
		"a blob that nothing has": func(f *forgery) { f.put([]byte("nothing leads here")) },
		"what docker load reads":  func(f *forgery) { f.file("manifest.json", []byte("[]")) },
		"what old Docker reads":   func(f *forgery) { f.file("repositories", []byte("{}")) },
		"a file":                  func(f *forgery) { f.file("README", []byte("hello")) },
		"a file beside the blobs": func(f *forgery) { f.file("blobs/README", []byte("hello")) },
		"a blob that is too short": func(f *forgery) {
			i := slices.IndexFunc(f.list, func(e entry) bool { return !strings.HasSuffix(e.header.Name, a.root.Encoded()) })
			f.list[i].data = f.list[i].data[1:]
			f.list[i].header.Size--
		},
		"a link to another blob": func(f *forgery) {
			f.list[1].header.Typeflag, f.list[1].header.Linkname, f.list[1].header.Size, f.list[1].data = tar.TypeLink, f.list[0].header.Name, 0, nil
		},
		"a symbolic link": func(f *forgery) {
			f.list[1].header.Typeflag, f.list[1].header.Linkname, f.list[1].header.Size, f.list[1].data = tar.TypeSymlink, f.list[0].header.Name, 0, nil
		},
		"a device": func(f *forgery) {
			f.list = append(f.list, entry{header: tar.Header{Typeflag: tar.TypeChar, Name: "blobs/sha256/null"}})
		},
		"an index.json twice": func(f *forgery) { f.file("./index.json", []byte("{}")) },
		"a header for all entries": func(f *forgery) {
			f.list = append([]entry{{header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "a", PAXRecords: map[string]string{"path": "x"}}}}, f.list...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &forgery{list: slices.Clone(whole)}
			i := slices.IndexFunc(whole, func(e entry) bool { return e.header.Name == "index.json" })
			if err := json.Unmarshal(whole[i].data, &f.index); err != nil {
				t.Fatal(err)
			}
			change(f)
			isForged(t, a, f.pack(t), true)
		})
	}

	good, err := os.ReadFile(a.save(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("as saved", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "good.tar")
		if err := os.WriteFile(file, good, 0o644); err != nil {
			t.Fatal(err)
		}
		if r := a.verify(t, app.VerifyOptions{Ref: "archive:" + file}); !r.OK {
			t.Error(failing(r))
		}
		err := a.packageFrom(t, local.Place("archive:"+file))
		if errors.Is(err, engine.ErrPolicy) || err != nil && !strings.Contains(err.Error(), "take registry.example/web:1 from ") {
			t.Errorf("package --from: %v, want images to be taken from it", err)
		}
	})
	header := func(change func(h []byte)) []byte {
		data := bytes.Clone(good)
		change(data[:512])
		sum := 0
		copy(data[148:156], "        ")
		for _, b := range data[:512] {
			sum += int(b)
		}
		copy(data[148:156], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
		return data
	}
	// readable are packed differently, but have no additional content.
	for name, test := range map[string]struct {
		data     []byte
		readable bool
	}{
		"bytes behind its end":        {append(bytes.Clone(good), "more"...), false},
		"a second archive behind it":  {append(bytes.Clone(good), good...), false},
		"a second archive in its end": {append(bytes.Clone(good[:len(good)-1024]), append(make([]byte, 512), good...)...), false},
		"no end":                      {good[:len(good)-1024], false},
		"half an end":                 {good[:len(good)-512], false},
		"bytes in its end":            {append(bytes.Clone(good[:len(good)-1]), 1), false},
		"a padding that is not zero":  {pad(good), false},
		"more zeroes":                 {append(bytes.Clone(good), make([]byte, 9216)...), true},
		"many more zeroes":            {append(bytes.Clone(good), make([]byte, 2<<20)...), false},
		"another owner":               {header(func(h []byte) { copy(h[108:], "0001750") }), true},
		"another time":                {header(func(h []byte) { copy(h[136:], "14000000000") }), true},
		"another mode":                {header(func(h []byte) { copy(h[100:], "0000777") }), true},
		"a contiguous file":           {header(func(h []byte) { h[156] = '7' }), false},
		"a volume label":              {header(func(h []byte) { h[156] = 'V' }), false},
		"GNU's sparse file":           {header(func(h []byte) { h[156] = 'S' }), false},
		"a size that is huge":         {header(func(h []byte) { copy(h[124:], "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff") }), false},
		"a size below zero":           {header(func(h []byte) { copy(h[124:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") }), false},
	} {
		t.Run(name, func(t *testing.T) { isForged(t, a, test.data, !test.readable) })
	}
	for name, other := range map[string]tar.Header{
		"GNU's format": {Format: tar.FormatGNU, ModTime: time.Unix(1, 0)},
		"PAX times":    {Format: tar.FormatPAX, ModTime: time.Unix(1, 5e8)},
	} {
		t.Run(name, func(t *testing.T) {
			list := slices.Clone(whole)
			for i := range list {
				list[i].header.Format, list[i].header.ModTime = other.Format, other.ModTime
			}
			isForged(t, a, pack(t, list), false)
		})
	}
}

// pad fills the first gap between two entries.
func pad(data []byte) []byte {
	data = bytes.Clone(data)
	r := bytes.NewReader(data)
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err != nil {
			return data
		}
		if at := len(data) - r.Len() + int(h.Size); at%512 != 0 {
			data[at] = 1
			return data
		}
	}
}

// content returns the root's first child.
func (f *forgery) content(t *testing.T) ocispec.Descriptor {
	t.Helper()
	var index ocispec.Index
	f.read(t, f.named(refName)[0].Digest, &index)
	return index.Manifests[0]
}

func (f *forgery) read(t *testing.T, dgst digest.Digest, out any) {
	t.Helper()
	for _, e := range f.list {
		if strings.HasSuffix(e.header.Name, dgst.Encoded()) {
			if err := json.Unmarshal(e.data, out); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s is not there", dgst)
}

func (f *forgery) imageTag() string {
	name := f.named(imageName)[1].Annotations[imageName]
	return name[strings.LastIndexByte(name, ':')+1:]
}

// second returns the same application, except for one annotation of its root.
func (f *forgery) second(t *testing.T) ocispec.Descriptor {
	t.Helper()
	var index ocispec.Index
	f.read(t, f.named(refName)[0].Digest, &index)
	index.Annotations["x"] = "y"
	data, err := engine.MarshalJSON(index)
	if err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: index.MediaType, Digest: f.put(data), Size: int64(len(data)), ArtifactType: index.ArtifactType}
}

// isForged checks that verify rejects an archive that is not byte for byte what was saved and, if
// elsewhere is set, that all other readers do so too.
func isForged(t *testing.T, a *signedApp, data []byte, elsewhere bool) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "forged.tar")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	ref := "archive:" + file
	for _, ref := range []string{ref, ref + ":v1", ref + "@" + a.root.String()} {
		checked, err := app.Verify(t.Context(), app.VerifyOptions{Environment: a.env, Ref: ref, Key: a.public})
		if err == nil && (checked.OK || failing(checked)["archive"] == "") {
			t.Errorf("verify %s finds nothing wrong: %v", ref, failing(checked))
		}
		if err != nil && !errors.Is(err, engine.ErrPolicy) {
			t.Errorf("verify %s: not a refusal: %v", ref, err)
		}
	}
	to := registrytest.Serve(t, registrytest.GGCR()) + "/team/forged"
	_, loadErr := app.Load(t.Context(), app.LoadOptions{Environment: a.env, File: file, Repository: to})
	_, copyErr := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: ref, Target: to + "2:v1"}}})
	_, pullErr := app.Pull(t.Context(), app.PullOptions{Environment: a.env, Ref: ref, Dir: filepath.Join(t.TempDir(), "out")})
	_, viewErr := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: ref})
	if elsewhere {
		// A file that is not an archive cannot be opened, which is not a failed verification.
		err := a.packageFrom(t, local.Place(ref))
		if err == nil || !errors.Is(err, engine.ErrPolicy) && !strings.Contains(err.Error(), ": open archive ") {
			t.Errorf("package --from: %v, want a refusal", err)
		}
	}
	for what, err := range map[string]error{"load": loadErr, "copy": copyErr, "pull": pullErr, "view": viewErr} {
		if elsewhere && !errors.Is(err, engine.ErrPolicy) {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
		if !elsewhere && err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if elsewhere {
		untagged(t, a.env, to)
		untagged(t, a.env, to+"2")
	}
}

// packageFrom packages a pod whose image is in a place.
func (a *signedApp) packageFrom(t *testing.T, from local.Place) error {
	t.Helper()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: registry.example/web:1}]}\n"
	source := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(source, []byte(pod), 0o644); err != nil {
		t.Fatal(err)
	}
	env := a.env
	env.Local = local.New(local.Options{})
	t.Cleanup(func() { _ = env.Local.Close() })
	_, err := app.Package(t.Context(), app.PackageOptions{
		Options:    app.Options{Environment: env, Sources: []app.Source{{Path: source}}, From: map[string]local.Place{"registry.example/web:1": from}},
		Repository: "registry.example/team/app", DryRun: true, Save: filepath.Join(t.TempDir(), "app.tar"),
	})
	return err
}
