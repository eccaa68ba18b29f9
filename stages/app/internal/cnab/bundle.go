// SPDX-License-Identifier: Apache-2.0

// Package cnab reads and writes Cloud Native Application Bundles: the document bundle.json (CNAB
// Core 1.0, https://cnab.io), and the OCI index in the form of cnab-to-oci that represents a
// bundle in a registry. It copies and pushes nothing.
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

	"github.com/taped-dev/tape/engine/advice"
)

// Bundle is a bundle.json. It keeps all fields, including those that this package does not
// know, such as parameters, credentials and custom extensions.
type Bundle struct {
	// Images are the invocation image followed by the components, sorted by name.
	Images []*Image

	fields map[string]any
}

// Image is an image of a bundle.
type Image struct {
	// Name is the name of the component, or "" for the invocation image.
	Name string
	// Ref is the reference in the bundle.
	Ref string
	// Described is what the bundle states about the image. Digest, size and media type may each
	// be missing.
	Described ocispec.Descriptor

	fields map[string]any
}

// String describes the image for messages.
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

// Parse parses a bundle. It returns an error if the bundle does not have exactly one invocation
// image, or if the type of an image is neither docker nor oci, because a registry cannot hold
// such a bundle.
func Parse(data []byte) (*Bundle, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	b := &Bundle{}
	if err := dec.Decode(&b.fields); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read bundle: unexpected data after the document")
	}
	if b.fields == nil {
		return nil, errors.New("read bundle: the document is null")
	}
	invocation, ok := b.fields["invocationImages"].([]any)
	if n := len(invocation); !ok || n != 1 {
		return nil, fmt.Errorf("read bundle: %d invocation images; a bundle in a registry must have exactly one", n)
	}
	if err := b.add("", invocation[0]); err != nil {
		return nil, err
	}
	components, ok := b.fields["images"].(map[string]any)
	if !ok && b.fields["images"] != nil {
		return nil, errors.New("read bundle: images is not an object")
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

// description holds the fields of an image in a bundle.
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
		return fmt.Errorf("read bundle: %s has no image reference", i)
	case d.Type != "" && d.Type != "docker" && d.Type != "oci":
		return fmt.Errorf("read bundle: %s has type %q; only docker and oci are supported", i, d.Type)
	case d.MediaType != "" && !isImage(d.MediaType):
		return fmt.Errorf("read bundle: %s has media type %q, which is not an image", i, d.MediaType)
	}
	if d.Digest != "" {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("read bundle: %s: content digest %q: %w", i, d.Digest, err)
		}
	}
	b.Images = append(b.Images, i)
	return nil
}

// isImage reports whether mediaType is that of an image manifest or index.
func isImage(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
		images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2ManifestList:
		return true
	}
	return false
}

func (b *Bundle) text(field string) string {
	s, _ := b.fields[field].(string)
	return s
}

// Describe sets digest, size and media type of the image in the bundle. It is an error if
// the bundle has other values for them, unless replace is set.
func (i *Image) Describe(desc ocispec.Descriptor, replace bool) error {
	if !isImage(desc.MediaType) {
		return fmt.Errorf("%s: media type %q is not supported in a bundle", i, desc.MediaType)
	}
	described := i.Described
	if !replace {
		switch {
		case described.Digest != "" && described.Digest != desc.Digest:
			return advice.Add(fmt.Errorf("%s: the digest is %s, but the bundle has %s", i, desc.Digest, described.Digest), advice.AutoUpdateBundle)
		case described.Size != 0 && described.Size != desc.Size:
			return advice.Add(fmt.Errorf("%s: the size is %d, but the bundle has %d", i, desc.Size, described.Size), advice.AutoUpdateBundle)
		case described.MediaType != "" && described.MediaType != desc.MediaType:
			return advice.Add(fmt.Errorf("%s: the media type is %s, but the bundle has %s", i, desc.MediaType, described.MediaType), advice.AutoUpdateBundle)
		}
	}
	i.Described = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	i.fields["contentDigest"] = desc.Digest.String()
	i.fields["size"] = desc.Size
	i.fields["mediaType"] = desc.MediaType
	return nil
}

// Canonical returns the bundle as canonical JSON (RFC 8785), which CNAB requires for
// computing its digest.
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
