// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/stages/app"
)

// Record is the result of an application. It is kept under its key for later runs.
type Record struct {
	Key        digest.Digest       `json:"key"`
	Name       string              `json:"name"`
	Repository string              `json:"repository"`
	Digest     digest.Digest       `json:"digest"` // of the root
	Root       string              `json:"root"`   // REPO:TAG@DIGEST
	Tags       []string            `json:"tags"`
	MovedTags  []transfer.MovedTag `json:"moved_tags"`
	Images     int                 `json:"images"`
	Warnings   []string            `json:"warnings"`
	Moved      transfer.Moved      `json:"moved"`
	Seconds    float64             `json:"seconds"`
	// Commit that was checked out.
	Commit string `json:"commit,omitempty"`
}

func (Record) key(of digest.Digest) digest.Digest { return keyOf("record", of.String()) }

// Failure is why an application was not packaged.
type Failure struct {
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	// Final means that another try would fail as well.
	Final bool `json:"final,omitempty"`
}

var position = regexp.MustCompile(`(?m)(?:^|[ (])([^\s:()]+\.[A-Za-z0-9]+):([1-9][0-9]*)(?::[0-9]+)?[:),]`)

// failureOf returns an error as data.
func failureOf(err error) *Failure {
	f := &Failure{Message: err.Error(), Final: true}
	if failed, ok := errors.AsType[*engine.StageError](err); ok {
		switch node, _, _ := strings.Cut(failed.Node, "/"); node {
		case "source", "render", "scan", "pin", "content":
		default:
			f.Final = false // a registry may have another answer
		}
	}
	if _, missing := errors.AsType[*host.NotFoundError](err); missing {
		f.Final = false // another machine may have the interpreter
	}
	if at, ok := errors.AsType[*document.Error](err); ok && at.File != "" {
		f.File, f.Line = at.File, at.Line
		return f
	}
	if usage, ok := errors.AsType[*app.UsageError](err); ok {
		f.Message = usage.Error()
	}
	if m := position.FindStringSubmatch(f.Message + " "); m != nil {
		f.File = m[1]
		f.Line, _ = strconv.Atoi(m[2])
	}
	return f
}

// failureKey returns the key of a failure: it is of the plan, and the name of the application.
func failureKey(plan digest.Digest, name string) digest.Digest {
	return keyOf("failure", plan.String(), name)
}

// signingKey returns the key of a mark: unchanged applications of the plan are packaged again,
// to sign them.
func signingKey(plan digest.Digest) digest.Digest { return keyOf("signing", plan.String()) }

// isSigning reports whether a plan has the mark.
func isSigning(ctx context.Context, k keepers, plan digest.Digest) bool {
	return get(ctx, k, signingKey(plan), new(bool))
}

// waiting returns the outcomes before anything was done.
func waiting(list []*Planned) []Outcome {
	out := make([]Outcome, len(list))
	for i, p := range list {
		out[i] = p.waiting()
	}
	return out
}

// waiting returns the outcome before anything was done.
func (p *Planned) waiting() Outcome {
	return Outcome{Name: p.Name, Path: p.Path, State: Waiting, Reason: p.Reason, Tags: []string{}, Warnings: []string{}}
}

// recorded returns the recorded outcomes of applications of a plan.
func recorded(ctx context.Context, k keepers, plan digest.Digest, list []*Planned) ([]Outcome, error) {
	signing := isSigning(ctx, k, plan)
	outcomes := make([]Outcome, len(list))
	err := atonce.Each(ctx, atonce.Tasks, list, func(ctx context.Context, i int, p *Planned) error {
		outcomes[i] = p.outcome(ctx, k, plan)
		if signing && p.State == Unchanged {
			if again := p.toSign().outcome(ctx, k, plan); again.State != Waiting {
				outcomes[i] = again
			}
		}
		return context.Cause(ctx)
	})
	return outcomes, err
}

// outcome returns the recorded outcome of an application of a plan.
func (p *Planned) outcome(ctx context.Context, k keepers, plan digest.Digest) Outcome {
	o := p.waiting()
	var failure Failure
	switch p.State {
	case Skipped:
		o.State = OutcomeSkipped
	case Unchanged:
		o.take(p.Record, OutcomeUnchanged)
	default:
		if record := p.done(ctx, k, plan); record != nil {
			o.take(record, Done)
		} else if get(ctx, k, failureKey(plan, p.Name), &failure) {
			o.State, o.Error = Failed, &failure
		}
	}
	return o
}

// done returns the record that a plan waits for; nil if there is none.
func (p *Planned) done(ctx context.Context, k keepers, plan digest.Digest) *Record {
	var r Record
	if get(ctx, k.constant(), p.doneKey(plan), &r) && r.Name == p.Name && p.Survey != nil && r.Repository == p.Survey.Repository {
		return &r
	}
	return nil
}

// doneKey returns the key of the record that a plan waits for.
func (p *Planned) doneKey(plan digest.Digest) digest.Digest {
	if p.Key == "" || p.Again {
		return keyOf("done", plan.String(), p.Name)
	}
	return Record{}.key(p.Key)
}
