// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

const repository = "registry.example.com/team/shop"

func hex(c string) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(c, 64)) }

func application() images.List {
	return images.List{Images: []images.Image{
		{
			Source: "nginx:1", Name: "docker.io/library/nginx:1", Digest: hex("b"),
			MediaType: "application/vnd.docker.distribution.manifest.list.v2+json", Size: 2,
			Related: []images.Related{
				{Kind: images.SBOM, Via: images.Inline, Digest: hex("1"), To: hex("b")},
				{Kind: images.Signature, Via: images.Referrer, Digest: hex("3"), To: hex("b"), MediaType: ocispec.MediaTypeImageManifest, Size: 3},
				{Kind: images.Signature, Via: images.Tag, Digest: hex("3"), To: hex("b"), MediaType: ocispec.MediaTypeImageManifest, Size: 3, Tag: "sha256-b.sig"},
				{Kind: images.Attestation, Via: images.Referrer, Digest: hex("2"), To: hex("c"), MediaType: ocispec.MediaTypeImageManifest, Size: 4, ArtifactType: "application/vnd.in-toto+json"},
				{Kind: images.SBOM, Via: images.Referrer, Digest: hex("2"), To: hex("c"), MediaType: ocispec.MediaTypeImageManifest, Size: 4, ArtifactType: "application/vnd.in-toto+json"},
			},
		},
		{Source: "nginx:1.25", Name: "docker.io/library/nginx:1.25", Digest: hex("b"), MediaType: "application/vnd.docker.distribution.manifest.list.v2+json", Size: 2},
		{Source: "a/b", Name: "docker.io/a/b:latest", Digest: hex("d"), MediaType: ocispec.MediaTypeImageManifest, Size: 5},
	}}
}

func run(t *testing.T, config string, list images.List, facts ...vcs.Facts) ([]byte, []string, error) {
	t.Helper()
	stage, err := Kind().New(json.RawMessage(config))
	if err != nil {
		return nil, nil, err
	}
	c := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{
		"content":      {MediaType: ocispec.MediaTypeImageManifest, Data: []byte("content")},
		"attestations": {MediaType: ocispec.MediaTypeImageManifest, Data: []byte("statements")},
		"layer":        {MediaType: ocispec.MediaTypeImageLayerGzip, Data: []byte("layer")},
	}}
	put := func(name, mediaType string, v any) {
		b, err := stagetest.JSON(mediaType, v)
		if err != nil {
			t.Fatal(err)
		}
		c.Inputs[name] = b
	}
	put("images", images.MediaTypeList, list)
	for _, f := range facts {
		put("facts/"+f.Name, vcs.MediaType, f)
	}
	result, err := c.Run(t.Context())
	if err != nil {
		return nil, nil, err
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	var tags []string
	if err := result.Outputs["tags"].Decode(&tags); err != nil {
		t.Fatal(err)
	}
	return result.Outputs["root"].Data, tags, nil
}

const plain = `{"repository":"` + repository + `"}`

func TestRoot(t *testing.T) {
	got, tags, err := run(t, plain, application())
	if err != nil {
		t.Fatal(err)
	}
	content := digest.FromString("content").String()
	unknown := `"platform":{"architecture":"unknown","os":"unknown"}`
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"application/vnd.tape.app.v1","manifests":[` + strings.Join([]string{
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + content + `","size":7,"annotations":{"vnd.tape.role":"content"},"artifactType":"application/vnd.tape.content.v1"}`,
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest.FromString("statements").String() + `","size":10,"annotations":{"vnd.docker.reference.digest":"` + content + `","vnd.docker.reference.type":"attestation-manifest","vnd.tape.role":"attestations"},` + unknown + `,"artifactType":"application/vnd.docker.attestation.manifest.v1+json"}`,
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + string(hex("d")) + `","size":5,"annotations":{"vnd.tape.image.source":"docker.io/a/b:latest","vnd.tape.image.tag":"b.latest.dddddddd","vnd.tape.role":"image"}}`,
		`{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","digest":"` + string(hex("b")) + `","size":2,"annotations":{"vnd.tape.image.source":"docker.io/library/nginx:1,docker.io/library/nginx:1.25","vnd.tape.image.tag":"nginx.1.25.bbbbbbbb,nginx.1.bbbbbbbb","vnd.tape.role":"image"}}`,
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + string(hex("3")) + `","size":3,"annotations":{"vnd.tape.related.tag":"sha256-b.sig","vnd.tape.related.to":"` + string(hex("b")) + `","vnd.tape.role":"related"},` + unknown + `}`,
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + string(hex("2")) + `","size":4,"annotations":{"vnd.tape.related.to":"` + string(hex("c")) + `","vnd.tape.role":"related"},` + unknown + `,"artifactType":"application/vnd.in-toto+json"}`,
	}, ",") + `],"annotations":{"org.opencontainers.image.created":"1970-01-01T00:00:00Z","org.opencontainers.image.title":"shop","vnd.tape.format":"1"}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"config.dac1d7cfa950"}, tags); diff != "" {
		t.Error(diff)
	}

	reversed := application()
	slices.Reverse(reversed.Images)
	for _, image := range reversed.Images {
		slices.Reverse(image.Related)
	}
	again, _, err := run(t, `{"repository":"`+repository+`","tags":["other"]}`, reversed)
	if err != nil || string(again) != string(got) {
		t.Errorf("the order of images or a tag matters: %v\n%s", err, again)
	}
}

func TestTags(t *testing.T) {
	clean := vcs.Facts{Name: "a", Path: ".", Modified: vcs.No, Repositories: []vcs.Repository{{Commit: "c", Tags: []vcs.GitTag{{Name: "v1.0.0"}}}}}
	for name, c := range map[string]struct {
		config string
		facts  []vcs.Facts
		want   []string
		err    string
	}{
		"git":           {config: plain, facts: []vcs.Facts{clean}, want: []string{"v1.0.0"}},
		"given":         {config: `{"repository":"` + repository + `","tags":["z","a","z"]}`, facts: []vcs.Facts{clean}, want: []string{"z", "a"}},
		"an image's":    {config: `{"repository":"` + repository + `","tags":["nginx.1.bbbbbbbb"]}`, err: "image docker.io/library/nginx:1"},
		"a signature's": {config: `{"repository":"` + repository + `","tags":["sha256-b.sig"]}`, err: "signature of docker.io/library/nginx:1"},
		"the content's": {config: `{"repository":"` + repository + `","tags":["a","manifests.a"]}`, err: "is reserved for contents"},
		"none":          {config: `{"repository":"` + repository + `","tags":["a b"]}`, err: `tag "a b"`},
		"no repository": {config: `{"repository":"Shop"}`, err: "Shop"},
	} {
		_, got, err := run(t, c.config, application(), c.facts...)
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) || c.err == "" && err != nil {
			t.Errorf("%s: error %v, want %q", name, err, c.err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTooLarge(t *testing.T) {
	list := application()
	for i := range 12000 {
		list.Images[0].Related = append(list.Images[0].Related, images.Related{
			Kind: images.Other, Via: images.Referrer, To: hex("b"), MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)),
		})
	}
	_, _, err := run(t, plain, list)
	if err == nil || !strings.Contains(err.Error(), "docker.io/library/nginx:1 (12004 related manifests)") {
		t.Errorf("error %v", err)
	}
}

func TestUnresolved(t *testing.T) {
	list := application()
	list.Images[0].Digest = ""
	if _, _, err := run(t, plain, list); err == nil || !strings.Contains(err.Error(), "nginx:1 has no digest") {
		t.Errorf("error %v", err)
	}
}
