// SPDX-License-Identifier: Apache-2.0

// Package report presents the results of a fleet: as text, Markdown, JUnit and HTML.
package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// Text writes a report for a terminal: the applications that failed or are waiting, or all of
// them, and the totals.
func Text(w io.Writer, r *fleet.Report, whole bool) error {
	width := 0
	for _, o := range r.Applications {
		width = max(width, len(o.Name))
	}
	var b strings.Builder
	for _, o := range r.Applications {
		what := o.Root
		switch {
		case o.Error != nil:
			what = strings.ReplaceAll(o.Error.Message, "\n", "\n  ")
		case !whole && o.State != fleet.Waiting:
			continue
		case what == "":
			what = o.Reason
		}
		fmt.Fprintf(&b, "%-9s  %-*s  %s\n", o.State, width, o.Name, what)
		for _, warning := range o.Warnings {
			fmt.Fprintf(&b, "warning    %-*s  %s\n", width, o.Name, warning)
		}
	}
	t := r.Totals
	fmt.Fprintf(&b, "total      %s: %s\n", count.Of(t.Applications, "application"), counts(t))
	if t.Moved.Blobs+t.Moved.Mounted+t.Moved.Existing > 0 {
		fmt.Fprintf(&b, "moved      %s, %s (%d mounted, %d already there)\n", count.Of(t.Moved.Blobs, "blob"), show.Bytes(t.Moved.Bytes), t.Moved.Mounted, t.Moved.Existing)
	}
	fmt.Fprintf(&b, "plan       %s\n", r.Plan)
	_, err := io.WriteString(w, b.String())
	return err
}

// counts returns the numbers of applications in each state.
func counts(t fleet.Totals) string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
	}{{t.Done, "done"}, {t.Unchanged, "unchanged"}, {t.Failed, "failed"}, {t.Waiting, "waiting"}, {t.Skipped, "skipped"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// Markdown writes a report for a pull request or the summary of a job: failures first, then a
// table of applications.
func Markdown(w io.Writer, r *fleet.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\n", count.Of(r.Totals.Applications, "application"), counts(r.Totals))
	for _, o := range r.Applications {
		if o.Error != nil {
			fmt.Fprintf(&b, "- **%s** failed: %s\n", cell(o.Name), cell(o.Error.Message))
		}
	}
	head := "\n| application | state | root | why |\n|---|---|---|---|\n"
	for _, o := range r.Applications {
		if o.State == fleet.OutcomeUnchanged || o.State == fleet.OutcomeSkipped {
			continue
		}
		fmt.Fprintf(&b, "%s| %s | %s | %s | %s |\n", head, cell(o.Name), o.State, code(o.Root), cell(o.Reason))
		head = ""
	}
	fmt.Fprintf(&b, "\nPlan `%s`\n", r.Plan)
	_, err := io.WriteString(w, b.String())
	return err
}

var markdown = strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`)

// cell returns a text for a table in Markdown.
func cell(text string) string { return markdown.Replace(text) }

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.NewReplacer("`", "", "|", "", "\n", " ").Replace(text) + "`"
}

// suite is a test suite of JUnit.
type suite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Cases    []testcase `xml:"testcase"`
}

type testcase struct {
	Name    string    `xml:"name,attr"`
	Class   string    `xml:"classname,attr"`
	File    string    `xml:"file,attr,omitempty"`
	Time    string    `xml:"time,attr"`
	Failure *failure  `xml:"failure"`
	Skipped *struct{} `xml:"skipped"`
	Out     string    `xml:"system-out,omitempty"`
}

type failure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes a report in the format of JUnit.
func JUnit(w io.Writer, r *fleet.Report) error {
	s := suite{Name: "tape fleet", Tests: r.Totals.Applications, Failures: r.Totals.Failed, Skipped: r.Totals.Skipped + r.Totals.Unchanged + r.Totals.Waiting}
	for _, o := range r.Applications {
		c := testcase{Name: o.Name, Class: o.Path, Time: fmt.Sprintf("%.3f", o.Seconds), Out: strings.Join(append([]string{o.Root}, o.Warnings...), "\n")}
		switch o.State {
		case fleet.Done:
		case fleet.Failed:
			first, _, _ := strings.Cut(o.Error.Message, "\n")
			c.Failure, c.File = &failure{first, o.Error.Message}, o.Error.File
		default:
			c.Skipped = &struct{}{}
		}
		s.Cases = append(s.Cases, c)
	}
	data, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, data)
	return err
}

//go:embed page.html
var pageTemplate string

// page is the data of page.html.
type page struct {
	*fleet.Report
	Counts string
	Bar    []segment
}

// segment is the number of applications in a state.
type segment struct {
	State fleet.OutcomeState
	N     int
	X     int // number of applications in segments before it
}

// order is the order of states on the page: those that need attention come first.
var order = []fleet.OutcomeState{fleet.Failed, fleet.Waiting, fleet.Done, fleet.OutcomeUnchanged, fleet.OutcomeSkipped}

// Page writes a report as one self-contained page with search and sorting.
func Page(w io.Writer, r *fleet.Report) error {
	p := page{Report: r, Counts: counts(r.Totals)}
	sorted := *r
	sorted.Applications = slices.Clone(r.Applications)
	rank := func(s fleet.OutcomeState) int { return slices.Index(order, s) }
	slices.SortStableFunc(sorted.Applications, func(a, b fleet.Outcome) int { return rank(a.State) - rank(b.State) })
	p.Report = &sorted
	x := 0
	for _, state := range order {
		n := 0
		for _, o := range r.Applications {
			if o.State == state {
				n++
			}
		}
		if n > 0 {
			p.Bar = append(p.Bar, segment{state, n, x})
			x += n
		}
	}
	t, err := template.New("page").Funcs(template.FuncMap{"bytes": show.Bytes, "count": count.Of[int], "order": rank}).Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	_, err = w.Write(show.WithPolicy(b.Bytes()))
	return err
}

// PlanMarkdown writes a plan for a pull request.
func PlanMarkdown(w io.Writer, plan *fleet.Plan, dgst digest.Digest) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n", PlanCounts(plan))
	head := "\n| application | state | why |\n|---|---|---|\n"
	for _, a := range plan.Applications {
		if a.State != fleet.ToPackage {
			continue
		}
		why := a.Reason
		if a.Failure != nil {
			why += ": " + a.Failure.Message
		}
		fmt.Fprintf(&b, "%s| %s | %s | %s |\n", head, cell(a.Name), a.State, cell(why))
		head = ""
	}
	fmt.Fprintf(&b, "\nPlan `%s`\n", dgst)
	_, err := io.WriteString(w, b.String())
	return err
}

// PlanCounts counts the applications of a plan.
func PlanCounts(plan *fleet.Plan) string {
	states := map[fleet.State]int{}
	for _, a := range plan.Applications {
		states[a.State]++
	}
	return fmt.Sprintf("%s: %d to package, %d unchanged, %d skipped; %s", count.Of(len(plan.Applications), "application"),
		states[fleet.ToPackage], states[fleet.Unchanged], states[fleet.Skipped], count.Of(len(plan.Images), "image"))
}

// perShard is the number of applications of a shard, unless the number of shards is given.
const (
	perShard   = 100
	mostShards = 20
)

// Shards returns the default number of processes for a plan, 0 if there is nothing to
// package.
func Shards(plan *fleet.Plan) int {
	n := 0
	for _, a := range plan.Applications {
		if a.State == fleet.ToPackage {
			n++
		}
	}
	return min((n+perShard-1)/perShard, mostShards)
}

// GitHub writes the matrix of a job, for fromJSON in strategy.matrix.
func GitHub(w io.Writer, dgst digest.Digest, shards int) error {
	type job struct {
		Plan  digest.Digest `json:"plan"`
		Shard string        `json:"shard"`
	}
	matrix := struct {
		Include []job `json:"include"`
	}{[]job{}}
	for i := range shards {
		matrix.Include = append(matrix.Include, job{dgst, fleet.Shard{Index: i + 1, Of: shards}.String()})
	}
	return json.NewEncoder(w).Encode(matrix)
}

//go:embed gitlab.yaml
var pipelineTemplate string

// GitLab writes a child pipeline.
func GitLab(w io.Writer, dgst digest.Digest, shards int) error {
	if shards == 0 {
		_, err := io.WriteString(w, "unchanged:\n  script: [\"true\"]\n")
		return err
	}
	var parallel, shard string
	if shards > 1 { // GitLab rejects parallel: 1
		parallel, shard = fmt.Sprintf("  parallel: %d\n", shards), " --shard auto"
	}
	_, err := fmt.Fprintf(w, pipelineTemplate, parallel, dgst, shard)
	return err
}

//go:embed job.yaml
var jobTemplate string

// Job writes a Kubernetes Job with an index for each shard, which clones the repository at the
// plan's commit. A plan of files outside a repository has no commit, which is an error.
func Job(w io.Writer, plan *fleet.Plan, dgst digest.Digest, uri string, shards int) error {
	if plan.Commit == "" {
		return &app.UsageError{Err: errors.New("the plan is of files outside a git repository, from which a Job clones: commit them and make another plan, or package them here")}
	}
	name := "tape-fleet-" + dgst.Encoded()[:12]
	if uri == "" {
		uri = "https://example.com/your/repository.git"
	}
	_, err := fmt.Fprintf(w, jobTemplate, name, max(shards, 1), strconv.Quote(uri), strconv.Quote(plan.Commit), dgst)
	return err
}
