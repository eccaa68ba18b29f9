// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/transfer"
)

// OutcomeState is the state of an application.
type OutcomeState string

// The states.
const (
	Done             OutcomeState = "done"
	OutcomeUnchanged OutcomeState = "unchanged"
	Failed           OutcomeState = "failed"
	Waiting          OutcomeState = "waiting"
	OutcomeSkipped   OutcomeState = "skipped"
)

// Outcome is the outcome of an application.
type Outcome struct {
	Name      string              `json:"name"`
	Path      string              `json:"path"`
	State     OutcomeState        `json:"state"`
	Reason    string              `json:"reason"`
	Root      string              `json:"root,omitempty"`
	Tags      []string            `json:"tags"`
	MovedTags []transfer.MovedTag `json:"moved_tags,omitempty"`
	Images    int                 `json:"images"`
	Seconds   float64             `json:"seconds"`
	Moved     transfer.Moved      `json:"moved"`
	Warnings  []string            `json:"warnings"`
	Error     *Failure            `json:"error,omitempty"`
}

// take takes over a record. The time and size of an earlier run are left out for an unchanged
// application.
func (o *Outcome) take(r *Record, state OutcomeState) {
	o.State, o.Root, o.Tags, o.Images, o.Warnings = state, r.Root, r.Tags, r.Images, r.Warnings
	if state == Done {
		o.MovedTags, o.Seconds, o.Moved = r.MovedTags, r.Seconds, r.Moved
	}
	if o.Warnings == nil {
		o.Warnings = []string{}
	}
}

// Totals are counts.
type Totals struct {
	Applications int            `json:"applications"`
	Done         int            `json:"done"`
	Unchanged    int            `json:"unchanged"`
	Failed       int            `json:"failed"`
	Waiting      int            `json:"waiting"`
	Skipped      int            `json:"skipped"`
	Images       int            `json:"images"` // distinct ones
	Warnings     int            `json:"warnings"`
	Moved        transfer.Moved `json:"moved"`
}

// Report is everything known about a plan.
type Report struct {
	Plan    digest.Digest `json:"plan"`
	Commit  string        `json:"commit,omitempty"`
	Version string        `json:"version"`
	// Shard is the part that a process did, as I/N; "" is the whole plan.
	Shard        string    `json:"shard,omitempty"`
	Applications []Outcome `json:"applications"` // sorted by name
	Totals       Totals    `json:"totals"`
	// Run is the progress of an engine with the plan, if one was asked.
	Run *Run `json:"run,omitempty"`
}

// ReportOptions are the options of MakeReport.
type ReportOptions struct {
	Options
	// Plan is the plan to report on; "" is the latest.
	Plan digest.Digest
	// Engine is asked for its progress with the plan; it may be nil.
	Engine Engine
}

// MakeReport collects the records that all processes kept of a plan.
func MakeReport(ctx context.Context, o ReportOptions) (*Report, error) {
	kept, err := o.open(ctx)
	if err == nil && o.Plan == "" {
		o.Plan, err = LatestPlan(ctx, o.Options)
	}
	if err != nil {
		return nil, err
	}
	plan, err := ReadPlan(ctx, o.Options, o.Plan)
	if err != nil {
		return nil, err
	}
	outcomes, err := recorded(ctx, kept, o.Plan, plan.all())
	if err != nil {
		return nil, err
	}
	r := newReport(plan, o.Plan, "", outcomes)
	if o.Engine != nil {
		here, err := o.checkout(ctx)
		if err != nil {
			return nil, err
		}
		r.Run, err = o.Engine.Status(ctx, plan.job(o.Plan, here))
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// report returns the report of one process.
func (r *Runner) report(ctx context.Context, mine []Outcome) *Report {
	known := map[string]bool{}
	for _, o := range mine {
		known[o.Name] = true
	}
	var rest []*Planned
	for _, p := range r.plan.all() {
		// The first shard tells of what is not packaged.
		if !known[p.Name] && p.State != ToPackage && r.Shard.Index <= 1 {
			rest = append(rest, p)
		}
	}
	others, err := recorded(ctx, r.kept, r.digest, rest)
	if err != nil { // ctx has ended, and the plan knows them
		for i, p := range rest {
			others[i] = p.outcome(ctx, r.kept, r.digest)
		}
	}
	shard := ""
	if r.Shard.Of > 0 {
		shard = r.Shard.String()
	}
	return newReport(r.plan, r.digest, shard, append(mine, others...))
}

func newReport(plan *Plan, dgst digest.Digest, shard string, all []Outcome) *Report {
	r := &Report{Plan: dgst, Commit: plan.Commit, Version: plan.Version, Shard: shard, Applications: all}
	if r.Applications == nil {
		r.Applications = []Outcome{}
	}
	slices.SortFunc(r.Applications, func(a, b Outcome) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Path, b.Path))
	})
	t := &r.Totals
	t.Applications, t.Images = len(all), len(plan.Images)
	for _, o := range all {
		switch o.State {
		case Done:
			t.Done++
		case OutcomeUnchanged:
			t.Unchanged++
		case Failed:
			t.Failed++
		case OutcomeSkipped:
			t.Skipped++
		default:
			t.Waiting++
		}
		t.Warnings += len(o.Warnings)
		t.Moved.Add(o.Moved)
	}
	return r
}
