// SPDX-License-Identifier: Apache-2.0

package cnab

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const text = `{
  "schemaVersion": "v1.0.0", "name": "shop", "version": "1.2.3", "description": "<shop>",
  "keywords": ["b", "a"], "maintainers": [{"name": "Jo", "email": "jo@example.com"}],
  "invocationImages": [{"imageType": "docker", "image": "installer:1", "x": [1, 1.50]}],
  "images": {"web": {"image": "nginx:1", "description": "front"}, "db": {"image": "db:1", "imageType": "oci"}},
  "parameters": {"port": {"definition": "port"}}, "custom": {"z": null, "é": true, "a": {}}
}`

// described returns the bundle with a descriptor for each image.
func described(t *testing.T) *Bundle {
	t.Helper()
	b, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for n, i := range b.Images {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(i.Ref), Size: int64(n + 1)}
		if err := i.Describe(desc, false); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestCanonical checks that no field is lost, and that fixing up again changes nothing.
func TestCanonical(t *testing.T) {
	data, err := described(t).Canonical()
	if err != nil {
		t.Fatal(err)
	}
	of := func(ref, size string) string {
		return `"contentDigest":"` + digest.FromString(ref).String() + `",` + size
	}
	want := `{"custom":{"a":{},"z":null,"é":true},"description":"<shop>","images":{` +
		`"db":{` + of("db:1", `"image":"db:1","imageType":"oci","mediaType":"application/vnd.oci.image.index.v1+json","size":2},`) +
		`"web":{` + of("nginx:1", `"description":"front","image":"nginx:1","mediaType":"application/vnd.oci.image.index.v1+json","size":3}},`) +
		`"invocationImages":[{` + of("installer:1", `"image":"installer:1","imageType":"docker","mediaType":"application/vnd.oci.image.index.v1+json","size":1,"x":[1,1.5]}],`) +
		`"keywords":["b","a"],"maintainers":[{"email":"jo@example.com","name":"Jo"}],"name":"shop","parameters":{"port":{"definition":"port"}},"schemaVersion":"v1.0.0","version":"1.2.3"}`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Error(diff)
	}
	again, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if twice, err := again.Canonical(); err != nil || string(twice) != string(data) {
		t.Errorf("again: %s, %v", twice, err)
	}
}

func TestParseErrors(t *testing.T) {
	for data, want := range map[string]string{
		``:                                     "EOF",
		`null`:                                 "the document is null",
		`[]`:                                   "cannot unmarshal array",
		`{} {}`:                                "data after the document",
		`{}`:                                   "0 invocation images",
		`{"InvocationImages":[{"image":"a"}]}`: "0 invocation images",
		`{"invocationImages":[{"image":"a"},{"image":"b"}]}`:                                    "2 invocation images; a bundle in a registry must have exactly one",
		`{"invocationImages":[null]}`:                                                           "invocation image has no image reference",
		`{"invocationImages":[{}]}`:                                                             "invocation image has no image reference",
		`{"invocationImages":[{"image":"a","size":"1"}]}`:                                       "cannot unmarshal string",
		`{"invocationImages":[{"image":"a","contentDigest":"x"}]}`:                              `content digest "x": invalid`,
		`{"invocationImages":[{"image":"a","mediaType":"text/plain"}]}`:                         "which is not an image",
		`{"invocationImages":[{"image":"a"}],"images":{"":{"image":"a"}}}`:                      "a component has no name",
		`{"invocationImages":[{"image":"a"}],"images":[]}`:                                      "images is not an object",
		`{"invocationImages":[{"image":"a"}],"images":{"vm":{"image":"d","imageType":"qcow"}}}`: `component vm (d) has type "qcow"; only docker and oci`,
	} {
		if _, err := Parse([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", data, err, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	now := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("now"), Size: 7}
	for field, want := range map[string]string{
		`"contentDigest":"` + digest.FromString("then").String() + `"`: "the digest is " + now.Digest.String(),
		`"size":8`: "the size is 7, but the bundle has 8",
		`"mediaType":"application/vnd.oci.image.index.v1+json"`: "the media type is application/vnd.oci.image.manifest.v1+json",
	} {
		b, err := Parse([]byte(`{"invocationImages":[{"image":"a",` + field + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Images[0].Describe(now, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", field, err, want)
		}
		if err := b.Images[0].Describe(now, true); err != nil || b.Images[0].Described.Digest != now.Digest {
			t.Errorf("%s: %v, %+v", field, err, b.Images[0].Described)
		}
		if err := b.Images[0].Describe(ocispec.Descriptor{MediaType: "text/plain"}, true); err == nil {
			t.Error("a text is an image")
		}
	}
}

// TestDocuments checks that every dialect has the same images and annotations.
func TestDocuments(t *testing.T) {
	b := described(t)
	for n, d := range Dialects() {
		docs, err := b.Documents(d)
		if err != nil {
			t.Fatal(err)
		}
		var manifest ocispec.Manifest
		if err := json.Unmarshal(docs.Manifest.Data, &manifest); err != nil {
			t.Fatal(err)
		}
		if manifest.Config.Digest != docs.Config.Desc.Digest || manifest.Config.MediaType != d.Config || manifest.MediaType != d.Manifest || manifest.Layers == nil || (len(manifest.Layers) == 1) != (n == 2) {
			t.Errorf("%+v: %s", d, docs.Manifest.Data)
		}
		var index ocispec.Index
		if err := json.Unmarshal(docs.Index.Data, &index); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{
			"io.cnab.runtime_version": "v1.0.0", "io.cnab.keywords": `["b","a"]`,
			"org.opencontainers.artifactType":      "application/vnd.cnab.manifest.v1",
			"org.opencontainers.image.title":       "shop",
			"org.opencontainers.image.version":     "1.2.3",
			"org.opencontainers.image.description": "<shop>",
			"org.opencontainers.image.authors":     `[{"email":"jo@example.com","name":"Jo"}]`,
		}, index.Annotations); diff != "" {
			t.Error(diff)
		}
		var got []string
		for _, m := range index.Manifests {
			got = append(got, m.Annotations["io.cnab.manifest.type"]+" "+m.Annotations["io.cnab.component.name"])
		}
		if diff := cmp.Diff([]string{"config ", "invocation ", "component db", "component web"}, got); diff != "" {
			t.Error(diff)
		}
		config, err := ConfigManifest(index)
		if err != nil || config.Digest != docs.Manifest.Desc.Digest || !IsIndex(docs.Index.Desc.MediaType) {
			t.Errorf("config %+v, %v", config, err)
		}
		relocation, err := b.RelocationMap(index, "example.com/x")
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		for _, ref := range []string{"installer:1", "db:1", "nginx:1"} {
			want[ref] = "example.com/x@" + digest.FromString(ref).String()
		}
		if diff := cmp.Diff(want, relocation); diff != "" {
			t.Error(diff)
		}
	}
	undescribed, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := undescribed.Documents(Dialects()[0]); err == nil || !strings.Contains(err.Error(), "has no digest") {
		t.Errorf("undescribed: %v", err)
	}
}

// TestRelocationMapErrors checks that an index that does not match its bundle is rejected.
func TestRelocationMapErrors(t *testing.T) {
	b := described(t)
	docs, err := b.Documents(Dialects()[0])
	if err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*ocispec.Index){
		"text/plain":                          func(i *ocispec.Index) { i.Manifests[1].MediaType = "text/plain" },
		`io.cnab.manifest.type "x"`:           func(i *ocispec.Index) { i.Manifests[1].Annotations[AnnotationManifestType] = "x" },
		`io.cnab.manifest.type ""`:            func(i *ocispec.Index) { i.Manifests[1].Annotations = nil },
		"a component without":                 func(i *ocispec.Index) { delete(i.Manifests[2].Annotations, AnnotationComponentName) },
		"component x that the bundle":         func(i *ocispec.Index) { i.Manifests[2].Annotations[AnnotationComponentName] = "x" },
		"does not list the component web":     func(i *ocispec.Index) { i.Manifests = i.Manifests[:3] },
		"does not list the invocation image ": func(i *ocispec.Index) { i.Manifests = append(i.Manifests[:1], i.Manifests[2:]...) },
	} {
		var index ocispec.Index
		if err := json.Unmarshal(docs.Index.Data, &index); err != nil {
			t.Fatal(err)
		}
		spoil(&index)
		if _, err := b.RelocationMap(index, "example.com/x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := ConfigManifest(ocispec.Index{}); err == nil {
		t.Error("an empty index has a bundle")
	}
}
