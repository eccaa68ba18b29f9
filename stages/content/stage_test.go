// SPDX-License-Identifier: Apache-2.0

package content

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/store"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

// run runs the stage and returns its outputs, the store and the warnings.
func run(t *testing.T, manifests []files.File, report images.Report, facts ...vcs.Facts) (engine.Outputs, content.Store, []string, error) {
	t.Helper()
	ctx := context.Background()
	blobs := store.NewOverlay(nil)
	put := func(desc ocispec.Descriptor, err error) ocispec.Descriptor {
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	var warnings []string
	task := &engine.Task{
		Node:  "content",
		Store: blobs,
		Log:   slog.New(slog.DiscardHandler),
		Report: func(e engine.Event) {
			if e.Level == "warning" {
				warnings = append(warnings, e.Message)
			}
		},
		Inputs: map[string]ocispec.Descriptor{
			"manifests":  put(files.Put(ctx, blobs, manifests)),
			"references": put(engine.PutJSON(ctx, blobs, images.MediaTypeReport, report)),
		},
	}
	for _, f := range facts {
		task.Inputs["facts/"+f.Name] = put(engine.PutJSON(ctx, blobs, vcs.MediaType, f))
	}
	stage, err := Kind(time.Time{}).New(json.RawMessage(`{"repository":"example.com/team/shop"}`))
	if err != nil {
		t.Fatal(err)
	}
	out, err := stage.Run(ctx, task)
	return out, blobs, warnings, err
}

func object(file string, line int, apiVersion, kind, namespace, name string) images.Object {
	return images.Object{File: file, Line: line, APIVersion: apiVersion, Kind: kind, Namespace: namespace, Name: name}
}

func TestRun(t *testing.T) {
	out, blobs, warnings, err := run(t,
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
	ctx := context.Background()
	data, err := engine.Get(ctx, blobs, out["manifest"])
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if m.Subject != nil || len(m.Layers) != 1 || m.ArtifactType != artifact.ArtifactTypeContent {
		t.Errorf("manifest: %s", data)
	}
	if diff := cmp.Diff(out["layer"], m.Layers[0]); diff != "" {
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
	if err := engine.GetJSON(ctx, blobs, out["listing"], artifact.MediaTypeListing, &listing); err != nil {
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
	if err != nil || packed.Desc.Digest != out["layer"].Digest {
		t.Errorf("layer %s, want %s (%v)", out["layer"].Digest, packed.Desc.Digest, err)
	}
	if data, err := content.ReadBlob(ctx, blobs, m.Config); err != nil || string(data) != "{}" {
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
	_, _, warnings, err := run(t, []files.File{
		{Name: "a.yaml", Data: []byte("\xff\xfea\x00")}, {Name: "b.yaml"}, {Name: "c.yaml"}, {Name: "broken.yaml"},
	}, report)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a.yaml: not UTF-8; it is stored as it is, and not every deployer reads that",
		"b.yaml:20: not a Kubernetes object; kubectl and Flux refuse that beside objects in one file",
		"b.yaml:1: ConfigMap settings is in a.yaml:1 already: Flux refuses that",
		"b.yaml:15: Job has no metadata.name (generateName?): Flux refuses that",
		"c.yaml:1: Deployment settings is in a.yaml:9 already: Flux refuses that",
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
		_, _, _, err := run(t, []files.File{{Name: "a.yaml"}}, report)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// A port that is wired to the wrong output is an error, not a wrong artifact.
func TestWrongInput(t *testing.T) {
	blobs := store.NewOverlay(nil)
	ctx := context.Background()
	tar, err := files.Put(ctx, blobs, nil)
	if err != nil {
		t.Fatal(err)
	}
	task := &engine.Task{Store: blobs, Inputs: map[string]ocispec.Descriptor{"manifests": tar, "references": tar}}
	stage, err := New(Config{Repository: "example.com/team/shop"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stage.Run(ctx, task); err == nil {
		t.Error("no error")
	}
}
