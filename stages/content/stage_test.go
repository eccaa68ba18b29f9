// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

// run runs the stage and, if it succeeds, checks that it keeps the contract of stages.
// It also returns the warnings.
func run(t *testing.T, manifests []files.File, report images.Report, facts ...vcs.Facts) (*stagetest.Result, []string, error) {
	t.Helper()
	stage, err := Kind().New(json.RawMessage(`{"repository":"example.com/team/shop"}`))
	if err != nil {
		t.Fatal(err)
	}
	var tar bytes.Buffer
	if err := files.Write(&tar, manifests); err != nil {
		t.Fatal(err)
	}
	c := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{
		"manifests":  {MediaType: files.MediaType, Data: tar.Bytes()},
		"references": document(t, images.MediaTypeReport, report),
	}}
	for _, f := range facts {
		c.Inputs["facts/"+f.Name] = document(t, vcs.MediaType, f)
	}
	result, err := c.Run(t.Context())
	if err == nil {
		err = c.Check(t.Context())
	}
	var warnings []string
	for _, e := range result.Events {
		if e.Level == "warning" {
			warnings = append(warnings, e.Message)
		}
	}
	return result, warnings, err
}

func document(t *testing.T, mediaType string, v any) stagetest.Blob {
	t.Helper()
	b, err := stagetest.JSON(mediaType, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func object(file string, line int, apiVersion, kind, namespace, name string) images.Object {
	return images.Object{File: file, Line: line, APIVersion: apiVersion, Kind: kind, Namespace: namespace, Name: name}
}

func TestRun(t *testing.T) {
	result, warnings, err := run(t,
		[]files.File{
			{Name: "web.json", Data: []byte(`{"kind":"Service"}`)},
			{Name: "web.yaml", Data: []byte("kind: Deployment\r\n")},
			{Name: "values.yaml", Data: []byte("a: b\n")},
		},
		images.Report{
			Objects: []images.Object{object("web.json", 1, "v1", "Service", "", "web"), object("web.yaml", 1, "apps/v1", "Deployment", "", "web")},
			Skipped: []images.Skipped{{File: "values.yaml", Reason: "not a Kubernetes object"}},
		},
		vcs.Facts{Name: "b", Path: "b", Modified: vcs.No, Repositories: []vcs.Repository{{URI: "https://example.com/r", Commit: "c0ffee", CommitTime: time.Unix(86400, 0)}}},
		vcs.Facts{Name: "a", Path: "a", Modified: vcs.No, Repositories: []vcs.Repository{{URI: "https://example.com/r", Commit: "c0ffee", CommitTime: time.Unix(86400, 0)}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if warnings != nil {
		t.Errorf("warnings: %q", warnings)
	}
	data := result.Outputs["manifest"].Data
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if m.Subject != nil || len(m.Layers) != 1 || m.ArtifactType != artifact.ArtifactTypeContent {
		t.Errorf("manifest: %s", data)
	}
	if diff := cmp.Diff(result.Descriptors["layer"], m.Layers[0]); diff != "" {
		t.Errorf("layer: %s", diff)
	}
	wantAnnotations := map[string]string{
		"org.opencontainers.image.created":  "1970-01-02T00:00:00Z",
		"org.opencontainers.image.title":    "shop",
		"org.opencontainers.image.revision": "c0ffee",
		"org.opencontainers.image.source":   "https://example.com/r",
		"vnd.tape.content.interpreter":      "kubectl-apply",
	}
	if diff := cmp.Diff(wantAnnotations, m.Annotations); diff != "" {
		t.Errorf("annotations: %s", diff)
	}
	var listing artifact.Listing
	if err := result.Outputs["listing"].Decode(&listing); err != nil {
		t.Fatal(err)
	}
	want := artifact.Listing{
		{Name: "web.json.yaml", From: "web.json", Digest: digest.FromString(`{"kind":"Service"}`)},
		{Name: "web.yaml", From: "web.yaml", Digest: digest.FromString("kind: Deployment\r\n")},
	}
	if diff := cmp.Diff(want, listing); diff != "" {
		t.Errorf("listing: %s", diff)
	}
	packed, err := artifact.ContentLayer([]files.File{
		{Name: "web.yaml", Data: []byte("kind: Deployment\r\n")}, {Name: "web.json.yaml", Data: []byte(`{"kind":"Service"}`)}})
	if err != nil || packed.Desc.Digest != m.Layers[0].Digest {
		t.Errorf("layer %s, want %s (%v)", m.Layers[0].Digest, packed.Desc.Digest, err)
	}
	if data, err := engine.Get(t.Context(), result.Store, m.Config); err != nil || string(data) != "{}" {
		t.Errorf("config: %q, %v", data, err)
	}
}

func TestWarnings(t *testing.T) {
	report := images.Report{
		Objects: []images.Object{
			object("a.yaml", 1, "v1", "ConfigMap", "", "settings"),
			object("a.yaml", 9, "apps/v1", "Deployment", "x", "settings"),
			object("b.yaml", 1, "v1", "ConfigMap", "default", "settings"),
			object("b.yaml", 8, "v1", "ConfigMap", "x", "settings"),
			object("b.yaml", 15, "batch/v1", "Job", "", ""),
			object("c.yaml", 1, "apps/v1beta1", "Deployment", "x", "settings"),
			object("broken.yaml", 1, "v1", "ConfigMap", "", "settings"),
		},
		Skipped: []images.Skipped{
			{File: "b.yaml", Line: 20, Reason: "not a Kubernetes object"},
			{File: "broken.yaml", Line: 7, Reason: "does not parse", Invalid: true},
		},
	}
	_, warnings, err := run(t, []files.File{
		{Name: "a.yaml", Data: []byte("\xff\xfea\x00")}, {Name: "b.yaml"}, {Name: "c.yaml", Data: []byte("# +argocd:skip-file-rendering\n")}, {Name: "broken.yaml"},
	}, report)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a.yaml: not UTF-8; the file is stored unchanged, but not every deployer can read it",
		"c.yaml: contains +argocd:skip-file-rendering: Argo CD skips the file, other deployers do not",
		"b.yaml:20: not a Kubernetes object; kubectl and Flux reject the file because of it",
		"b.yaml:1: ConfigMap settings is already defined at a.yaml:1: Flux rejects duplicates",
		"b.yaml:15: Job has no metadata.name (generateName?): Flux rejects it",
		"c.yaml:1: Deployment settings is already defined at a.yaml:9: Flux rejects duplicates",
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
}

func TestNoObjects(t *testing.T) {
	skip := func(files ...string) (out []images.Skipped) {
		for _, f := range files {
			out = append(out, images.Skipped{File: f, Reason: "not a Kubernetes object"})
		}
		return out
	}
	for want, report := range map[string]images.Report{
		"the source has no manifests":                 {},
		"skipped: a.yaml: not a Kubernetes object":    {Skipped: skip("a.yaml")},
		"c.yaml: not a Kubernetes object; and 2 more": {Skipped: skip("a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml")},
		"a.yaml:3: does not parse":                    {Objects: []images.Object{object("a.yaml", 1, "v1", "Pod", "", "p")}, Skipped: []images.Skipped{{File: "a.yaml", Line: 3, Reason: "does not parse", Invalid: true}}},
	} {
		_, _, err := run(t, []files.File{{Name: "a.yaml"}}, report)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// A port that is wired to the wrong output is an error, not a wrong artifact.
func TestWrongInput(t *testing.T) {
	stage, err := New(Config{Repository: "example.com/team/shop"})
	if err != nil {
		t.Fatal(err)
	}
	var tar bytes.Buffer
	if err := files.Write(&tar, nil); err != nil {
		t.Fatal(err)
	}
	blob := stagetest.Blob{MediaType: files.MediaType, Data: tar.Bytes()}
	c := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{"manifests": blob, "references": blob}}
	if _, err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), files.MediaType) {
		t.Errorf("error %v", err)
	}
}
