// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry"
)

func TestChildren(t *testing.T) {
	const (
		manifest = ocispec.MediaTypeImageManifest
		index    = ocispec.MediaTypeImageIndex
		artifact = "application/vnd.oci.artifact.manifest.v1+json"
		unknown  = "application/vnd.example.thing.v1+json"
	)
	entry := func(mediaType, name string, size int64) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest.FromString(name), size)
	}
	layer := entry(ocispec.MediaTypeImageLayer, "layer", 5)
	many := strings.TrimSuffix(strings.Repeat(layer+",", 1<<14+1), ",")
	for name, tt := range map[string]struct {
		mediaType, data string
		parts, listed   int
		err             string
	}{
		"image":                 {manifest, `{"config":` + entry(ocispec.MediaTypeImageConfig, "config", 6) + `,"layers":[` + layer + `]}`, 2, 0, ""},
		"index":                 {index, `{"manifests":[` + entry(manifest, "m", 9) + `,` + entry("text/plain", "blob", 4) + `]}`, 0, 2, ""},
		"artifact manifest":     {artifact, `{"blobs":[` + layer + `]}`, 1, 0, ""},
		"unknown":               {unknown, `{"x":1,"layers":[` + layer + `]}`, 1, 0, ""},
		"unknown, odd":          {unknown, `{"layers":{"a":1},"config":7,"manifests":"x"}`, 0, 0, ""},
		"unknown, odd layer":    {unknown, `{"layers":[{"name":"x"},` + layer + `]}`, 1, 0, ""},
		"a layer of its type":   {manifest, `{"layers":[` + entry(manifest, "m", 9) + `]}`, 1, 0, ""},
		"twice":                 {manifest, `{"layers":[` + layer + `,` + layer + `]}`, 2, 0, ""},
		"two sizes":             {manifest, `{"layers":[` + layer + `,` + entry(ocispec.MediaTypeImageLayer, "layer", 6) + `]}`, 0, 0, "with 5 and with 6 bytes"},
		"negative layer":        {manifest, `{"layers":[` + entry(ocispec.MediaTypeImageLayer, "layer", -5) + `]}`, 0, 0, "has size -5"},
		"negative config":       {manifest, `{"config":` + entry(ocispec.MediaTypeImageConfig, "config", -1) + `}`, 0, 0, "has size -1"},
		"negative child":        {index, `{"manifests":[` + entry(manifest, "m", -1) + `]}`, 0, 0, "has size -1"},
		"negative blob":         {artifact, `{"blobs":[` + entry("text/plain", "x", -1) + `]}`, 0, 0, "has size -1"},
		"no size":               {manifest, `{"layers":[{"digest":"` + digest.FromString("x").String() + `"}]}`, 0, 0, "has size 0, but the digest is not that of empty content"},
		"empty config":          {manifest, `{"config":{}}`, 0, 0, `digest ""`},
		"no config":             {manifest, `{"config":null,"layers":null}`, 0, 0, ""},
		"size of another type":  {manifest, `{"layers":[{"size":"5"}]}`, 0, 0, "read manifest"},
		"a size with a point":   {manifest, `{"layers":[{"size":1.5}]}`, 0, 0, "read manifest"},
		"a size beyond numbers": {manifest, `{"layers":[{"size":99999999999999999999}]}`, 0, 0, "read manifest"},
		"empty subject":         {manifest, `{"subject":{}}`, 0, 0, "the digest of its subject"},
		"odd subject":           {manifest, `{"subject":{"digest":"sha256:../x","size":1}}`, 0, 0, "the digest of its subject"},
		"too many":              {manifest, `{"layers":[` + many + `]}`, 0, 0, "more than the"},
		"not an object":         {manifest, `[]`, 0, 0, "read manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte(tt.data)
			desc := ocispec.Descriptor{MediaType: tt.mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
			parts, listed, err := registry.Children(desc, data)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), desc.Digest.String()) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || len(parts) != tt.parts || len(listed) != tt.listed {
				t.Errorf("got %v, %v, %v", parts, listed, err)
			}
			for _, part := range parts {
				if descriptor.IsManifest(part.MediaType) {
					t.Errorf("a part is looked for among the manifests: %v", part)
				}
			}
		})
	}
}
