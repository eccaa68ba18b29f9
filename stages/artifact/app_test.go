// SPDX-License-Identifier: Apache-2.0

package artifact_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/attest"
	"github.com/taped-dev/tape/stages/content"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/index"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/vcs"
)

// registries are the two kinds that everything is tested with.
func registries() map[string]func() http.Handler {
	return map[string]func() http.Handler{
		"without referrers API": func() http.Handler { return registrytest.Distribution("") },
		"with referrers API":    registrytest.GGCR,
	}
}

// app is an application in a registry, made by the stages.
type app struct {
	repo     *registry.Repository
	files    []files.File // of the content
	manifest ocispec.Descriptor
	root     ocispec.Descriptor
	image    ocispec.Descriptor
	upstream string
}

const tag = "v1.0.0"

// newApp packages two files, one JSON, with one image of two platforms that has
// provenance and an SBOM inline, a signature by tag and an SBOM by referrer.
func newApp(t *testing.T, host string) *app {
	t.Helper()
	ctx := t.Context()
	upstream := registrytest.Serve(t, &registrytest.Upstream{})
	client, err := registry.New(registry.Options{Credentials: anonymous})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{upstream: upstream}
	if a.repo, err = client.Repository(host + "/team/shop"); err != nil {
		t.Fatal(err)
	}
	name := upstream + "/library/nginx:1"
	source, err := client.Repository(upstream + "/library/nginx")
	if err != nil {
		t.Fatal(err)
	}
	if a.image, err = source.Resolve(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	image := images.Image{Source: name, Name: name, Digest: a.image.Digest, MediaType: a.image.MediaType, Size: a.image.Size}

	// mirror
	copyTag(t, name, a.repo.Name()+":"+artifact.TagIn(a.repo.Name(), image))
	sigTag := "sha256-" + a.image.Digest.Encoded() + ".sig"
	copyTag(t, upstream+"/library/nginx:"+sigTag, a.repo.Name()+":"+sigTag)
	sig, err := source.Resolve(ctx, sigTag)
	if err != nil {
		t.Fatal(err)
	}
	image.Related = append(image.Related, images.Related{Kind: images.Signature, Via: images.Tag, Tag: sigTag, Digest: sig.Digest, To: a.image.Digest, MediaType: sig.MediaType, Size: sig.Size})
	referrers, err := source.Referrers(ctx, a.image.Digest)
	if err != nil || len(referrers) != 1 {
		t.Fatalf("%v, %v", referrers, err)
	}
	for _, r := range referrers {
		copyTag(t, upstream+"/library/nginx@"+r.Digest.String(), a.repo.Name()+"@"+r.Digest.String())
		image.Related = append(image.Related, images.Related{Kind: images.SBOM, Via: images.Referrer, Digest: r.Digest, To: a.image.Digest, MediaType: r.MediaType, Size: r.Size, ArtifactType: r.ArtifactType})
	}

	// pin
	ref := artifact.ImageRef(a.repo.Name(), image)
	before, after := []byte("image: "+name+" # pinned\n"), []byte("image: "+ref+" # pinned\n")
	edits := images.Edits{Files: []images.FileEdits{{
		File: "web/deployment.yaml", Before: digest.FromBytes(before), After: digest.FromBytes(after),
		Edits: []images.Edit{{File: "web/deployment.yaml", Line: 1, Column: 8, Offset: 7, Original: name, Resolved: name + "@" + string(a.image.Digest), Replaced: ref, Digest: a.image.Digest}},
	}}}
	service := []byte(`{"kind":"Service"}`)
	a.files = []files.File{{Name: "service.json.yaml", Data: service}, {Name: "web/deployment.yaml", Data: after}}

	facts := vcs.Facts{Name: "shop", Path: "deploy", Modified: vcs.No,
		Repositories: []vcs.Repository{{Dir: ".", URI: "https://example.com/shop", Commit: strings.Repeat("c", 40), CommitTime: time.Unix(1700000000, 0), Modified: vcs.No, Tags: []vcs.GitTag{{Name: tag}}}},
		Files:        []vcs.File{{Path: "deploy/service.json", Digest: digest.FromBytes(service), Modified: vcs.No}, {Path: "deploy/web/deployment.yaml", Digest: digest.FromBytes(before), Modified: vcs.No}},
	}
	rendered := rendering.Rendering{Source: "shop", Interpreter: rendering.Interpreted{Name: "plain", Version: "1"},
		Files: []rendering.File{{Path: "service.json", Digest: digest.FromBytes(service)}, {Path: "web/deployment.yaml", Digest: digest.FromBytes(before)}}}
	report := images.Report{Objects: []images.Object{
		{File: "service.json", Line: 1, APIVersion: "v1", Kind: "Service", Name: "web"},
		{File: "web/deployment.yaml", Line: 1, APIVersion: "apps/v1", Kind: "Deployment", Name: "web"},
	}}
	var tar bytes.Buffer
	if err := files.Write(&tar, []files.File{{Name: "service.json", Data: service}, {Name: "web/deployment.yaml", Data: after}}); err != nil {
		t.Fatal(err)
	}

	inputs := map[string]stagetest.Blob{
		"manifests":       {MediaType: files.MediaType, Data: tar.Bytes()},
		"references":      document(t, images.MediaTypeReport, report),
		"facts/shop":      document(t, vcs.MediaType, facts),
		"renderings/shop": document(t, rendering.MediaTypeRendering, rendered),
		"images":          document(t, images.MediaTypeList, images.List{Images: []images.Image{image}}),
		"edits":           document(t, images.MediaTypeEdits, edits),
	}
	contentStage, err := content.New(content.Config{Repository: a.repo.Name()})
	if err != nil {
		t.Fatal(err)
	}
	attestStage, err := attest.New(attest.Config{Repository: a.repo.Name(), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	indexStage, err := index.New(index.Config{Repository: a.repo.Name()})
	if err != nil {
		t.Fatal(err)
	}
	packed := run(t, contentStage, inputs)
	inputs["listing"], inputs["content"], inputs["layer"] = packed.Outputs["listing"], packed.Outputs["manifest"], packed.Outputs["layer"]
	attested := run(t, attestStage, inputs)
	inputs["attestations"] = attested.Outputs["manifest"]
	indexed := run(t, indexStage, inputs)

	// push
	a.manifest, a.root = packed.Descriptors["manifest"], indexed.Descriptors["root"]
	push(t, packed, a.repo, packed.Descriptors["manifest"], artifact.ContentTag(tag))
	push(t, attested, a.repo, attested.Descriptors["manifest"], "")
	push(t, indexed, a.repo, indexed.Descriptors["root"], tag)
	return a
}

func anonymous(string) (user, secret string, err error) { return "", "", nil }

func copyTag(t *testing.T, src, dst string) {
	t.Helper()
	if err := crane.Copy(src, dst, crane.Insecure); err != nil {
		t.Fatal(err)
	}
}

func document(t *testing.T, mediaType string, v any) stagetest.Blob {
	t.Helper()
	b, err := stagetest.JSON(mediaType, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t *testing.T, stage engine.Stage, inputs map[string]stagetest.Blob) *stagetest.Result {
	t.Helper()
	result, err := stagetest.Case{Stage: stage, Inputs: inputs}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Events) > 0 {
		t.Errorf("events: %v", result.Events)
	}
	return result
}

// push pushes a manifest with the blobs that it refers to.
func push(t *testing.T, from *stagetest.Result, to *registry.Repository, desc ocispec.Descriptor, tag string) {
	t.Helper()
	ctx := t.Context()
	data, err := engine.Get(ctx, from.Store, desc)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, blob := range append(slices.Clone(m.Layers), m.Config) {
		if blob.Digest == "" {
			continue // of an index
		}
		pushBlob(ctx, t, from, to, blob)
	}
	if err := to.PushManifest(ctx, desc, data, tag); err != nil {
		t.Fatal(err)
	}
}

func pushBlob(ctx context.Context, t *testing.T, from *stagetest.Result, to *registry.Repository, desc ocispec.Descriptor) {
	t.Helper()
	_, err := to.PushBlob(ctx, desc, func() (io.ReadCloser, error) {
		data, err := engine.Get(ctx, from.Store, desc)
		return io.NopCloser(bytes.NewReader(data)), err
	})
	if err != nil {
		t.Fatal(err)
	}
}
