// SPDX-License-Identifier: Apache-2.0

package descriptor_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
)

func TestObjects(t *testing.T) {
	for text, want := range map[string]int{
		``: 0, `1`: 0, `{}`: 1, `[]`: 1, `{"a":{"b":[]}}`: 3,
		`[1,null,"x"]`: 3, `["a,{[\\",",\\\"{"]`: 2, `"{[,"`: 0,
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9}`: 2,
		`{}{}`: 2, `}],`: 0, `"`: 0, `"\`: 0, `[`: 1,
	} {
		if got := descriptor.Objects([]byte(text)); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func TestUnambiguous(t *testing.T) {
	const index, manifest = ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest
	for _, test := range []struct {
		mediaType, text string
		ok              bool
	}{
		{index, `{"manifests":[]}`, true}, {manifest, `{"config":{},"layers":[]}`, true},
		{index, `{"manifests":[],"layers":[]}`, false}, {index, `{"manifests":[{}],"config":{}}`, false}, {index, `{"manifests":[{}],"layers":null}`, false},
		{manifest, `{"config":{},"layers":[{}],"manifests":[]}`, false}, {manifest, `{"config":{},"Manifests":null}`, false},
		{"application/vnd.docker.distribution.manifest.list.v2+json", `{"manifests":[{}],"layers":[{}]}`, false},
		{"application/vnd.docker.distribution.manifest.v2+json", `{"config":{},"manifests":[{}]}`, false},
		{"application/vnd.example+json", `{"config":{},"layers":[],"manifests":[]}`, true},
	} {
		if err := descriptor.Unambiguous(test.mediaType, []byte(test.text)); (err == nil) != test.ok || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s %s: %v", test.mediaType, test.text, err)
		}
	}
}

// Every encoding of many objects in few bytes is rejected before they are allocated.
func TestUnmarshalBounds(t *testing.T) {
	list := func(element string) string {
		return `{"layers":[` + strings.Repeat(element+",", 1<<20) + element + `]}`
	}
	for name, text := range map[string]string{
		"objects": list(`{}`), "numbers": list(`1`), "nulls": list(`null`), "strings": list(`""`), "lists": list(`[]`),
		"members": `{"annotations":{` + strings.Repeat(`"a":"",`, 1<<19) + `"b":""}}`,
	} {
		if err := descriptor.Unmarshal([]byte(text), new(ocispec.Manifest)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	layer := `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1,"annotations":{"a":"b"}}`
	whole := `{"layers":[` + strings.Repeat(layer+",", 16_000) + layer + `]}`
	if err := descriptor.Unmarshal([]byte(whole), new(ocispec.Manifest)); err != nil {
		t.Errorf("16,001 layers: %v", err)
	}
}
