// SPDX-License-Identifier: Apache-2.0

package cnab

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/artifact"
)

// Media types of a bundle in a registry.
const (
	// MediaTypeConfig is the media type of the bundle.json.
	MediaTypeConfig = "application/vnd.cnab.config.v1+json"
	// ArtifactType is the value of AnnotationArtifactType.
	ArtifactType = "application/vnd.cnab.manifest.v1"
)

// Annotations of the index. It also has the OCI annotations for title, version,
// description and authors.
const (
	AnnotationArtifactType   = "org.opencontainers.artifactType"
	AnnotationRuntimeVersion = "io.cnab.runtime_version" // the bundle's schemaVersion
	AnnotationKeywords       = "io.cnab.keywords"        // a JSON list
)

// Annotations of the descriptors in the index.
const (
	AnnotationManifestType  = "io.cnab.manifest.type" // one of the types below
	AnnotationComponentName = "io.cnab.component.name"
)

// Values of AnnotationManifestType, in the order in which the index lists them: the manifest
// whose config is the bundle.json, the invocation image, the components.
const (
	TypeConfig     = "config"
	TypeInvocation = "invocation"
	TypeComponent  = "component"
)

func marshal(mediaType string, v any) (artifact.Blob, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return artifact.Blob{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	return artifact.NewBlob(mediaType, data), nil
}

// Dialect is a set of media types for a bundle in a registry.
type Dialect struct {
	Config   string // of the bundle.json
	Manifest string // of the manifest whose config is the bundle.json
	Index    string
}

// Dialects returns all dialects, in order of preference. Like cnab-to-oci, which reads all of
// them, callers should try the next one if a registry rejects one.
func Dialects() []Dialect {
	return []Dialect{
		{MediaTypeConfig, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex},
		{ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex},
		{images.MediaTypeDockerSchema2Config, images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2ManifestList},
	}
}

// Documents are pushed in addition to the images of a bundle, in the order of the fields.
type Documents struct{ Config, Manifest, Index artifact.Blob }

// Documents returns the documents of the bundle. It is an error if an image has no digest,
// size or media type, see [Image.Describe].
func (b *Bundle) Documents(d Dialect) (Documents, error) {
	data, err := b.Canonical()
	if err != nil {
		return Documents{}, err
	}
	out := Documents{Config: artifact.NewBlob(d.Config, data)}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: d.Manifest,
		Config: out.Config.Desc, Layers: []ocispec.Descriptor{},
	}
	if d.Manifest != ocispec.MediaTypeImageManifest {
		// Old registries require a layer, so the bundle is used for that too.
		manifest.Layers = append(manifest.Layers, out.Config.Desc)
	}
	if out.Manifest, err = marshal(d.Manifest, manifest); err != nil {
		return Documents{}, err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: d.Index}
	if index.Annotations, err = b.annotations(); err != nil {
		return Documents{}, err
	}
	list := func(desc ocispec.Descriptor, annotations map[string]string) {
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Annotations: annotations,
		})
	}
	list(out.Manifest.Desc, map[string]string{AnnotationManifestType: TypeConfig})
	for _, i := range b.Images {
		if i.Described.Digest == "" || i.Described.Size == 0 || i.Described.MediaType == "" {
			return Documents{}, fmt.Errorf("%s has no digest, size or media type: fix up the bundle first", i)
		}
		annotations := map[string]string{AnnotationManifestType: TypeInvocation}
		if i.Name != "" {
			annotations = map[string]string{AnnotationManifestType: TypeComponent, AnnotationComponentName: i.Name}
		}
		list(i.Described, annotations)
	}
	out.Index, err = marshal(d.Index, index)
	return out, err
}

func (b *Bundle) annotations() (map[string]string, error) {
	out := map[string]string{
		AnnotationArtifactType:        ArtifactType,
		AnnotationRuntimeVersion:      b.text("schemaVersion"),
		ocispec.AnnotationTitle:       b.text("name"),
		ocispec.AnnotationVersion:     b.text("version"),
		ocispec.AnnotationDescription: b.text("description"),
	}
	for field, annotation := range map[string]string{"maintainers": ocispec.AnnotationAuthors, "keywords": AnnotationKeywords} {
		if b.fields[field] == nil {
			continue
		}
		data, err := canonical(b.fields[field])
		if err != nil {
			return nil, fmt.Errorf("%s of the bundle: %w", field, err)
		}
		out[annotation] = string(data)
	}
	return out, nil
}

// IsIndex reports whether mediaType can be that of the index of a bundle.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == images.MediaTypeDockerSchema2ManifestList
}

// ConfigManifest returns the manifest in index that has the bundle.json as its config.
func ConfigManifest(index ocispec.Index) (ocispec.Descriptor, error) {
	for _, d := range index.Manifests {
		if d.Annotations[AnnotationManifestType] == TypeConfig {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, errors.New("not a CNAB bundle: the index has no manifest with " + AnnotationManifestType + " " + TypeConfig)
}

// RelocationMap maps the reference of each image in the bundle to its reference in
// repository, which holds the index.
func (b *Bundle) RelocationMap(index ocispec.Index, repository string) (map[string]string, error) {
	byName := map[string]*Image{}
	for _, i := range b.Images {
		byName[i.Name] = i
	}
	out := map[string]string{}
	for _, d := range index.Manifests {
		if !isImage(d.MediaType) {
			return nil, fmt.Errorf("the index lists %s with media type %q, which is not an image", d.Digest, d.MediaType)
		}
		name, typ := d.Annotations[AnnotationComponentName], d.Annotations[AnnotationManifestType]
		switch {
		case typ == TypeConfig:
			continue
		case typ == TypeInvocation:
			name = ""
		case typ != TypeComponent:
			return nil, fmt.Errorf("the index lists %s with %s %q: want %s, %s or %s", d.Digest, AnnotationManifestType, typ, TypeConfig, TypeInvocation, TypeComponent)
		case name == "":
			return nil, fmt.Errorf("the index lists %s as a component without %s", d.Digest, AnnotationComponentName)
		}
		image, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("the index lists a component %s that the bundle does not have", name)
		}
		out[image.Ref] = repository + "@" + d.Digest.String()
	}
	for _, i := range b.Images {
		if out[i.Ref] == "" {
			return nil, fmt.Errorf("the index does not list the %s", i)
		}
	}
	return out, nil
}
