// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// folderOf makes an input of files given as name, content, ….
func folderOf(t *testing.T, in ...string) stagetest.Blob {
	t.Helper()
	var all []files.File
	for i := 0; i < len(in); i += 2 {
		all = append(all, files.File{Name: in[i], Data: []byte(in[i+1])})
	}
	var b bytes.Buffer
	if err := files.Write(&b, all); err != nil {
		t.Fatal(err)
	}
	return stagetest.Blob{MediaType: files.MediaType, Data: b.Bytes()}
}

func TestRun(t *testing.T) {
	stage, err := Kind().New([]byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	c := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{
		"manifests/web": folderOf(t, "web/a.yaml", resource("v1", "Pod", "  containers: [{image: a}]\n")),
		"manifests/db":  folderOf(t, "db/b.yaml", resource("v1", "Pod", "  containers: [{image: b}]\n")),
	}}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	result, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var report images.Report
	if err := result.Outputs["references"].Decode(&report); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"pod b /spec/containers/0/image", "pod a /spec/containers/0/image"}, lines(&report)); diff != "" {
		t.Error(diff)
	}
	all, err := files.Get(t.Context(), result.Store, result.Descriptors["manifests"])
	if err != nil || len(all) != 2 || all[0].Name != "db/b.yaml" {
		t.Error(all, err)
	}
}

func TestRunPassesOneFolderOn(t *testing.T) {
	stage, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	folder := folderOf(t, "a.yaml", resource("v1", "Pod", "  containers: [{image: a}]\n"))
	result, err := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{"manifests/app": folder}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(result.Outputs["manifests"].Data, folder.Data) {
		t.Error("the folder changed")
	}
}

// The limits of a source apply to all sources together, and reading stops as soon as they are
// exceeded.
func TestRunTogether(t *testing.T) {
	inputs := map[string]stagetest.Blob{
		"manifests/a": folderOf(t, "a/1.yaml", "a: 1\n", "a/2.yaml", "a: 2\n"),
		"manifests/b": folderOf(t, "b/1.yaml", "b: 1\n", "b/2.yaml", "b: 2\n"),
		"manifests/c": folderOf(t, "c.yaml", "c: 1\n"),
	}
	for _, c := range []struct {
		limits files.Limits
		want   string
	}{
		{files.Limits{Files: 7, Bytes: 25}, "no Kubernetes object in 5 files"},
		{files.Limits{Files: 5, Bytes: 25}, "the manifests of 2 sources: there are 6 files and folders, more than 5: make several applications"},
		{files.Limits{Files: 6, Bytes: 25}, "the manifests of 3 sources: there are 7 files and folders, more than 6: make several applications"},
		{files.Limits{Files: 7, Bytes: 19}, "the manifests of 2 sources: 4 files have more than 19 bytes together: make several applications"},
		{files.Limits{Files: 7, Bytes: 24}, "the manifests of 3 sources: 5 files have more than 24 bytes together: make several applications"},
	} {
		stage, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		if stage.limits != files.DefaultLimits() {
			t.Errorf("the limits are %v", stage.limits)
		}
		stage.limits = c.limits
		_, err = stagetest.Case{Stage: stage, Inputs: inputs}.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v", c.limits, err)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	pod := resource("v1", "Pod", "  containers: [{image: a}]\n")
	for _, c := range []struct {
		name        string
		skipInvalid bool
		in          []string
		want        []string // in the error; none: it succeeds with a warning
	}{
		{"invalid", false, []string{"a.yaml", pod, "b.yaml", "x:\n  {{ y }}-z\n"}, []string{"b.yaml:2", "did not find expected key", "leave out invalid files"}},
		{"invalid, wanted so", true, []string{"a.yaml", pod, "b.yaml", "x:\n  {{ y }}-z\n"}, nil},
		{"values alone", false, []string{"values.yaml", "a: 1\n"}, []string{"no Kubernetes object in 1 file", "values.yaml: not a Kubernetes object"}},
		{"a pipeline", false, []string{"a.yaml", "a: 1\n", "tape.yaml", "apiVersion: tape/v1\nkind: Pipeline\n"}, []string{"no Kubernetes object in 2 files: tape.yaml: read by tape", "name it as such"}},
		{"nothing", false, nil, []string{"no manifests"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stage, err := New(Config{SkipInvalid: c.skipInvalid})
			if err != nil {
				t.Fatal(err)
			}
			result, err := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{"manifests/app": folderOf(t, c.in...)}}.Run(t.Context())
			if c.want == nil {
				if err != nil || len(result.Events) != 1 || result.Events[0].Level != "warning" || !strings.Contains(result.Events[0].Message, "b.yaml:2") {
					t.Fatal(err, result.Events)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %q", err, part)
				}
			}
		})
	}
}

// Helm hooks that would run later are applied with all other manifests.
func TestRunTellsOfHooks(t *testing.T) {
	job := func(name, hook string) string {
		return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: " + name + ", annotations: {\"helm.sh/hook\": \"" + hook + "\"}}\n---\n"
	}
	stage, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	folder := folderOf(t, "a.yaml", job("a", "pre-delete")+job("b", "post-delete,pre-install")+job("c", "test")+job("d", "post-upgrade")+job("e", "pre-rollback")+
		strings.ReplaceAll(job("f", "PostDelete")+job("g", "Sync,SyncFail")+job("h", "Skip"), "helm.sh", "argocd.argoproj.io"))
	result, err := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{"manifests/app": folder}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	for _, e := range result.Events {
		if e.Level == engine.Note {
			notes = append(notes, e.Message)
		}
	}
	const what = "; kubectl and Flux apply it immediately, with everything else"
	if diff := cmp.Diff([]string{
		"a.yaml:1: Job a is a Helm hook (pre-delete)" + what,
		"a.yaml:9: Job c is a Helm hook (test)" + what,
		"a.yaml:17: Job e is a Helm hook (pre-rollback)" + what,
		"a.yaml:21: Job f is an Argo CD hook (PostDelete)" + what,
		"a.yaml:29: Job h is an Argo CD hook (Skip)" + what,
	}, notes); diff != "" {
		t.Error(diff)
	}
}

// Objects that rewrite images in the cluster are a warning, because no manifest contains what
// pods then run.
func TestRunTellsOfRewriters(t *testing.T) {
	stage, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	folder := folderOf(t, "a.yaml", "apiVersion: mutations.gatekeeper.sh/v1alpha1\nkind: AssignImage\nmetadata: {name: m}\nspec: {parameters: {assignDomain: x.io, assignPath: a/b, assignTag: ':v1'}}\n")
	result, err := stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{"manifests/app": folder}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var warnings []string
	for _, e := range result.Events {
		if e.Level == engine.Warning {
			warnings = append(warnings, e.Message)
		}
	}
	if diff := cmp.Diff([]string{"a.yaml:1: AssignImage m rewrites the images of pods in the cluster; what those then run is unknown here"}, warnings); diff != "" {
		t.Error(diff)
	}
}
