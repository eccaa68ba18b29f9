// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	spdx "github.com/spdx/tools-golang/json"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/stages/artifact"
)

const (
	// imageRepository is where the image of a release is published.
	imageRepository = "ghcr.io/taped-dev/tape"
	// imageUser is the user that the image runs as. It is a number, because only from a number
	// can a cluster tell that it is not root.
	imageUser = 65532
)

// image writes the image of a release, as an OCI archive: the content of its archives for
// Linux, for each platform. A snapshot has no tag.
func image(ctx context.Context, dist, tag string) error {
	archives, err := filepath.Glob(filepath.Join(dist, "tape_*_linux_*.tar.gz"))
	if err != nil {
		return err
	}
	if len(archives) == 0 {
		return fmt.Errorf("there is no archive tape_*_linux_*.tar.gz in %s", dist)
	}
	var (
		builds  []built
		version string
	)
	for _, archive := range archives { // sorted
		b, err := readArchive(archive)
		if err != nil {
			return err
		}
		name, arch, _ := strings.Cut(strings.TrimSuffix(filepath.Base(archive), ".tar.gz"), "_linux_")
		version = strings.TrimPrefix(name, "tape_")
		b.platform = ocispec.Platform{OS: "linux", Architecture: arch}
		builds = append(builds, b)
	}
	name := "tape_" + version + "_image.tar"
	if err := writeImage(ctx, filepath.Join(dist, name), "v"+version, tag, builds); err != nil {
		return err
	}
	return addChecksum(dist, name)
}

// addChecksum adds a later file to the checksums that GoReleaser wrote.
func addChecksum(dist, name string) error {
	d, err := sum(filepath.Join(dist, name))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dist, "checksums.txt"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s  %s\n", d.Encoded(), name)
	return errors.Join(err, f.Close())
}

// built is the content of the image for a platform.
type built struct {
	platform ocispec.Platform
	created  time.Time
	files    []file
}

// writeImage writes an index of the images of builds, with an SPDX document attached to each
// image and the provenance to the index. The same builds give the same bytes.
func writeImage(ctx context.Context, to, version, tag string, builds []built) error {
	b := blobs{}
	base, err := b.layer(baseFiles())
	if err != nil {
		return err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var (
		attached []ocispec.Descriptor
		programs []*debug.BuildInfo
		with     = parameters{Tag: tag}
	)
	attach := func(subject ocispec.Descriptor, mediaType string, data []byte) error {
		desc, err := b.attach(subject, mediaType, data)
		attached = append(attached, desc)
		return err
	}
	for _, build := range builds {
		index.Annotations = build.annotations(version)
		desc, err := b.image(build, index.Annotations, base)
		if err != nil {
			return err
		}
		index.Manifests = append(index.Manifests, desc)
		document, err := build.sbom(desc)
		if err == nil {
			err = attach(desc, "application/spdx+json", document)
		}
		if err != nil {
			return fmt.Errorf("SBOM of the image for %s: %w", build.platform.Architecture, err)
		}
		with.Platforms = append(with.Platforms, build.platform.OS+"/"+build.platform.Architecture)
		for _, f := range build.files {
			if f.build != nil {
				programs = append(programs, f.build)
			}
		}
	}
	root, err := b.addJSON(ocispec.MediaTypeImageIndex, index)
	if err != nil {
		return err
	}
	root.Annotations = map[string]string{
		ocispec.AnnotationRefName:  version,
		"io.containerd.image.name": imageRepository + ":" + version,
	}
	statement, err := provenanceOf(with, programs, []artifact.Resource{{Name: imageRepository, Digest: artifact.DigestSet(root.Digest)}})
	if err == nil {
		err = attach(root, "application/vnd.in-toto+json", statement)
	}
	if err != nil {
		return fmt.Errorf("provenance of the image: %w", err)
	}
	data, err := json.Marshal(ocispec.Index{
		Versioned: index.Versioned, MediaType: ocispec.MediaTypeImageIndex, Manifests: append([]ocispec.Descriptor{root}, attached...),
	})
	if err != nil {
		return err
	}
	var all []ocispec.Descriptor
	for _, blob := range b {
		all = append(all, blob.Desc)
	}
	plan, err := layout.NewPlan(data, all)
	if err != nil {
		return err
	}
	return plan.WriteFile(ctx, to, func(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[desc.Digest].Data)), nil
	}, layout.PlanOptions{})
}

func (b built) annotations(version string) map[string]string {
	annotations := map[string]string{
		ocispec.AnnotationTitle:       "tape",
		ocispec.AnnotationDescription: "Pack a Kubernetes application into one OCI artifact",
		ocispec.AnnotationURL:         "https://github.com/taped-dev/tape",
		ocispec.AnnotationSource:      "https://github.com/taped-dev/tape",
		ocispec.AnnotationLicenses:    "Apache-2.0",
		ocispec.AnnotationVersion:     version,
		ocispec.AnnotationCreated:     b.created.Format(time.RFC3339),
	}
	for _, f := range b.files {
		if f.build == nil {
			continue
		}
		for _, s := range f.build.Settings {
			if s.Key == "vcs.revision" { // equal for all builds, as provenanceOf checks
				annotations[ocispec.AnnotationRevision] = s.Value
			}
		}
	}
	return annotations
}

// sbom returns the SPDX document of the files of an image.
func (b built) sbom(image ocispec.Descriptor) ([]byte, error) {
	d := newDocument(imageRepository, image.Digest, b.created)
	d.archive.PackageFileName, d.archive.PrimaryPackagePurpose = "", "CONTAINER"
	for _, f := range append(baseFiles(), b.files...) {
		if f.Typeflag != tar.TypeReg {
			continue
		}
		if err := d.add(packed{name: f.Name, data: f.data, build: f.build}); err != nil {
			return nil, err
		}
	}
	document, err := d.finish()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = spdx.Write(document, &out)
	return out.Bytes(), err
}

// attach adds an artifact with a manifest as its subject, and returns its descriptor.
func (b blobs) attach(subject ocispec.Descriptor, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc, err := b.addJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: mediaType,
		Config:       b.add(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:       []ocispec.Descriptor{b.add(mediaType, data)},
		Subject:      &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
	desc.ArtifactType = mediaType
	return desc, err
}

// image adds the image of a build, and returns its descriptor for an index.
func (b blobs) image(build built, annotations map[string]string, base layer) (ocispec.Descriptor, error) {
	programs, err := b.layer(build.files)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config, err := b.addJSON(ocispec.MediaTypeImageConfig, ocispec.Image{
		Created:  &build.created,
		Platform: build.platform,
		Config: ocispec.ImageConfig{
			User: fmt.Sprintf("%d:%d", imageUser, imageUser),
			// /tmp is writable by any user; nothing else needs to be.
			Env:        []string{"PATH=/usr/bin", "HOME=/home/tape", "XDG_CACHE_HOME=/tmp/cache"},
			Entrypoint: []string{"/usr/bin/tape"},
			WorkingDir: "/work",
			Labels:     annotations,
		},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{base.diffID, programs.diffID}},
		History: []ocispec.History{
			{Created: &build.created, CreatedBy: "release image", Comment: "folders and certificates"},
			{Created: &build.created, CreatedBy: "release image", Comment: "programs"},
		},
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := b.addJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageManifest,
		Config:      config,
		Layers:      []ocispec.Descriptor{base.Descriptor, programs.Descriptor},
		Annotations: annotations,
	})
	desc.Platform = &build.platform
	return desc, err
}

// file is a file of a layer.
type file struct {
	tar.Header
	data  []byte
	build *debug.BuildInfo // of a Go program; nil for other files
}

// baseFiles returns the writable folders with their owners, and the certificate authorities
// that Mozilla trusts. They have no date, so that the layer is the same in all releases until
// they change.
func baseFiles() []file {
	dir := func(name string, mode int64, owner int) file {
		return file{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, Uid: owner, Gid: owner, ModTime: time.Unix(0, 0)}}
	}
	text := func(name, data string) file {
		return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(0, 0)}, []byte(data), nil}
	}
	var certificates strings.Builder
	for root := range bundle.Roots() {
		// A PEM file cannot express until when a certificate is trusted, so those with a
		// constraint are left out.
		if root.Constraint == nil {
			certificates.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return []file{
		dir("etc/", 0o755, 0),
		text("etc/group", fmt.Sprintf("root:x:0:\ntape:x:%d:\n", imageUser)),
		text("etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/sbin/nologin\ntape:x:%d:%d:tape:/home/tape:/sbin/nologin\n", imageUser, imageUser)),
		dir("etc/ssl/", 0o755, 0),
		dir("etc/ssl/certs/", 0o755, 0),
		text("etc/ssl/certs/ca-certificates.crt", certificates.String()),
		dir("home/", 0o755, 0),
		dir("home/tape/", 0o755, imageUser),
		dir("tmp/", 0o1777, 0),
		dir("work/", 0o755, imageUser),
	}
}

// readArchive returns the programs in an archive of a release, with their descriptions, in one
// folder, where tape finds its interpreters, and the licence.
func readArchive(archive string) (built, error) {
	var b built
	err := walk(archive, func(p packed) error {
		// Completions and manuals are in other folders.
		dir, name := path.Split(p.name)
		to := "usr/bin/" + name
		switch {
		case strings.Count(dir, "/") != 1:
			return nil
		case name == "LICENSE":
			to = "usr/share/doc/tape/" + name
		case name == "tape":
			b.created = p.info.ModTime().UTC()
		case !strings.HasPrefix(name, "tape-"):
			return nil
		}
		h := tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: int64(p.info.Mode() & 0o755), ModTime: p.info.ModTime()}
		b.files = append(b.files, file{h, p.data, p.build})
		return nil
	})
	if err != nil {
		return built{}, err
	}
	for _, dir := range []string{"usr/", "usr/bin/", "usr/share/", "usr/share/doc/", "usr/share/doc/tape/"} {
		b.files = append(b.files, file{Header: tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: b.created}})
	}
	slices.SortFunc(b.files, func(a, b file) int { return strings.Compare(a.Name, b.Name) })
	return b, nil
}

// blobs are the blobs of an image, by digest.
type blobs map[digest.Digest]artifact.Blob

func (b blobs) add(mediaType string, data []byte) ocispec.Descriptor {
	blob := artifact.NewBlob(mediaType, data)
	b[blob.Desc.Digest] = blob
	return blob.Desc
}

func (b blobs) addJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return b.add(mediaType, data), nil
}

// layer is a layer, and its digest before compression.
type layer struct {
	ocispec.Descriptor
	diffID digest.Digest
}

func (b blobs) layer(files []file) (layer, error) {
	var compressed bytes.Buffer
	gz := gzip.NewWriter(&compressed)
	plain := digest.Canonical.Digester()
	w := tar.NewWriter(io.MultiWriter(gz, plain.Hash()))
	for _, f := range files {
		f.Size = int64(len(f.data))
		if err := w.WriteHeader(&f.Header); err != nil {
			return layer{}, err
		}
		if _, err := w.Write(f.data); err != nil {
			return layer{}, err
		}
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		return layer{}, err
	}
	return layer{b.add(ocispec.MediaTypeImageLayerGzip, compressed.Bytes()), plain.Digest()}, nil
}
