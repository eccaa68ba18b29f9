// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/vcs"
)

// Shard is one part of a plan. The zero value is the whole plan.
type Shard struct {
	// Index counts from 1 to Of.
	Index, Of int
}

func (s Shard) takes(i int) bool { return s.Of == 0 || i%s.Of == s.Index-1 }

// PackageOptions are the options of Package.
type PackageOptions struct {
	Options
	// Plan to carry out; "" makes one.
	Plan digest.Digest
	// Shard of it.
	Shard Shard
	// FailFast stops at the first application that fails.
	FailFast bool
	// Again also packages the applications that failed under this plan, even if the failure was
	// final.
	Again bool
	// Force moves tags even if a newer commit has moved them.
	Force bool
	// Engine packages the applications in other processes; nil packages them in this one.
	Engine Engine
	// Limits are the requests per second, by host, for all processes of the engine together.
	Limits registry.Limits
}

// Package carries out a plan: it packages every application that must be packaged and has not
// been yet. An application that fails does not stop the others. The report covers what this
// process did, and what the plan knows to be unchanged; it is returned even if ctx ends.
func Package(ctx context.Context, o PackageOptions) (*Report, error) {
	r, err := NewRunner(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.run(ctx)
}

// Runner carries out a plan, one application at a time, in any order. Its methods may be called
// concurrently.
type Runner struct {
	PackageOptions
	kept   keepers
	plan   *Plan
	digest digest.Digest
	here   checkout
	owned  bool // what the applications have in common is the runner's
	given  bool // the plan may be of other files than those here

	mu       sync.Mutex
	progress Progress
}

// NewRunner reads the plan of the options, or makes one. The runner must be closed by the
// caller.
func NewRunner(ctx context.Context, o PackageOptions) (_ *Runner, err error) {
	if s := o.Shard; s.Of < 0 || s.Of > 0 && (s.Index < 1 || s.Index > s.Of) {
		return nil, &app.UsageError{Err: fmt.Errorf("shard %d/%d is out of range: the first is 1/%d", s.Index, s.Of, max(s.Of, 1))}
	}
	kept, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	owned := o.Together == nil
	if owned {
		o.Together = &app.Together{}
		defer func() {
			if err != nil {
				o.Together.Close()
			}
		}()
	}
	here, err := o.checkout(ctx)
	if err != nil {
		return nil, err
	}
	r := &Runner{PackageOptions: o, kept: kept, digest: o.Plan, here: here, owned: owned, given: o.Plan != ""}
	if !r.given {
		r.plan, r.digest, err = MakePlan(ctx, PlanOptions{Options: o.Options})
	} else if r.plan, err = ReadPlan(ctx, o.Options, o.Plan); err == nil {
		if err = r.plan.fits(o.Version, here); err == nil {
			err = r.plan.trusts(ctx, o.Trust)
		}
	}
	if err != nil {
		return nil, err
	}
	r.Known = r.plan.Images
	if s := o.File.Shared; s.Repository != "" {
		err = r.Together.Through(r.Registry, s.Repository, r.plan.sharedBy(cmp.Or(s.From, 2)))
	}
	return r, err
}

// trusts returns an error if the plan was made with another trust policy: its records were not
// judged by this one.
func (p *Plan) trusts(ctx context.Context, file string) error {
	want, err := (&app.Options{Trust: file}).TrustDigest(ctx)
	if err != nil {
		return err
	}
	for _, a := range p.Applications {
		if a.Survey != nil && a.Survey.Trust != want {
			return &app.UsageError{Err: errors.New("the plan was made with another trust file, or with none: make a plan with this one")}
		}
	}
	return nil
}

// Close releases what the applications shared.
func (r *Runner) Close() {
	if r.owned {
		r.Together.Close()
	}
}

// Plan returns the plan, and the digest that identifies it.
func (r *Runner) Plan() (*Plan, digest.Digest) { return r.plan, r.digest }

// Unsigned returns the names of the unchanged applications that the signer has not signed, in
// order; none without a signer.
func (r *Runner) Unsigned(ctx context.Context) ([]string, error) {
	names := []string{}
	for _, p := range r.unsigned(ctx) {
		names = append(names, p.Name)
	}
	return names, context.Cause(ctx)
}

// Do packages an application of the plan, unless that was done; an unchanged one, to sign it. A
// failure of the application is in the outcome; an error is ctx's cause.
func (r *Runner) Do(ctx context.Context, name string) (Outcome, error) {
	for _, p := range r.plan.all() {
		switch {
		case p.Name != name:
		case p.State == ToPackage:
			return r.one(ctx, p)
		case p.State == Unchanged:
			return r.one(ctx, p.toSign())
		}
	}
	return Outcome{}, fmt.Errorf("plan %s has no application %q to package", r.digest, name)
}

// sharedBy returns a function that reports whether at least that many of the applications to
// package need an image.
func (p *Plan) sharedBy(least int) func(digest.Digest) bool {
	users := map[digest.Digest]int{}
	for _, a := range p.Applications {
		if a.State != ToPackage || a.Survey == nil {
			continue
		}
		of := map[digest.Digest]bool{}
		for _, name := range a.Survey.References {
			if answer, ok := p.Images.Find(name, a.Survey.Platform, a.Survey.Related); ok && answer.Image != nil {
				of[answer.Image.Digest] = true
			}
		}
		for image := range of {
			users[image]++
		}
	}
	return func(image digest.Digest) bool { return users[image] >= least }
}

// fits returns an error if a plan cannot be carried out here.
func (p *Plan) fits(version string, here checkout) error {
	if p.Version != version {
		return fmt.Errorf("the plan was made by tape %s, and this is %s: make another, or run it with that version", p.Version, version)
	}
	if p.Commit != here.head.Commit {
		return fmt.Errorf("the plan is of commit %s, and %s is checked out: check out that commit, or make another plan", cmp.Or(p.Commit, "(none)"), cmp.Or(here.head.Commit, "none"))
	}
	return nil
}

var errFailFast = errors.New("an application failed")

// mine returns the applications in a state that the shard takes.
func (r *Runner) mine(state State) []*Planned {
	var out []*Planned
	n := 0
	for _, p := range r.plan.all() {
		if p.State != state {
			continue
		}
		if r.Shard.takes(n) {
			out = append(out, p)
		}
		n++
	}
	return out
}

func (r *Runner) run(ctx context.Context) (*Report, error) {
	mine := r.mine(ToPackage)
	if r.Engine == nil {
		mine = append(mine, r.unsigned(ctx)...)
	}
	r.progress = Progress{Doing: DoPackage, Of: len(mine), Began: time.Now()}
	r.tell(nil)
	if r.Engine != nil {
		return r.elsewhere(ctx, mine)
	}
	outcomes := waiting(mine)
	err := atonce.Each(ctx, cmp.Or(r.Concurrency, atonce.Applications), mine, func(running context.Context, i int, p *Planned) error {
		if running.Err() != nil {
			return context.Cause(running)
		}
		r.begin()
		o, err := r.one(running, p)
		if err != nil {
			return err
		}
		outcomes[i] = o
		r.tell(&o)
		if o.State == Failed && r.FailFast {
			return errFailFast
		}
		return nil
	})
	if errors.Is(err, errFailFast) {
		err = nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("stopped with %d of %s packaged, under plan %s: %w", r.progress.Done-r.progress.Failed, count.Of(len(mine), "application"), r.digest, cause)
	}
	return r.report(ctx, outcomes), err
}

// unsigned returns the unchanged applications of the shard that the signer has not signed. They
// are packaged again, because only what this run makes of the sources is signed: a record of an
// earlier run is a claim.
func (r *Runner) unsigned(ctx context.Context) (out []*Planned) {
	if r.Signer == nil {
		return nil
	}
	unchanged := r.mine(Unchanged)
	signed := make([]bool, len(unchanged))
	_ = atonce.Each(ctx, atonce.Tasks, unchanged, func(ctx context.Context, i int, p *Planned) error {
		record := p.Record
		var now Record // another run may have signed it since the plan
		if get(ctx, r.kept, now.key(p.Key), &now) && now.Key == p.Key && now.Repository == p.Record.Repository {
			record = &now
		}
		signed[i] = r.signed(ctx, record)
		return nil
	})
	for i, p := range unchanged {
		if !signed[i] {
			out = append(out, p.toSign())
		}
	}
	if out != nil {
		_ = put(ctx, r.kept, signingKey(r.digest), true) // without it, a report has the records of the plan
	}
	return out
}

// toSign returns an unchanged application as one to package again.
func (p *Planned) toSign() *Planned {
	again := *p
	again.State, again.Again, again.Reason = ToPackage, true, "it was packaged without a signature by this key"
	return &again
}

// signed reports whether what was packaged has the signature that it should have. If that is
// unknown, packaging it tells why.
func (r *Runner) signed(ctx context.Context, record *Record) bool {
	if r.Signer == nil {
		return true
	}
	signed, err := app.SignOptions{Environment: r.Environment, Ref: record.Root, Signer: r.Signer}.Signed(ctx)
	return signed && err == nil
}

// begin counts an application that is started.
func (r *Runner) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Running++
}

// tell reports the progress, and the application that ended, if one did.
func (r *Runner) tell(ended *Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ended != nil {
		r.progress.Done++
		r.progress.Running--
		r.progress.Of = max(r.progress.Of, r.progress.Done) // an engine may find more to do
		if ended.State == Failed {
			r.progress.Failed++
		}
	}
	r.progress.Ended = ended
	if r.Progress != nil {
		r.Progress(r.progress)
	}
}

// one packages an application, unless that was done.
func (r *Runner) one(ctx context.Context, p *Planned) (Outcome, error) {
	o := p.waiting()
	// If the plan was just made, a record of the key has already been looked for.
	if looked := !r.given && p.doneKey(r.digest) == (Record{}).key(p.Key); !looked {
		if record := p.done(ctx, r.kept, r.digest); record != nil && r.signed(ctx, record) {
			o.take(record, Done)
			return o, nil
		}
	}
	if p.Failure != nil && p.Failure.Final && !r.Again {
		o.State, o.Error = Failed, p.Failure
		return o, r.keepFailure(ctx, p, p.Failure)
	}
	began := time.Now()
	record, err := r.make(ctx, p)
	if cause := context.Cause(ctx); cause != nil {
		return o, cause
	}
	if err != nil {
		o.State, o.Error, o.Seconds = Failed, failureOf(err), since(began)
		return o, r.keepFailure(ctx, p, o.Error)
	}
	record.Seconds = since(began)
	if p.Key != "" {
		err = put(ctx, r.kept, record.key(p.Key), record)
	}
	if key := p.doneKey(r.digest); key != record.key(p.Key) {
		err = errors.Join(err, put(ctx, r.kept, key, record))
	}
	if err != nil {
		record.Warnings = append(record.Warnings, "it is packaged, but not recorded for the next run: "+err.Error())
	}
	o.take(record, Done)
	return o, context.Cause(ctx)
}

func since(began time.Time) float64 { return time.Since(began).Round(time.Millisecond).Seconds() }

func (r *Runner) keepFailure(ctx context.Context, p *Planned, f *Failure) error {
	_ = put(ctx, r.kept, failureKey(r.digest, p.Name), f) // the report of this process has it
	return context.Cause(ctx)
}

// make packages an application.
func (r *Runner) make(ctx context.Context, p *Planned) (*Record, error) {
	options := r.options(p.Application)
	if r.given {
		survey, err := app.MakeSurvey(ctx, app.SurveyOptions{PackageOptions: options})
		if err != nil {
			return nil, err
		}
		if p.Survey != nil {
			if reason := surveyChange(p.Survey, survey); reason != "" {
				return nil, fmt.Errorf("it changed since the plan: %s", reason)
			}
		}
	}
	noted, err := r.checkOrder(ctx, keyOf("head", r.here.identity, p.Name))
	if err != nil {
		return nil, err
	}
	defer noted()
	result, err := app.Package(ctx, options)
	if err != nil {
		return nil, err
	}
	return &Record{
		Key: p.Key, Name: p.Name, Repository: imageref.Split(result.Root.Ref).Name, Digest: result.Root.Digest, Root: result.Root.Ref,
		Tags: result.Tags, MovedTags: result.MovedTags, Images: len(result.Images), Warnings: result.Warnings, Moved: result.Moved, Commit: r.plan.Commit,
	}, nil
}

// moment is the commit that an application was last packaged from.
type moment struct {
	Commit string `json:"commit"`
	When   int64  `json:"when"`
}

// checkOrder refuses to go back if the tags are those of an application of a newer commit. The
// commit is recorded while the application is packaged; noted waits for that.
func (r *Runner) checkOrder(ctx context.Context, key digest.Digest) (noted func(), err error) {
	if r.plan.Commit == "" {
		return func() {}, nil
	}
	var last moment
	if get(ctx, r.kept, key, &last) && last.Commit != r.plan.Commit && !r.Force {
		older, err := r.isOlder(ctx, last)
		if err != nil {
			return nil, err
		}
		if older {
			return nil, fmt.Errorf("a newer commit was packaged already: %s, and this plan is of %s: check that one out, or force this one", last.Commit, r.plan.Commit)
		}
	}
	if last.Commit == r.plan.Commit {
		return func() {}, nil
	}
	var noting sync.WaitGroup
	noting.Go(func() {
		_ = put(ctx, r.kept, key, moment{r.plan.Commit, r.plan.When}) // after a loss, times decide
	})
	return noting.Wait, nil
}

// isOlder reports whether the plan's commit comes before another, according to the history if
// it is available, and otherwise to the commits' times.
func (r *Runner) isOlder(ctx context.Context, last moment) (bool, error) {
	after, known, err := vcs.IsAncestor(ctx, r.here.top, last.Commit, r.plan.Commit)
	if err != nil || known && after {
		return false, err
	}
	if before, known, err := vcs.IsAncestor(ctx, r.here.top, r.plan.Commit, last.Commit); err != nil || known {
		return before, err
	}
	return r.plan.When < last.When, nil
}

func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Of) }
