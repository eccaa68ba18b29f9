// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"testing"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/taped-dev/tape/stages/app/fleet"
)

// sample returns a report of n applications, of which every ninth failed.
func sample(n int) *fleet.Report {
	r := &fleet.Report{Plan: "sha256:fd5c67041544c0a99d6d4e6c58c1f35edcda1cddbd4b4ea10f9fd9a214b038f7", Commit: "e2f029a2eb9b40c2d3c4aa374f72a7a908c4bcbd", Version: "v1.0.0"}
	for i := range n {
		o := fleet.Outcome{
			Name: fmt.Sprintf("service-%d", i), Path: fmt.Sprintf("apps/service-%d", i), State: fleet.Done, Reason: "values.yaml changed",
			Root: fmt.Sprintf("registry.example.com/apps/service-%d:v1@%s", i, r.Plan), Seconds: float64(i%7)/3 + 0.1,
		}
		if i%9 == 0 {
			o.State, o.Root = fleet.Failed, ""
			o.Error = &fleet.Failure{Message: "scan: pod.yaml:5: <script>alert(1)</script> | `x`\nsecond line", File: "pod.yaml", Line: 5}
			r.Totals.Failed++
		} else {
			r.Totals.Done++
		}
		r.Applications = append(r.Applications, o)
	}
	r.Totals.Applications = n
	return r
}

// TestFormats parses each format. The text of a failure must not become markup in it.
func TestFormats(t *testing.T) {
	r := sample(20)
	var page, markdown, junit bytes.Buffer
	for _, err := range []error{Page(&page, r), Markdown(&markdown, r), JUnit(&junit, r)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if text := page.String(); strings.Contains(text, "<script>alert") || !strings.Contains(text, "Content-Security-Policy") {
		t.Error("the page would run what a failure says")
	}
	for line := range strings.Lines(markdown.String()) {
		if cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); strings.HasPrefix(line, "|") && cells != 5 {
			t.Errorf("%d cells: %s", cells-1, line)
		}
	}
	var suite struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Cases    []struct {
			Name    string `xml:"name,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
			} `xml:"failure"`
		} `xml:"testcase"`
	}
	if err := xml.Unmarshal(junit.Bytes(), &suite); err != nil {
		t.Fatal(err)
	}
	if suite.Tests != 20 || suite.Failures != 3 || len(suite.Cases) != 20 || suite.Cases[0].Failure.Message != "scan: pod.yaml:5: <script>alert(1)</script> | `x`" {
		t.Errorf("%+v", suite)
	}
}

// TestJobs decodes the output for CI.
func TestJobs(t *testing.T) {
	plan := &fleet.Plan{Commit: "e2f0"}
	for range 250 {
		plan.Applications = append(plan.Applications, fleet.Planned{State: fleet.ToPackage})
	}
	if n := Shards(plan); n != 3 {
		t.Errorf("%d shards for 250 applications, want 3", n)
	}
	const dgst = "sha256:fd5c67041544c0a99d6d4e6c58c1f35edcda1cddbd4b4ea10f9fd9a214b038f7"
	var github, gitlab, none, job bytes.Buffer
	for _, err := range []error{GitHub(&github, dgst, 2), GitLab(&gitlab, dgst, 3), GitLab(&none, dgst, 0), Job(&job, plan, dgst, "https://example.com/r.git", 3)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var matrix struct {
		Include []struct{ Plan, Shard string }
	}
	if err := json.Unmarshal(github.Bytes(), &matrix); err != nil || len(matrix.Include) != 2 || matrix.Include[1].Shard != "2/2" || matrix.Include[1].Plan != dgst {
		t.Errorf("%+v, %v", matrix, err)
	}
	var pipeline struct {
		Package struct {
			Parallel int
			Script   []string
		}
	}
	if err := yaml.Unmarshal(gitlab.Bytes(), &pipeline); err != nil || pipeline.Package.Parallel != 3 || pipeline.Package.Script[0] != "tape fleet package --plan "+dgst+" --shard auto" {
		t.Errorf("%+v, %v", pipeline, err)
	}
	if err := yaml.Unmarshal(none.Bytes(), &map[string]any{}); err != nil {
		t.Error(err)
	}
	three := jobOf(t, job.String())
	if got := three.Spec.Template.Spec.Containers[0].Args; !slices.Equal(got, []string{"fleet", "package", "--plan", dgst, "--shard", "auto"}) {
		t.Errorf("args %q", got)
	}

	// A plan made outside a repository has no commit that a Job could check out.
	var text bytes.Buffer
	if err := Job(&text, &fleet.Plan{}, dgst, "", 1); err == nil || !strings.Contains(err.Error(), "commit them") || text.Len() > 0 {
		t.Errorf("without a commit: %v, %q", err, text.String())
	}

	// The URL of a repository stays a value, whatever it contains.
	for _, odd := range []string{`https://example.com/"x": y.git`, "https://example.com/a\nkind: Pod #.git", "https://example.com/ü\t{}%d.git", ""} {
		var text bytes.Buffer
		if err := Job(&text, plan, dgst, odd, 20); err != nil {
			t.Fatal(err)
		}
		clone := jobOf(t, text.String()).Spec.Template.Spec.InitContainers[0]
		if want := cmp.Or(odd, "https://example.com/your/repository.git"); clone.Env[0].Value != want || clone.Env[1].Value != plan.Commit {
			t.Errorf("it clones %q at %q, want %q at %q", clone.Env[0].Value, clone.Env[1].Value, want, plan.Commit)
		}
	}
}

// jobOf decodes a Job as Kubernetes does, and checks for settings that Kubernetes rejects or
// waits for forever.
func jobOf(t *testing.T, text string) batch.Job {
	t.Helper()
	var j batch.Job
	scheme := runtime.NewScheme()
	if err := batch.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	strict := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, serializer.SerializerOptions{Yaml: true, Strict: true})
	if _, _, err := strict.Decode([]byte(text), nil, &j); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	s, pod := j.Spec, j.Spec.Template.Spec
	if j.APIVersion != "batch/v1" || j.Kind != "Job" || s.CompletionMode == nil || *s.CompletionMode != batch.IndexedCompletion {
		t.Fatalf("%s %s, completion mode %v", j.APIVersion, j.Kind, s.CompletionMode)
	}
	if problems := validation.IsDNS1123Label(j.Name); len(problems) > 0 { // pods are named after it
		t.Errorf("name %q: %v", j.Name, problems)
	}
	// backoffLimitPerIndex is of Indexed jobs whose pods never restart.
	if s.BackoffLimitPerIndex == nil || pod.RestartPolicy != core.RestartPolicyNever {
		t.Errorf("restart policy %q, a limit for each index %v", pod.RestartPolicy, s.BackoffLimitPerIndex)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range append(slices.Clone(pod.InitContainers), pod.Containers...) {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s mounts %s, which the pod does not have", c.Name, m.Name)
			}
		}
	}
	tape := pod.Containers[0]
	if s.Completions == nil || s.Parallelism == nil || *s.Completions != *s.Parallelism ||
		!slices.Contains(tape.Env, core.EnvVar{Name: "TAPE_SHARDS", Value: fmt.Sprint(*s.Completions)}) {
		t.Errorf("%v pods, %v at once, told %v", s.Completions, s.Parallelism, tape.Env)
	}
	return j
}
