// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Engine lets other processes package applications. Each of them carries out the plan with a
// [Runner].
type Engine interface {
	// Package packages every application of a job. It calls ended with the outcome of each, one
	// call at a time, and returns when that was done for all of them (or, if a job fails fast,
	// for those that were started), or with the error that prevented it. If ctx ends, the job
	// may continue.
	Package(ctx context.Context, job Job, ended func(Outcome)) error
	// Status returns the progress with a job.
	Status(ctx context.Context, job Job) (*Run, error)
	// Cancel ends the run of a plan.
	Cancel(ctx context.Context, plan digest.Digest) error
}

// Job is a request to an engine. It never contains secrets; the processes that carry it out
// have them.
type Job struct {
	// Fleet identifies the fleet. It is the same in every clone of the repository.
	Fleet digest.Digest `json:"fleet"`
	// Version is the version of tape that made the plan. Only the same version can carry it out.
	Version string        `json:"version"`
	Plan    digest.Digest `json:"plan"`
	// Names are the applications to package, in order.
	Names []string `json:"names"`
	// Unchanged counts the applications that nothing has changed in. A process that signs
	// also packages those of them that are not signed.
	Unchanged int `json:"unchanged,omitempty"`
	// Limits are the requests per second, by host, for all processes of the job together.
	Limits   map[string]float64 `json:"limits,omitempty"`
	Again    bool               `json:"again,omitempty"`
	Force    bool               `json:"force,omitempty"`
	FailFast bool               `json:"failFast,omitempty"`
}

// Run is the progress of an engine with a job.
type Run struct {
	// State is "none", "running", "completed", "canceled", "failed" or another state of the
	// engine.
	State string `json:"state"`
	// Workers are the processes that wait for work.
	Workers []string `json:"workers"`
	// Running are the applications that are being packaged.
	Running []Running `json:"running"`
}

// Running is an application that is being packaged.
type Running struct {
	Name string `json:"name"`
	// Worker is the process.
	Worker string `json:"worker"`
	// Attempt counts from 1.
	Attempt int `json:"attempt"`
	// Doing describes the current step.
	Doing string `json:"doing,omitempty"`
}

// Identify returns the value of [Job.Fleet] for a fleet.
func Identify(ctx context.Context, o Options) (digest.Digest, error) {
	here, err := o.checkout(ctx)
	return here.fleet(), err
}

// fleet identifies the fleet.
func (c checkout) fleet() digest.Digest { return digest.FromString(c.identity) }

// job returns a request to an engine that is about the plan.
func (p *Plan) job(plan digest.Digest, here checkout) Job {
	return Job{Fleet: here.fleet(), Version: p.Version, Plan: plan}
}

// elsewhere lets the runner's engine do the work.
func (r *Runner) elsewhere(ctx context.Context, mine []*Planned) (*Report, error) {
	unchanged := r.mine(Unchanged)
	if len(mine)+len(unchanged) == 0 {
		return r.report(ctx, nil), nil
	}
	job := r.plan.job(r.digest, r.here)
	job.Unchanged, job.Limits, job.Again, job.Force, job.FailFast = len(unchanged), map[string]float64{}, r.Again, r.Force, r.FailFast
	for host, limit := range r.Limits {
		job.Limits[host] = float64(limit)
	}
	outcomes := map[string]*Outcome{}
	for _, p := range mine {
		job.Names = append(job.Names, p.Name)
		o := p.waiting()
		outcomes[p.Name] = &o
	}
	for _, p := range unchanged {
		o := p.toSign().waiting()
		outcomes[p.Name] = &o
	}
	err := r.Engine.Package(ctx, job, func(o Outcome) {
		mine := outcomes[o.Name]
		if mine == nil || mine.State != Waiting {
			return // of another run of the plan
		}
		o.Path, o.Reason = mine.Path, mine.Reason
		*mine = o
		r.begin()
		r.tell(mine)
	})
	var known []Outcome
	for _, o := range outcomes {
		if o.State != Waiting || slices.Contains(job.Names, o.Name) {
			known = append(known, *o)
		}
	}
	return r.report(ctx, known), err
}
