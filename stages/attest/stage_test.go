// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/vcs"
)

const (
	repository = "registry.example.com/team/shop"
	nginx      = digest.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	before     = "image: nginx:1\n"
	after      = "image: registry.example.com/team/shop:nginx.1.aaaaaaaa@" + string(nginx) + "\n"
)

// application returns an application with two sources, a chart and plain files; a
// JSON file in it is stored under another name.
func application() known {
	edit := images.Edit{
		File: "web/deployment.json", Pointer: "/spec/image", Line: 1, Column: 8, Offset: 7,
		Original: "nginx:1", Resolved: "docker.io/library/nginx:1@" + string(nginx),
		Replaced: strings.TrimSuffix(strings.TrimPrefix(after, "image: "), "\n"), Digest: nginx,
	}
	left := images.Reference{Source: "busybox", Name: "docker.io/library/busybox:latest", Locations: []images.Location{
		{File: "web/deployment.json", Line: 3, Column: 1, Pointer: "/data", Class: images.Indirect, Value: "busybox"},
		{File: "web/values.yaml", Line: 9, Column: 1, Class: images.Indirect, Value: "busybox"},
	}}
	nowhere := images.Reference{Source: "gone", Name: "docker.io/library/gone:latest", Locations: []images.Location{{File: "web/values.yaml"}}}
	return known{
		facts: []vcs.Facts{
			{Name: "cache", Reference: "oci://example.com/charts/redis:1.0.0", Modified: vcs.Unknown},
			{
				Name: "web", Path: "apps/web", Modified: vcs.No,
				Repositories: []vcs.Repository{{
					Dir: ".", URI: "https://example.com/shop.git", Ref: "refs/heads/main", Modified: vcs.No,
					Commit: strings.Repeat("c", 40), Tree: strings.Repeat("d", 40), PathTree: strings.Repeat("e", 40),
					Tags:       []vcs.GitTag{{Name: "v1.0.0", Signed: true}},
					Remotes:    []vcs.Remote{{Name: "origin", URLs: []string{"https://example.com/shop.git"}}},
					CommitTime: time.Unix(1700000000, 0),
				}},
				Files: []vcs.File{{Path: "apps/web/deployment.json", Digest: digest.FromString(before), Repository: ".", Blob: strings.Repeat("f", 40), Modified: vcs.No}},
			},
		},
		renderings: []rendering.Rendering{
			{
				Source: "cache", Reference: "oci://example.com/charts/redis:1.0.0", Folder: "cache",
				Interpreter: rendering.Interpreted{Name: "helm", Version: "3.22.0"},
				Options:     json.RawMessage(`{"release":"redis"}`),
				Materials:   []interpreter.Material{{URI: "oci://example.com/charts/redis:1.0.0", Digest: string(digest.FromString("chart"))}},
				Files:       []rendering.File{{Path: "cache/redis.yaml", Digest: digest.FromString("redis")}},
				Checksum:    digest.FromString("binary"),
			},
			{
				Source: "web", Path: "apps/web", Folder: "web",
				Interpreter: rendering.Interpreted{Name: "plain", Version: "1"},
				Files:       []rendering.File{{Path: "web/deployment.json", Digest: digest.FromString(before)}},
				Checksum:    digest.FromString("binary"),
			},
		},
		report: images.Report{Excluded: []images.Reference{left, nowhere}},
		images: images.List{
			Images: []images.Image{
				{Source: "nginx:1", Name: "docker.io/library/nginx:1", Digest: nginx, Platform: "linux/amd64"},
			},
			Unpinned: []images.Unpinned{{Reference: left, Reason: "its registry does not have it"}, {Reference: nowhere, Reason: "its registry does not have it"}},
		},
		edits: images.Edits{Files: []images.FileEdits{
			{File: "web/deployment.json", Before: digest.FromString(before), After: digest.FromString(after), Edits: []images.Edit{edit}},
			{File: "web/values.yaml", Before: "sha256:x", After: "sha256:y", Edits: []images.Edit{edit}},
		}, Unpinned: []images.Unpinned{{Reference: images.Reference{Source: "alpine", Name: "docker.io/library/alpine:latest", Locations: []images.Location{
			{File: "cache/redis.yaml", Line: 2, Column: 9, Pointer: "/spec/image", Class: images.CRD, Value: "alpine"},
		}}, Reason: "its operator changes it"}}},
		listing: artifact.Listing{
			{Name: "cache/redis.yaml", From: "cache/redis.yaml", Digest: digest.FromString("redis")},
			{Name: "web/deployment.json.yaml", From: "web/deployment.json", Digest: digest.FromString(after)},
		},
	}
}

// run runs the stage on k and decodes the statements.
func run(t *testing.T, k known) (ocispec.Manifest, []artifact.Statement, []string) {
	t.Helper()
	stage, err := Kind().New(json.RawMessage(`{"version":"v0.1.0","repository":"` + repository + `","fields":[{"kinds":["Shop"],"paths":["/spec/image"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{
		"content": {MediaType: ocispec.MediaTypeImageManifest, Data: []byte("content")},
	}}
	put := func(name, mediaType string, v any) {
		b, err := stagetest.JSON(mediaType, v)
		if err != nil {
			t.Fatal(err)
		}
		c.Inputs[name] = b
	}
	put("references", images.MediaTypeReport, k.report)
	put("images", images.MediaTypeList, k.images)
	put("edits", images.MediaTypeEdits, k.edits)
	put("listing", artifact.MediaTypeListing, k.listing)
	for _, f := range k.facts {
		put("facts/"+f.Name, vcs.MediaType, f)
	}
	for _, r := range k.renderings {
		put("renderings/"+r.Source, rendering.MediaTypeRendering, r)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	result, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var warnings []string
	for _, e := range result.Events {
		warnings = append(warnings, e.Message)
	}
	var m ocispec.Manifest
	if err := result.Outputs["manifest"].Decode(&m); err != nil {
		t.Fatal(err)
	}
	var statements []artifact.Statement
	for _, layer := range m.Layers {
		data, err := engine.Get(t.Context(), result.Store, layer)
		if err != nil {
			t.Fatal(err)
		}
		var s artifact.Statement
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		if layer.MediaType != "application/vnd.in-toto+json" || layer.Annotations["in-toto.io/predicate-type"] != s.PredicateType {
			t.Errorf("layer %+v holds a %s", layer, s.PredicateType)
		}
		if bytes.ContainsAny(data, "\n\r") {
			t.Errorf("statement has line breaks: %s", data)
		}
		statements = append(statements, s)
	}
	return m, statements, warnings
}

var update = flag.Bool("update", false, "write testdata/statements.json")

// TestGolden compares the statements with a file, which also serves as an example.
func TestGolden(t *testing.T) {
	m, statements, warnings := run(t, application())
	if warnings != nil {
		t.Errorf("warnings: %q", warnings)
	}
	if m.Subject == nil || m.Subject.Digest != digest.FromString("content") || m.ArtifactType != artifact.ArtifactTypeAttestations {
		t.Errorf("manifest: %+v", m)
	}
	got, err := json.MarshalIndent(statements, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "statements.json")
	if *update {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Error(diff)
	}
}

// TestInToto checks that in-toto's own library accepts the statements.
func TestInToto(t *testing.T) {
	_, statements, _ := run(t, application())
	for _, s := range statements {
		data, err := engine.MarshalJSON(s)
		if err != nil {
			t.Fatal(err)
		}
		var parsed intoto.Statement
		if err := protojson.Unmarshal(data, &parsed); err != nil {
			t.Fatalf("%s: %v", s.PredicateType, err)
		}
		if err := parsed.Validate(); err != nil {
			t.Errorf("%s: %v", s.PredicateType, err)
		}
		if s.PredicateType != artifact.PredicateProvenance {
			continue
		}
		var p provenance.Provenance
		if err := protojson.Unmarshal(s.Predicate, &p); err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("provenance: %v", err)
		}
	}
}

// TestUndo checks that the statements suffice to restore the sources from the content.
func TestUndo(t *testing.T) {
	_, statements, _ := run(t, application())
	contents := map[string]string{"cache/redis.yaml": "redis", "web/deployment.json.yaml": after}
	var edits artifact.Transform
	rendered := map[string]string{}
	for _, s := range statements {
		if s.PredicateType != artifact.PredicateTransform {
			continue
		}
		var transform artifact.Transform
		if err := json.Unmarshal(s.Predicate, &transform); err != nil {
			t.Fatal(err)
		}
		switch transform.Kind {
		case artifact.TransformImageRef:
			edits = transform
		case artifact.TransformRender:
			for _, subject := range s.Subject {
				rendered[subject.Name] = subject.Digest["sha256"]
			}
		}
	}
	for _, input := range edits.Inputs {
		data := contents[input.Output]
		for _, edit := range edits.Edits {
			if edit.File == input.Output {
				data = data[:edit.Offset] + edit.Original + data[edit.Offset+len(edit.Replaced):]
			}
		}
		sum := digest.FromString(data).Encoded()
		if sum != input.Digest["sha256"] || sum != rendered[input.Name] {
			t.Errorf("%s: undone it is %s; the input is %s, what was rendered %s", input.Output, sum, input.Digest["sha256"], rendered[input.Name])
		}
	}
	if len(edits.Inputs) != len(contents) {
		t.Errorf("%d inputs", len(edits.Inputs))
	}
}

// TestLoneSource checks that the folder of a clone does not appear in the statements.
func TestLoneSource(t *testing.T) {
	named := func(name string) []artifact.Statement {
		k := application()
		k.facts, k.renderings, k.listing = k.facts[1:], k.renderings[1:], k.listing[1:]
		k.facts[0].Name, k.renderings[0].Source = name, name
		_, statements, warnings := run(t, k)
		if warnings != nil {
			t.Errorf("warnings: %q", warnings)
		}
		return statements
	}
	a, b := named("here"), named("there")
	if diff := cmp.Diff(a, b, cmpopts.IgnoreUnexported(artifact.Statement{})); diff != "" {
		t.Error(diff)
	}
	if len(a) != 4 || strings.Contains(string(a[1].Predicate), `"name":"here"`) {
		t.Errorf("%d statements: %s", len(a), a[1].Predicate)
	}
}

func TestUnexplained(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*known)
		want   []string
	}{
		"between render and pin":  {func(k *known) { k.renderings[0].Files[0].Digest = "sha256:0" }, []string{"cache/redis.yaml"}},
		"between pin and content": {func(k *known) { k.listing[1].Digest = digest.FromString("x") }, []string{"web/deployment.json"}},
		"a file of its own":       {func(k *known) { k.renderings[0].Files = nil }, []string{"cache/redis.yaml"}},
	} {
		k := application()
		c.change(&k)
		_, _, warnings := run(t, k)
		if len(warnings) != len(c.want) || !strings.HasPrefix(warnings[0], c.want[0]+": changed by a stage") {
			t.Errorf("%s: %q", name, warnings)
		}
	}
}

func TestGitURI(t *testing.T) {
	for want, r := range map[string]vcs.Repository{
		"":                                 {Ref: "refs/heads/main"},
		"git+https://example.com/a":        {URI: "https://example.com/a", Ref: "refs/heads/main"},
		"git+ssh://git@example.com/team/a": {URI: "git@example.com:team/a"},
		"git+ssh://git@example.com:22/a":   {URI: "ssh://git@example.com:22/a"},
	} {
		if got := gitURI(r); got != want {
			t.Errorf("gitURI(%+v) = %q, want %q", r, got, want)
		}
	}
}

func TestPurl(t *testing.T) {
	for want, image := range map[string]images.Image{
		"pkg:oci/nginx@sha256:" + nginx.Encoded() + "?repository_url=docker.io%2Flibrary%2Fnginx&tag=1": {Name: "docker.io/library/nginx:1", Digest: nginx},
		"pkg:oci/a@sha256:" + nginx.Encoded() + "?repository_url=localhost:5000%2Fa":                    {Name: "localhost:5000/a@" + string(nginx), Digest: nginx},
		"pkg:oci/a@sha256:" + nginx.Encoded() + "?arch=arm&repository_url=localhost:5000%2Fa&tag=1":     {Name: "localhost:5000/a:1@" + string(nginx), Digest: nginx, Platform: "linux/arm/v7"},
	} {
		if got := purl(image); got != want {
			t.Errorf("purl(%s) = %s, want %s", image.Name, got, want)
		}
	}
}
