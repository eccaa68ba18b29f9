// SPDX-License-Identifier: Apache-2.0

// Command images builds the images of the example shop and pushes them to a registry, each
// for two platforms and with an SBOM attached.
//
//	images REGISTRY MANIFESTS    such as: images 127.0.0.1:5000 ./manifests
//
// Every image contains the program in ../app. The list of images is taken from the
// manifests.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
)

// host is the name of the registry in the manifests; a mirror replaces it.
const host = "registry.shop.example"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: images REGISTRY MANIFESTS")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, registryHost, manifests string) error {
	names, err := namesIn(manifests)
	if err != nil {
		return err
	}
	client, err := registry.New(registry.Options{})
	if err != nil {
		return err
	}
	platforms := []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	layers := map[string][]byte{}
	for _, p := range platforms {
		if layers[p.Architecture], err = layer(ctx, p); err != nil {
			return err
		}
	}
	for _, name := range names {
		path, tag, _ := strings.Cut(name, ":")
		repo, err := client.Repository(registryHost + "/" + path)
		if err != nil {
			return err
		}
		index, err := push(ctx, repo, path, tag, platforms, layers)
		if err != nil {
			return fmt.Errorf("push %s: %w", name, err)
		}
		if err := attachSBOM(ctx, repo, path, tag, index); err != nil {
			return fmt.Errorf("attach the SBOM of %s: %w", name, err)
		}
		fmt.Fprintf(os.Stdout, "made %s/%s@%s\n", host, name, index.Digest)
	}
	return nil
}

// namesIn returns the images in the manifests, without the host.
func namesIn(dir string) ([]string, error) {
	pattern := regexp.MustCompile(regexp.QuoteMeta(host) + `/([a-z]+:[0-9.]+)`)
	var names []string
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		for _, m := range pattern.FindAllSubmatch(data, -1) {
			names = append(names, string(m[1]))
		}
		return err
	})
	slices.Sort(names)
	return slices.Compact(names), err
}

// layer builds the program for a platform and packs it.
func layer(ctx context.Context, p ocispec.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "shop")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "app")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", bin,
		"github.com/taped-dev/tape/examples/shop/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build for %s: %w\n%s", p.Architecture, err, out)
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	err = tw.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(data))})
	if err == nil {
		_, err = tw.Write(data)
	}
	err = errors.Join(err, tw.Close(), zw.Close())
	return buf.Bytes(), err
}

// push pushes an image of two platforms and returns its index.
func push(ctx context.Context, repo *registry.Repository, name, tag string, platforms []ocispec.Platform, layers map[string][]byte) (ocispec.Descriptor, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, p := range platforms {
		l, err := blob(ctx, repo, ocispec.MediaTypeImageLayerGzip, layers[p.Architecture])
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		config, err := document(ctx, repo, ocispec.MediaTypeImageConfig, ocispec.Image{
			Platform: p,
			Config:   ocispec.ImageConfig{Entrypoint: []string{"/app"}, Labels: map[string]string{"org.opencontainers.image.title": name}},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID(layers[p.Architecture])}},
		})
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc, err := manifest(ctx, repo, "", ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: config, Layers: []ocispec.Descriptor{l},
		})
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc.Platform = &p
		index.Manifests = append(index.Manifests, desc)
	}
	return manifest(ctx, repo, tag, ocispec.MediaTypeImageIndex, index)
}

// attachSBOM attaches a small SPDX document as a referrer.
func attachSBOM(ctx context.Context, repo *registry.Repository, name, tag string, subject ocispec.Descriptor) error {
	const mediaType = "application/spdx+json"
	sbom, err := document(ctx, repo, mediaType, map[string]any{
		"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name,
		"documentNamespace": "https://shop.example/sbom/" + name + "/" + tag,
		"creationInfo":      map[string]any{"created": "1970-01-01T00:00:00Z", "creators": []string{"Tool: shop"}},
		"packages": []any{map[string]any{"SPDXID": "SPDXRef-app", "name": name, "versionInfo": tag,
			"downloadLocation": "NOASSERTION"}},
	})
	if err != nil {
		return err
	}
	config, err := blob(ctx, repo, ocispec.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return err
	}
	data, err := engine.MarshalJSON(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: mediaType, Config: config, Layers: []ocispec.Descriptor{sbom}, Subject: &subject,
	})
	if err != nil {
		return err
	}
	desc := describe(ocispec.MediaTypeImageManifest, data)
	desc.ArtifactType = mediaType
	return repo.PushReferrer(ctx, desc, data)
}

func diffID(gz []byte) digest.Digest {
	zr, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		panic(err) // compressed by this program
	}
	d, err := digest.FromReader(zr)
	if err != nil {
		panic(err)
	}
	return d
}

func describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func blob(ctx context.Context, repo *registry.Repository, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := describe(mediaType, data)
	_, err := repo.PushBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	return desc, err
}

func document(ctx context.Context, repo *registry.Repository, mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return blob(ctx, repo, mediaType, data)
}

func manifest(ctx context.Context, repo *registry.Repository, tag, mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := describe(mediaType, data)
	return desc, repo.PushManifest(ctx, desc, data, tag)
}
