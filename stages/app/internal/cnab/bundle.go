// SPDX-License-Identifier: Apache-2.0

// Package cnab knows Cloud Native Application Bundles: the document bundle.json
// (CNAB Core 1.0, https://cnab.io) and the OCI index that cnab-to-oci made the
// custom for keeping one in a registry. It reads and makes documents; what copies
// images and pushes is package stages.
package cnab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FileName is what a bundle is called in a source.
const FileName = "bundle.json"

// Bundle is a bundle.json. All that it says is kept, known here or not: a bundle
// is somebody's contract, and parameters, credentials and custom extensions are
// nobody's to lose.
type Bundle struct {
	// Images are the invocation image, which comes first, and the components,
	// sorted by name.
	Images []*Image

	fields map[string]any
}

// Image is an image of a bundle.
type Image struct {
	// Name of the component; "" is the invocation image.
	Name string
	// Ref is the name that the bundle has for it.
	Ref string
	// Described has what the bundle says about the manifest behind Ref: digest,
	// size and media type, each of which may be missing.
	Described ocispec.Descriptor

	fields map[string]any
}

// String is how messages call an image.
func (i *Image) String() string {
	out := "invocation image"
	if i.Name != "" {
		out = "component " + i.Name
	}
	if i.Ref != "" {
		out += " (" + i.Ref + ")"
	}
	return out
}

// Parse reads a bundle. It is an error where it has no invocation image or
// several, or an image of a type that is neither docker nor oci: no registry could
// hold it.
func Parse(data []byte) (*Bundle, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	b := &Bundle{}
	if err := dec.Decode(&b.fields); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read bundle: there is more behind its end")
	}
	if b.fields == nil {
		return nil, errors.New("read bundle: it is null")
	}
	invocation, ok := b.fields["invocationImages"].([]any)
	if n := len(invocation); !ok || n != 1 {
		return nil, fmt.Errorf("read bundle: it has %d invocation images; a registry takes a bundle of exactly one", n)
	}
	if err := b.add("", invocation[0]); err != nil {
		return nil, err
	}
	components, ok := b.fields["images"].(map[string]any)
	if !ok && b.fields["images"] != nil {
		return nil, errors.New("read bundle: its images are no object")
	}
	for _, name := range slices.Sorted(maps.Keys(components)) {
		if name == "" {
			return nil, errors.New("read bundle: a component has no name")
		}
		if err := b.add(name, components[name]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// description is what a bundle says of an image.
type description struct {
	Image     string        `json:"image"`
	Type      string        `json:"imageType"`
	Digest    digest.Digest `json:"contentDigest"`
	Size      int64         `json:"size"`
	MediaType string        `json:"mediaType"`
}

func (b *Bundle) add(name string, fields any) error {
	i := &Image{Name: name}
	var d description
	data, err := json.Marshal(fields)
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		return fmt.Errorf("read bundle: %s: %w", i, err)
	}
	i.Ref, i.Described = d.Image, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	i.fields, _ = fields.(map[string]any)
	switch {
	case d.Image == "":
		return fmt.Errorf("read bundle: %s names no image", i)
	case d.Type != "" && d.Type != "docker" && d.Type != "oci":
		return fmt.Errorf("read bundle: %s has the type %q: only docker and oci are known", i, d.Type)
	case d.MediaType != "" && !isImage(d.MediaType):
		return fmt.Errorf("read bundle: %s has the media type %q, which no image has", i, d.MediaType)
	}
	if d.Digest != "" {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("read bundle: %s: content digest %q: %w", i, d.Digest, err)
		}
	}
	b.Images = append(b.Images, i)
	return nil
}

// isImage says whether a manifest of this type is an image, for one platform or
// several.
func isImage(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
		images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2ManifestList:
		return true
	}
	return false
}

// Name of the bundle; it may be "".
func (b *Bundle) Name() string { return b.text("name") }

func (b *Bundle) text(field string) string {
	s, _ := b.fields[field].(string)
	return s
}

// Describe writes into the bundle what is behind an image. What the bundle said
// before must be the same, unless replace.
func (i *Image) Describe(desc ocispec.Descriptor, replace bool) error {
	if !isImage(desc.MediaType) {
		return fmt.Errorf("%s: its media type is %q, which a bundle cannot hold", i, desc.MediaType)
	}
	said := i.Described
	if !replace {
		const hint = "name it by its digest, or take what is there with --auto-update-bundle"
		switch {
		case said.Digest != "" && said.Digest != desc.Digest:
			return fmt.Errorf("%s: its digest is %s now, the bundle says %s: %s", i, desc.Digest, said.Digest, hint)
		case said.Size != 0 && said.Size != desc.Size:
			return fmt.Errorf("%s: its size is %d, the bundle says %d: %s", i, desc.Size, said.Size, hint)
		case said.MediaType != "" && said.MediaType != desc.MediaType:
			return fmt.Errorf("%s: its media type is %s, the bundle says %s: %s", i, desc.MediaType, said.MediaType, hint)
		}
	}
	i.Described = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	i.fields["contentDigest"] = desc.Digest.String()
	i.fields["size"] = desc.Size
	i.fields["mediaType"] = desc.MediaType
	return nil
}

// Canonical is the bundle as canonical JSON (RFC 8785), which CNAB wants of a
// bundle that is digested.
func (b *Bundle) Canonical() ([]byte, error) { return canonical(b.fields) }

func canonical(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err == nil {
		data, err = jsoncanonicalizer.Transform(data)
	}
	if err != nil {
		return nil, fmt.Errorf("write canonical json: %w", err)
	}
	return data, nil
}
