// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/cache/remote"
	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/vcs"
)

// PlanKind is the kind of a plan's document.
const PlanKind = "FleetPlan"

// State is the decision of a plan about an application.
type State string

// The states.
const (
	ToPackage State = "package"
	Unchanged State = "unchanged" // it was packaged as it is
	Skipped   State = "skipped"   // none of its files changed since the given revision
)

// Plan is what a run will do, in any process.
type Plan struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Version is the version of tape that made the plan, and must carry it out.
	Version string `json:"version"`
	// Commit is the checked out commit, in hex; "" outside a repository. When is its time, in
	// seconds: an older commit does not take a tag from a newer one.
	Commit string `json:"commit,omitempty"`
	When   int64  `json:"when,omitempty"`
	// Applications are sorted by name.
	Applications []Planned `json:"applications"`
	// Images are the registries' answers for all references. They are not asked again.
	Images images.Known `json:"images"`
}

// all returns the applications.
func (p *Plan) all() []*Planned {
	out := make([]*Planned, len(p.Applications))
	for i := range p.Applications {
		out[i] = &p.Applications[i]
	}
	return out
}

// Planned is an application in a plan.
type Planned struct {
	Application
	State State `json:"state"`
	// Key identifies everything that the application is made of; "" if that is unknown.
	Key    digest.Digest `json:"key"`
	Reason string        `json:"reason"`
	// Survey is nil if the application could not be surveyed.
	Survey *app.Survey `json:"survey,omitempty"`
	// Failure is why it will fail, so that it is not tried.
	Failure *Failure `json:"failure,omitempty"`
	// Again reports that it was packaged as it is, and is packaged again: its tags now lead
	// elsewhere, or it is not signed.
	Again bool `json:"again,omitempty"`
	// Record is that of an unchanged application.
	Record *Record `json:"record,omitempty"`
}

// Digest identifies the plan.
func (p *Plan) Digest() (digest.Digest, error) {
	data, err := engine.MarshalJSON(p)
	return digest.FromBytes(data), err
}

// Options are shared by everything that works on a fleet.
type Options struct {
	app.Environment
	File *File
	// Cache shares plans, records and rendering results with other machines; if nil, they are
	// only in the store of the environment.
	Cache *remote.Cache
	// Version of tape.
	Version string
	// Concurrency is how many applications are processed at once; 0 is the default.
	Concurrency int
	// Created is the creation time in the artifacts; zero means the commit's.
	Created time.Time
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// Signer signs each application; nil signs nothing.
	Signer app.Signer
	// Trust is a trust policy that the images of each application must satisfy before any is
	// copied; "" is none. A plan must be carried out with the policy that it was made with.
	Trust string
	// Progress is called for each application, one call at a time; it may be nil.
	Progress func(Progress)
	// Heard is called with each event of an application while it is packaged, one at a time; it
	// may be nil.
	Heard func(application string, e engine.Event)
}

// Doing is a phase of a run.
type Doing string

// The phases.
const (
	DoRead    Doing = "read"    // the applications
	DoResolve Doing = "resolve" // the images
	DoCompare Doing = "compare" // the applications with what is recorded of them
	DoPackage Doing = "package" // the applications that changed
)

// Progress is the progress of a run.
type Progress struct {
	Doing Doing
	// Of is the number of applications, or images, to process. Done are those that ended, Failed
	// those that ended with a failure, and Running those that were started.
	Of, Done, Failed, Running int
	// Ended is the application that has just ended, if one did.
	Ended *Outcome
	// Began is the time at which the first was started.
	Began time.Time
}

// PlanOptions are the options of MakePlan.
type PlanOptions struct {
	Options
	// Since is a revision of the repository: applications whose files did not change since then
	// are skipped.
	Since string
	// Shared reports that other machines carry out the plan: if the Cache does not accept it,
	// the error is [ErrNotShared], and the plan is valid on this machine.
	Shared bool
}

// open returns where documents are kept.
func (o *Options) open(ctx context.Context) (keepers, error) {
	kept, err := o.OpenStore(ctx)
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return nil, errors.New("a fleet needs a store for its plans and records")
	}
	if o.Cache != nil {
		return keepers{o.Cache, local{kept}}, nil
	}
	return keepers{local{kept}}, nil
}

func (o *Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// checkout is the repository of the fleet.
type checkout struct {
	top      string
	head     vcs.Commit
	identity string
}

func (o *Options) checkout(ctx context.Context) (checkout, error) {
	file, err := filepath.Abs(o.File.name)
	if err == nil {
		file, err = filepath.EvalSymlinks(file)
	}
	if err != nil {
		return checkout{}, fmt.Errorf("find the fleet's repository: %w", err)
	}
	c := checkout{identity: file}
	var ok bool
	if c.top, ok = vcs.FindTop(filepath.Dir(file)); !ok {
		return c, nil
	}
	if c.head, err = vcs.Head(ctx, c.top); err != nil {
		return c, err
	}
	// It is the same in every clone of the repository.
	if rel, err := filepath.Rel(c.top, file); err == nil && c.head.URI != "" {
		c.identity = c.head.URI + " " + filepath.ToSlash(rel)
	}
	return c, nil
}

// URI returns the URI of the repository of the fleet; "" if it is unknown.
func (o *Options) URI(ctx context.Context) string {
	here, err := o.checkout(ctx)
	if err != nil {
		return ""
	}
	return here.head.URI
}

// options returns the options of one application.
func (o *Options) options(a Application) app.PackageOptions {
	one := app.PackageOptions{
		Options: app.Options{
			Environment: o.Environment,
			Platform:    o.File.Defaults.Images.Platform,
			Related:     o.File.Defaults.Images.Related,
			Version:     o.Version, Created: o.Created, Signer: o.Signer, Cache: o.Cache, Trust: o.Trust,
		},
		Repository: a.Repository, Tags: a.Tags,
	}
	one.Environment.Events = nil
	if o.Heard != nil {
		one.Environment.Events = func(e engine.Event) { o.Heard(a.Name, e) }
	}
	at := filepath.Join(o.File.dir, filepath.FromSlash(a.Path))
	if a.Pipeline {
		one.Pipeline = at
	} else {
		one.Sources = []app.Source{{Path: at, Name: strings.TrimSuffix(path.Base(a.Path), path.Ext(a.Path))}}
	}
	return one
}

// MakePlan finds the applications of the fleet, reads each, and asks registries about each
// image once. The plan is kept, and read by [ReadPlan] with its digest.
func MakePlan(ctx context.Context, o PlanOptions) (*Plan, digest.Digest, error) {
	kept, err := o.open(ctx)
	if err != nil {
		return nil, "", err
	}
	if o.Together == nil {
		o.Together = &app.Together{}
		defer o.Together.Close()
	}
	here, err := o.checkout(ctx)
	if err != nil {
		return nil, "", err
	}
	m := planning{PlanOptions: o, kept: kept, here: here, last: map[string]*Planned{}, answers: map[question]func() (images.Answer, error){}, led: map[*Record]func() string{}}
	if err := m.begin(ctx); err != nil {
		return nil, "", err
	}
	if err := m.make(ctx); err != nil {
		return nil, "", err
	}
	dgst, err := m.keep(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("keep the plan: %w", err)
	}
	if o.Shared && o.Cache != nil && !get(ctx, o.Cache, dgst, &Plan{}) {
		return m.plan, dgst, fmt.Errorf("%w: it is read-only, down, or trusts keys and has none to sign with", ErrNotShared)
	}
	return m.plan, dgst, nil
}

// ErrNotShared means that a plan is only in the store of this machine.
var ErrNotShared = errors.New("the cache did not take the plan, so other machines cannot execute it")

// ReadPlan reads a plan that was kept.
func ReadPlan(ctx context.Context, o Options, dgst digest.Digest) (*Plan, error) {
	if err := dgst.Validate(); err != nil {
		return nil, &app.UsageError{Err: fmt.Errorf("plan %q is not a digest: %w", dgst, err)}
	}
	kept, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	return readPlan(ctx, kept, dgst)
}

func readPlan(ctx context.Context, kept keepers, dgst digest.Digest) (*Plan, error) {
	documents, err := kept.constant().Get(ctx, dgst)
	if err != nil {
		return nil, advice.Add(fmt.Errorf("plan %s is not stored here, or no longer: %w", dgst, err), advice.MakePlan)
	}
	if digest.FromBytes(documents[documentName]) != dgst {
		return nil, advice.Add(fmt.Errorf("plan %s is damaged", dgst), advice.MakePlan)
	}
	var p Plan
	if err := json.Unmarshal(documents[documentName], &p); err != nil || p.Kind != PlanKind {
		return nil, fmt.Errorf("%s is not a plan of a fleet", dgst)
	}
	return &p, nil
}

// LatestPlan returns the digest of the latest plan.
func LatestPlan(ctx context.Context, o Options) (digest.Digest, error) {
	kept, err := o.open(ctx)
	if err != nil {
		return "", err
	}
	here, err := o.checkout(ctx)
	if err != nil {
		return "", err
	}
	var l latest
	if !get(ctx, kept, latestKey(here), &l) {
		return "", advice.Add(errors.New("there is no plan of this fleet yet"), advice.MakePlan)
	}
	return l.Plan, nil
}

// planning makes a plan.
type planning struct {
	PlanOptions
	kept         keepers
	here         checkout
	applications []Application
	changed      []string // files since the given revision

	plan   *Plan
	before *Plan
	// signing reports that unchanged applications of the previous plan were packaged again.
	signing bool
	asked   asked
	last    map[string]*Planned // by name

	asking   errgroup.Group // about images
	leading  errgroup.Group // about tags, usually in other registries
	mu       sync.Mutex
	progress Progress
	answers  map[question]func() (images.Answer, error) // each asks once
	led      map[*Record]func() string                  // why the tags of a record no longer lead to it
}

// begin finds the applications, and what is known from earlier runs.
func (m *planning) begin(ctx context.Context) error {
	var (
		before  latest
		reading errgroup.Group
	)
	reading.Go(func() (err error) {
		if m.Since != "" {
			m.changed, err = changedSince(ctx, m.here, m.Since)
		}
		if err == nil {
			m.applications, err = m.File.Find(ctx)
		}
		return err
	})
	reading.Go(func() error {
		before = latestOf(ctx, m.kept, m.here)
		return nil
	})
	if err := reading.Wait(); err != nil {
		return err
	}
	m.before, m.signing, m.asked = before.plan, before.signing, before.Asked
	for _, p := range m.before.all() {
		m.last[p.Name] = p
	}
	m.plan = &Plan{
		APIVersion: pipeline.APIVersion, Kind: PlanKind, Version: m.Version, Commit: m.here.head.Commit, When: m.here.head.When,
		Applications: make([]Planned, len(m.applications)), Images: images.Known{},
	}
	return nil
}

// make reads the applications, asks registries, and decides.
func (m *planning) make(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer func() {
		stop(context.Canceled)
		_ = m.asking.Wait()
		_ = m.leading.Wait()
	}()
	m.asking.SetLimit(atonce.Tasks)
	m.leading.SetLimit(atonce.Tasks)
	if m.Since == "" {
		m.early(ctx)
	}
	if err := m.survey(ctx); err != nil {
		return err
	}
	if err := m.File.distinct(m.plan.Applications); err != nil {
		return err
	}
	if err := m.resolve(ctx); err != nil {
		return err
	}
	return m.decide(ctx)
}

// keep keeps the plan, and what the next one is compared with.
func (m *planning) keep(ctx context.Context) (digest.Digest, error) {
	data, err := engine.MarshalJSON(m.plan)
	if err != nil {
		return "", err
	}
	dgst := digest.FromBytes(data)
	var keeping errgroup.Group
	keeping.Go(func() error { return m.kept.Put(ctx, dgst, map[string][]byte{documentName: data}) })
	keeping.Go(func() error { return put(ctx, m.kept, latestKey(m.here), m.latest(dgst)) })
	return dgst, keeping.Wait()
}

// early starts to ask registries about the applications in the previous plan: most of it will
// be needed, and reading the applications takes as long.
func (m *planning) early(ctx context.Context) {
	var known []*Planned
	for _, a := range m.applications {
		if last := m.last[a.Name]; last != nil && last.Survey != nil && !last.Survey.Local {
			known = append(known, last)
		}
	}
	m.asking.Go(func() error {
		for _, last := range known {
			m.askAbout(ctx, last.Survey)
		}
		return nil
	})
	m.leading.Go(func() error {
		for _, last := range known {
			if last.Record != nil {
				m.leading.Go(func() error {
					m.leads(ctx, last.Record)
					return nil
				})
			}
		}
		return nil
	})
}

// askAbout starts to ask about the images of an application.
func (m *planning) askAbout(ctx context.Context, s *app.Survey) {
	for _, q := range questionsOf(s) {
		m.ask(ctx, q)
	}
}

func (m *planning) doing(what Doing, of int) {
	m.progress = Progress{Doing: what, Of: of, Began: time.Now()}
	m.tell()
}

func (m *planning) did() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress.Done++
	m.tell()
}

func (m *planning) tell() {
	if m.Progress != nil {
		m.Progress(m.progress)
	}
}

// survey reads every application, and renders those that changed.
func (m *planning) survey(ctx context.Context) error {
	m.doing(DoRead, len(m.applications))
	return atonce.Each(ctx, cmp.Or(m.Concurrency, atonce.Applications), m.applications, func(reading context.Context, i int, a Application) error {
		defer m.did()
		p := &m.plan.Applications[i]
		p.Application = a
		err := m.surveyOne(reading, p)
		if cause := context.Cause(reading); cause != nil {
			return cause
		}
		if err != nil {
			p.State, p.Failure, p.Reason = ToPackage, failureOf(err), "it cannot be read"
		}
		if p.asks() {
			m.askAbout(ctx, p.Survey) // while others are read
		}
		return nil
	})
}

// asks reports whether registries are asked about the application's images.
func (p *Planned) asks() bool { return p.State != Skipped && p.Survey != nil && !p.Survey.Local }

// surveyOne surveys an application. It is rendered unless that is known to give the same
// result.
func (m *planning) surveyOne(ctx context.Context, p *Planned) (err error) {
	last := m.last[p.Name]
	options := app.SurveyOptions{PackageOptions: m.options(p.Application), Render: true}
	if last != nil || m.Since != "" {
		options.Unless = func(s *app.Survey) bool {
			if m.Since != "" && !touch(m.changed, m.here, m.File, p.Application, s) {
				p.State, p.Reason = Skipped, "no file of it changed since "+m.Since
				return true
			}
			if last == nil || last.Survey == nil || last.Survey.References == nil || m.before.Version != m.plan.Version || !sameSources(last.Survey, s) {
				return false
			}
			s.References = last.Survey.References
			return true
		}
	}
	p.Survey, err = app.MakeSurvey(ctx, options)
	return err
}

// sameSources reports whether two surveys render the same.
func sameSources(a, b *app.Survey) bool {
	one, other := *a, *b
	one.References, other.References = nil, nil
	x, err := engine.MarshalJSON(one)
	y, err2 := engine.MarshalJSON(other)
	return err == nil && err2 == nil && string(x) == string(y)
}

// distinct refuses two applications with the same destination.
func (f *File) distinct(all []Planned) error {
	by := map[string]string{}
	var wrong document.Problems
	for _, p := range all {
		if p.Survey == nil {
			continue
		}
		if other, ok := by[p.Survey.Repository]; ok {
			wrong.Add(p.at, "%s and %s both go to %s: give each its own output", other, p.Path, p.Survey.Repository)
		}
		by[p.Survey.Repository] = p.Path
	}
	return wrong.Err()
}

// latest records the latest plan, and what the next one is compared with in addition:
// everything known about the applications that the plan skips.
type latest struct {
	Plan    digest.Digest `json:"plan"`
	Asked   asked         `json:"asked"`
	Skipped []Planned     `json:"skipped,omitempty"`
	Images  images.Known  `json:"images,omitempty"` // of those that are skipped

	plan    *Plan // with what is known besides
	signing bool  // its unchanged applications are packaged again, to sign them
}

func latestKey(here checkout) digest.Digest { return keyOf("latest", here.identity) }

// latestOf reads the latest plan; without one, it is empty.
func latestOf(ctx context.Context, kept keepers, here checkout) (l latest) {
	if get(ctx, kept, latestKey(here), &l) {
		l.plan, _ = readPlan(ctx, kept, l.Plan) // a missing plan counts as none
		l.signing = isSigning(ctx, kept, l.Plan)
	}
	if l.plan == nil {
		l.plan = &Plan{}
	}
	if l.Asked == nil {
		l.Asked = asked{}
	}
	known := map[string]Planned{}
	for _, p := range l.Skipped {
		known[p.Name] = p
	}
	for i, p := range l.plan.Applications {
		if before, ok := known[p.Name]; ok {
			l.plan.Applications[i] = before
		}
	}
	for _, a := range l.Images {
		l.plan.Images = l.plan.Images.Add(a)
	}
	return l
}

// latest returns what latestOf gives to the next planner.
func (m *planning) latest(plan digest.Digest) latest {
	m.mu.Lock()
	l := latest{Plan: plan, Asked: maps.Clone(m.asked)}
	m.mu.Unlock()
	for _, p := range m.plan.Applications {
		last := m.last[p.Name]
		if p.State != Skipped || last == nil || last.Survey == nil {
			continue
		}
		l.Skipped = append(l.Skipped, *last)
		for _, q := range questionsOf(last.Survey) {
			answer, ok := m.before.Images.Find(q.name, q.platform, q.related)
			if _, asked := m.plan.Images.Find(q.name, q.platform, q.related); ok && !asked {
				l.Images = l.Images.Add(answer)
			}
		}
	}
	return l
}

// question is a question to a registry.
type question struct{ name, platform, related string }

// asked is when the list of what is published beside an image was recorded, in seconds.
type asked map[string]int64

func questionsOf(s *app.Survey) (all []question) {
	for _, name := range s.References {
		all = append(all, question{name, s.Platform, s.Related})
	}
	return all
}

func (q question) String() string { return q.name + " " + q.platform + " " + q.related }

// resolve asks registries about each image of the fleet once. The list of what is published
// beside an image with the same digest is used for a while.
func (m *planning) resolve(ctx context.Context) error {
	questions := map[question]bool{}
	for _, p := range m.plan.Applications {
		if !p.asks() {
			continue
		}
		for _, q := range questionsOf(p.Survey) {
			questions[q] = true
		}
	}
	m.doing(DoResolve, len(questions))
	var (
		answers = images.Known{}
		group   errgroup.Group
	)
	group.SetLimit(atonce.Tasks)
	for q := range questions {
		group.Go(func() error {
			defer m.did()
			answer, err := m.ask(ctx, q)()
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			if err != nil {
				return nil // the applications that need it ask again, and report it
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			answers = append(answers, answer)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, a := range answers {
		m.plan.Images = m.plan.Images.Add(a)
	}
	// Keep the times of images that this plan does not name, because a later one may.
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.asked, func(_ string, at int64) bool { return !m.recent(at) })
	for _, a := range m.plan.Images {
		q := question{a.Name, a.Platform, a.Mode}.String()
		m.asked[q] = cmp.Or(m.asked[q], now.Unix())
	}
	return nil
}

// ask starts to ask about an image, unless that was done.
func (m *planning) ask(ctx context.Context, q question) (answer func() (images.Answer, error)) {
	m.mu.Lock()
	answer, asked := m.answers[q]
	if !asked {
		answer = sync.OnceValues(func() (images.Answer, error) { return m.askOne(ctx, q) })
		m.answers[q] = answer
	}
	m.mu.Unlock()
	if !asked {
		m.asking.Go(func() error {
			_, _ = answer() // who asked for it hears of errors
			return nil
		})
	}
	return answer
}

func (m *planning) askOne(ctx context.Context, q question) (images.Answer, error) {
	known, ok := m.before.Images.Find(q.name, q.platform, q.related)
	m.mu.Lock()
	recorded := m.asked[q.String()]
	m.mu.Unlock()
	if ok && known.Image != nil && known.Unknown == "" && m.recent(recorded) {
		if same, err := m.unmoved(ctx, q.name, known.Image); err == nil && same {
			return known, nil
		}
	}
	m.mu.Lock()
	delete(m.asked, q.String())
	m.mu.Unlock()
	return app.AskImage(ctx, app.AskOptions{Environment: m.Environment, Name: q.name, Platform: q.platform, Related: q.related})
}

// recent reports whether a list that was recorded at a time, in seconds, is still used. A time
// far in the future, by a wrong clock, is not, or the list would be used forever.
func (m *planning) recent(at int64) bool {
	return m.now().Sub(time.Unix(at, 0)).Abs() < m.File.again()
}

// unmoved reports whether a tag still leads to the image.
func (m *planning) unmoved(ctx context.Context, name string, image *images.Image) (bool, error) {
	ref, err := imageref.Parse(name)
	if err != nil {
		return false, err
	}
	want := cmp.Or(image.IndexDigest, image.Digest)
	if ref.Digest != "" {
		return ref.Digest == want, nil
	}
	repository, err := m.Registry.Source(ref.Name)
	if err != nil {
		return false, err
	}
	got, err := repository.Digest(ctx, ref.Tag)
	return got == want, err
}

// decide decides for each application whether it is packaged, and why.
func (m *planning) decide(ctx context.Context) error {
	m.doing(DoCompare, len(m.plan.Applications))
	var undecided []*Planned
	for _, p := range m.plan.all() {
		if p.State == "" {
			undecided = append(undecided, p)
		}
	}
	return atonce.Each(ctx, cmp.Or(m.Concurrency, atonce.Tasks), undecided, func(ctx context.Context, _ int, p *Planned) error {
		defer m.did()
		var err error
		if p.Key, err = m.plan.key(p); err != nil {
			return err
		}
		p.State, p.Reason = ToPackage, m.why(p)
		if last := m.last[p.Name]; last != nil && last.State == ToPackage && last.Key != "" && (last.Key == p.Key || last.Reason == isNew && !m.packaged(ctx, last)) {
			p.Reason = last.Reason // it still waits for that
		}
		record, ok := m.record(ctx, p)
		if !ok {
			return context.Cause(ctx)
		}
		reason := ""
		if record.Repository != p.Survey.Repository || len(record.Tags) == 0 {
			reason = "it went to " + record.Repository
		} else {
			reason = m.leads(ctx, record)
		}
		if reason != "" {
			p.Reason, p.Again = reason, true
			return context.Cause(ctx)
		}
		p.State, p.Record, p.Reason = Unchanged, record, "packaged as "+record.Root
		return nil
	})
}

// packaged reports whether an application of the previous plan was packaged.
func (m *planning) packaged(ctx context.Context, last *Planned) bool {
	return get(ctx, m.kept.constant(), Record{}.key(last.Key), &Record{})
}

// record finds the record of an application as it is. If the previous plan found the
// application unchanged, it has the record, which saves a request, unless the application may
// have been packaged again since, to sign it.
func (m *planning) record(ctx context.Context, p *Planned) (*Record, bool) {
	if p.Key == "" {
		return nil, false
	}
	kept := m.kept
	if !m.signing && m.Signer == nil {
		kept = kept.constant()
		if last := m.last[p.Name]; last != nil && last.Record != nil && last.Record.Key == p.Key {
			return last.Record, true
		}
	}
	var r Record
	ok := get(ctx, kept, r.key(p.Key), &r) && r.Key == p.Key
	return &r, ok
}

// leads returns why the tags of a record no longer lead to it: "" if they do. It asks once.
func (m *planning) leads(ctx context.Context, r *Record) string {
	m.mu.Lock()
	reason := m.led[r]
	if reason == nil {
		reason = sync.OnceValue(func() string { return m.strayed(ctx, r) })
		m.led[r] = reason
	}
	m.mu.Unlock()
	return reason()
}

func (m *planning) strayed(ctx context.Context, r *Record) string {
	repository, err := m.Registry.Repository(r.Repository)
	if err != nil {
		return err.Error()
	}
	for _, tag := range r.Tags {
		switch got, err := repository.Digest(ctx, tag); {
		case err != nil:
			return fmt.Sprintf("%s:%s cannot be found: %v", r.Repository, tag, err)
		case got != r.Digest:
			return fmt.Sprintf("%s:%s points to something else", r.Repository, tag)
		}
	}
	return ""
}

// key identifies what an application is made of; "" if an image of it is unknown.
func (p *Plan) key(a *Planned) (digest.Digest, error) {
	if a.Survey.Local {
		return "", nil
	}
	answers := map[string]digest.Digest{}
	for _, name := range a.Survey.References {
		answer, ok := p.Images.Find(name, a.Survey.Platform, a.Survey.Related)
		if !ok {
			return "", nil
		}
		answers[name] = answer.Digest()
	}
	data, err := engine.MarshalJSON(struct {
		Version string                   `json:"version"`
		Survey  *app.Survey              `json:"survey"`
		Images  map[string]digest.Digest `json:"images"`
	}{p.Version, a.Survey, answers})
	return digest.FromBytes(data), err
}

// isNew is the reason to package an application that has not been packaged before.
const isNew = "it is new"

// why returns what changed since the previous plan.
func (m *planning) why(p *Planned) string {
	last := m.last[p.Name]
	if last == nil || last.Survey == nil {
		return isNew
	}
	if m.before.Version != m.plan.Version {
		return fmt.Sprintf("tape is %s, was %s", m.plan.Version, m.before.Version)
	}
	if reason := surveyChange(last.Survey, p.Survey); reason != "" {
		return reason
	}
	for _, name := range p.Survey.References {
		now, ok := m.plan.Images.Find(name, p.Survey.Platform, p.Survey.Related)
		if !ok {
			return fmt.Sprintf("the current digest of image %s is unknown", name)
		}
		was, ok := m.before.Images.Find(name, p.Survey.Platform, p.Survey.Related)
		switch {
		case !ok || now.Digest() == was.Digest():
		case now.Image == nil || was.Image == nil:
			return fmt.Sprintf("image %s was added or removed", name)
		case now.Image.Digest != was.Image.Digest:
			return fmt.Sprintf("image %s moved from %s to %s", name, was.Image.Digest, now.Image.Digest)
		default:
			return fmt.Sprintf("what is attached to image %s changed", name)
		}
	}
	return "it was not packaged yet"
}

// surveyChange returns what changed in an application; "" if nothing did.
func surveyChange(was, is *app.Survey) string {
	if was.Repository != is.Repository {
		return fmt.Sprintf("its repository is %s, was %s", is.Repository, was.Repository)
	}
	if !slices.Equal(was.Tags, is.Tags) {
		return fmt.Sprintf("its tags are %s, were %s", list(is.Tags), list(was.Tags))
	}
	if was.Trust != is.Trust {
		return "the trust file changed"
	}
	before := map[string]app.SurveyedSource{}
	for _, s := range was.Sources {
		before[s.Name] = s
	}
	for _, s := range is.Sources {
		b, ok := before[s.Name]
		switch {
		case !ok:
			return fmt.Sprintf("source %s is new", s.Name)
		case b.Interpreter != s.Interpreter:
			return fmt.Sprintf("the interpreter of %s is %s, was %s", s.Name, s.Interpreter, b.Interpreter)
		case b.Checksum != s.Checksum:
			return fmt.Sprintf("the program of the interpreter of %s, %s, changed", s.Name, s.Interpreter)
		}
		if reason := filesChange(b.Files, s.Files); reason != "" {
			return reason
		}
		if b.Options != s.Options {
			return fmt.Sprintf("the options of %s changed", s.Name)
		}
		if b.Modified != s.Modified {
			switch s.Modified {
			case vcs.No:
				return fmt.Sprintf("all files of %s are committed now", s.Name)
			case vcs.Yes:
				return fmt.Sprintf("files of %s are not committed", s.Name)
			}
			return fmt.Sprintf("it is unknown whether all files of %s are committed", s.Name)
		}
		delete(before, s.Name)
	}
	if len(before) > 0 {
		return "it no longer has these sources: " + list(slices.Sorted(maps.Keys(before)))
	}
	for _, node := range slices.Sorted(maps.Keys(is.Nodes)) {
		if was.Nodes[node] != is.Nodes[node] {
			return fmt.Sprintf("the options of the stage %s changed", node)
		}
	}
	if len(was.Nodes) != len(is.Nodes) {
		return "its pipeline has fewer stages"
	}
	return ""
}

// filesChange returns the first file that changed.
func filesChange(was, is map[string]digest.Digest) string {
	var changed []string
	for name, d := range is {
		if was[name] == "" {
			changed = append(changed, name+" is new")
		} else if was[name] != d {
			changed = append(changed, name+" changed")
		}
	}
	for name := range was {
		if is[name] == "" {
			changed = append(changed, name+" is gone")
		}
	}
	slices.Sort(changed)
	switch len(changed) {
	case 0:
		return ""
	case 1:
		return changed[0]
	}
	return fmt.Sprintf("%s, and %d more", changed[0], len(changed)-1)
}

func list(words []string) string {
	if len(words) == 0 {
		return "chosen by tape"
	}
	return strings.Join(words, ", ")
}

// changedSince returns the files that changed since a revision, relative to the top.
func changedSince(ctx context.Context, here checkout, since string) ([]string, error) {
	if here.top == "" {
		return nil, &app.UsageError{Err: fmt.Errorf("there is no git repository to look for changes since %s in", since)}
	}
	paths, err := vcs.Changed(ctx, here.top, since)
	if err != nil {
		return nil, fmt.Errorf("find what changed since %s: %w", since, err)
	}
	return paths, nil
}

// touch reports whether any of the changed files concerns an application: a file that it reads,
// or a former file in its folder.
func touch(changed []string, here checkout, f *File, p Application, survey *app.Survey) bool {
	files := map[string]bool{}
	var folders []string
	for _, s := range survey.Sources {
		for name := range s.Files {
			files[name] = true
		}
		folders = append(folders, s.Path)
	}
	if p.Pipeline {
		if abs, err := filepath.Abs(filepath.Join(f.dir, filepath.FromSlash(p.Path))); err == nil {
			if rel, err := filepath.Rel(here.top, abs); err == nil {
				files[filepath.ToSlash(rel)] = true
				files[filepath.ToSlash(pipeline.LockFile(rel))] = true
			}
		}
	}
	return slices.ContainsFunc(changed, func(name string) bool {
		return files[name] || slices.ContainsFunc(folders, func(folder string) bool {
			return folder == "." || strings.HasPrefix(name, folder+"/")
		})
	})
}
