// SPDX-License-Identifier: Apache-2.0

// Package report shows people what came of a fleet: as text, Markdown, JUnit and a page.
package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/stages/app/fleet"
)

// Text writes a report for a terminal: the applications that failed or wait, or
// all of them, and the totals.
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
	fmt.Fprintf(&b, "total      %d applications: %s\n", t.Applications, counts(t))
	if t.Moved.Blobs+t.Moved.Mounted+t.Moved.Existing > 0 {
		fmt.Fprintf(&b, "moved      %d blobs, %s (%d mounted, %d there already)\n", t.Moved.Blobs, show.Bytes(t.Moved.Bytes), t.Moved.Mounted, t.Moved.Existing)
	}
	fmt.Fprintf(&b, "plan       %s\n", r.Plan)
	_, err := io.WriteString(w, b.String())
	return err
}

// counts are the states that there are.
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

// Markdown writes a report for a pull request or the summary of a job: failures
// first, what was packaged in a table.
func Markdown(w io.Writer, r *fleet.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %d applications: %s\n\n", r.Totals.Applications, counts(r.Totals))
	for _, o := range r.Applications {
		if o.Error != nil {
			fmt.Fprintf(&b, "- **%s** failed: %s\n", cell(o.Name), cell(o.Error.Message))
		}
	}
	b.WriteString("\n| application | state | root | why |\n|---|---|---|---|\n")
	for _, o := range r.Applications {
		if o.State == fleet.OutcomeUnchanged || o.State == fleet.OutcomeSkipped {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(o.Name), o.State, code(o.Root), cell(o.Reason))
	}
	fmt.Fprintf(&b, "\nPlan `%s`\n", r.Plan)
	_, err := io.WriteString(w, b.String())
	return err
}

var markdown = strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`)

// cell is a text in a table of Markdown.
func cell(text string) string { return markdown.Replace(text) }

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.NewReplacer("`", "", "|", "", "\n", " ").Replace(text) + "`"
}

// suite is what JUnit's readers call a run.
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

// JUnit writes a report as the readers of test results want it.
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

// Page writes a report as one page.
func Page(w io.Writer, r *fleet.Report) error { return Markdown(w, r) }
