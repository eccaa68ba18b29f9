// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Engine has applications packaged by other processes, which carry out the plan with a
// [Runner] each.
type Engine interface {
	// Package has every application of a job packaged. It calls ended with the outcome of
	// each, one call at a time, and returns when it has called it for all of them (or, of
	// a job that fails fast, for those that were begun), or with the error that kept it
	// from that. Where ctx ends, the job may go on.
	Package(ctx context.Context, job Job, ended func(Outcome)) error
}

// Job is what an engine is to do. It names secrets nowhere: whoever does it has them.
type Job struct {
	// Fleet identifies the fleet, the same in every clone of its repository.
	Fleet digest.Digest `json:"fleet"`
	// Version of tape that made the plan. Only the same version carries it out.
	Version string        `json:"version"`
	Plan    digest.Digest `json:"plan"`
	// Names are the applications to package, in order.
	Names []string `json:"names"`
	// Limits are requests a second, by host, for all processes of the job together.
	Limits   map[string]float64 `json:"limits,omitempty"`
	Again    bool               `json:"again,omitempty"`
	Force    bool               `json:"force,omitempty"`
	FailFast bool               `json:"failFast,omitempty"`
}

// Run is how far an engine is with a job.
type Run struct {
	// State is "none", "running", "completed", "canceled", "failed" or what else the engine
	// has a word for.
	State string `json:"state"`
	// Workers are the processes that wait for work.
	Workers []string `json:"workers"`
	// Running are the applications that a process works on.
	Running []Running `json:"running"`
}

// Running is an application that a process works on.
type Running struct {
	Name string `json:"name"`
	// Worker is the process.
	Worker string `json:"worker"`
	// Attempt counts from 1.
	Attempt int `json:"attempt"`
	// Doing is what it does.
	Doing string `json:"doing,omitempty"`
}

// Identify returns what [Job.Fleet] is for a fleet.
func Identify(ctx context.Context, o Options) (digest.Digest, error) {
	here, err := o.checkout(ctx)
	return digest.FromString(here.identity), err
}

// elsewhere has the runner's engine do what there is to do.
func (r *Runner) elsewhere(ctx context.Context, mine []*Planned) (*Report, error) {
	job := Job{
		Fleet: digest.FromString(r.here.identity), Version: r.plan.Version, Plan: r.digest, Limits: map[string]float64{},
		Again: r.Again, Force: r.Force, FailFast: r.FailFast,
	}
	for host, limit := range r.File.Budget(nil) {
		job.Limits[host] = float64(limit)
	}
	outcomes := make([]Outcome, len(mine))
	at := map[string]int{}
	for i, p := range mine {
		outcomes[i], at[p.Name] = p.waiting(), i
		job.Names = append(job.Names, p.Name)
	}
	if len(mine) == 0 {
		return r.report(nil), nil
	}
	err := r.Engine.Package(ctx, job, func(o Outcome) {
		i, ok := at[o.Name]
		if !ok || outcomes[i].State != Waiting {
			return // of another run of the plan
		}
		o.Path, o.Reason = outcomes[i].Path, outcomes[i].Reason
		outcomes[i] = o
		r.tell(&o)
	})
	return r.report(outcomes), err
}
