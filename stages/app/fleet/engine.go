// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"

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
	return digest.FromString(here.identity), err
}

// elsewhere lets the runner's engine do the work.
func (r *Runner) elsewhere(ctx context.Context, mine []*Planned) (*Report, error) {
	job := Job{
		Fleet: digest.FromString(r.here.identity), Version: r.plan.Version, Plan: r.digest, Limits: map[string]float64{},
		Again: r.Again, Force: r.Force, FailFast: r.FailFast,
	}
	for host, limit := range r.File.Budget(nil) {
		job.Limits[host] = float64(limit)
	}
	outcomes, at := waiting(mine), map[string]int{}
	for i, p := range mine {
		at[p.Name] = i
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
