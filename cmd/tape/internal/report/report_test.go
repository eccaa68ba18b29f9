// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/stages/app/fleet"
)

// sample is a report of so many applications, of which every ninth failed.
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

// TestFormats reads what is written as its readers do; what a failure says is text there.
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

// TestJobs decodes what is written for CI.
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
	var manifest struct {
		Kind string
		Spec struct {
			Completions    int
			CompletionMode string `yaml:"completionMode"`
		}
	}
	if err := yaml.Unmarshal(job.Bytes(), &manifest); err != nil || manifest.Kind != "Job" || manifest.Spec.Completions != 3 || manifest.Spec.CompletionMode != "Indexed" {
		t.Errorf("%+v, %v", manifest, err)
	}
}
