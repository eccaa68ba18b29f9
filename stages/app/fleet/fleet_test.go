// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/app/fleet"
	"github.com/taped-dev/tape/stages/rendering"
)

// plainAlone finds one interpreter, in this process.
type plainAlone struct{}

type inProcess struct{ interpreter.Interpreter }

func (inProcess) Name() string { return "plain" }

func (inProcess) Checksum(context.Context) (digest.Digest, error) {
	return digest.FromString("plain"), nil
}

func (plainAlone) Find(_ context.Context, name string) (rendering.Interpreter, error) {
	if name != "plain" {
		return nil, fmt.Errorf("no interpreter %q", name)
	}
	return inProcess{plain.New()}, nil
}

func (plainAlone) List(context.Context) ([]rendering.Interpreter, error) {
	return []rendering.Interpreter{inProcess{plain.New()}}, nil
}

// lab is a repository with a fleet, and registries.
type lab struct {
	dir                 string // of the repository
	scratch             string
	upstream            *registrytest.Upstream
	source, destination *registrytest.Counter
	host                string // of the destination
	hosts               string // folder of hosts.toml
	down                atomic.Bool
	env                 []string // of git
}

func newLab(t *testing.T, applications int) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), scratch: t.TempDir(), upstream: &registrytest.Upstream{}}
	l.source = registrytest.Count(l.upstream)
	l.destination = registrytest.Count(registrytest.Distribution(""))
	l.host = registrytest.Serve(t, l.destination)
	l.hosts = filepath.Join(l.scratch, "hosts")
	if err := registrytest.WriteHosts(l.hosts, "_default", registrytest.Serve(t, l.source)); err != nil {
		t.Fatal(err)
	}
	l.write(t, "tape.fleet.yaml", "apiVersion: tape/v1\nkind: Fleet\napplications: [apps/*]\n"+
		"defaults: {output: {image: \""+l.host+"/team/${name}\"}}\n")
	for i := range applications {
		l.application(t, i, "1.0")
	}
	l.git(t, "init", "-q", "-b", "main")
	l.commit(t, "first")
	return l
}

// application writes one with an image of its own and one from a pool.
func (l *lab) application(t *testing.T, i int, tag string) {
	t.Helper()
	l.write(t, fmt.Sprintf("apps/app%02d/pod.yaml", i), fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: app%02d}\nspec:\n  containers:\n"+
		"  - {name: own, image: ex.io/own/app%02d:%s}\n  - {name: pool, image: ex.io/pool/sidecar%d:2.0}\n", i, i, tag, i%2))
}

func (l *lab) write(t *testing.T, name, data string) {
	t.Helper()
	file := filepath.Join(l.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	cmd.Dir, cmd.Env = l.dir, append(os.Environ(), l.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (l *lab) commit(t *testing.T, message string) {
	t.Helper()
	l.git(t, "add", "-A")
	l.git(t, "commit", "-q", "-m", message)
}

// options returns the options of a machine, whose store has its name.
func (l *lab) options(t *testing.T, machine string) fleet.Options {
	t.Helper()
	client, err := registry.New(registry.Options{HostsDir: l.hosts, ManifestFile: filepath.Join(l.scratch, machine+".manifests")})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := store.Open(t.Context(), filepath.Join(l.scratch, machine), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	file, err := fleet.Read(filepath.Join(l.dir, fleet.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return fleet.Options{
		Environment: app.Environment{Store: kept, Registry: client, Interpreters: plainAlone{}}, File: file, Version: "test",
	}
}

func (l *lab) pack(t *testing.T, o fleet.PackageOptions) *fleet.Report {
	t.Helper()
	report, err := fleet.Package(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func states(r *fleet.Report) map[string]fleet.OutcomeState {
	out := map[string]fleet.OutcomeState{}
	for _, o := range r.Applications {
		out[o.Name] = o.State
	}
	return out
}

// TestPackage packages a fleet of which one application is broken, and then what changed.
func TestPackage(t *testing.T) {
	t.Parallel()
	l := newLab(t, 4)
	l.write(t, "apps/broken/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers: [\n")
	l.commit(t, "break")
	o := fleet.PackageOptions{Options: l.options(t, "one")}
	report := l.pack(t, o)
	if got := report.Totals; got.Done != 4 || got.Failed != 1 {
		t.Fatalf("%+v: %+v", got, report.Applications)
	}
	broken := report.Applications[slices.IndexFunc(report.Applications, func(o fleet.Outcome) bool { return o.Name == "broken" })]
	if broken.Error == nil || !strings.HasSuffix(broken.Error.File, "apps/broken/pod.yaml") || broken.Error.Line == 0 || !broken.Error.Final {
		t.Errorf("failure %+v", broken.Error)
	}

	l.write(t, "apps/broken/pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: ex.io/own/x:1}]}\n")
	l.commit(t, "mend")
	o.Options = l.options(t, "one")
	report = l.pack(t, o)
	if got := report.Totals; got.Unchanged != 4 || got.Done != 1 {
		t.Fatalf("after mending one: %+v: %+v", got, report.Applications)
	}

	// Nothing changed: nothing is sent, and few requests are made.
	l.source.Reset()
	l.destination.Reset()
	report = l.pack(t, o)
	if got := report.Totals; got.Unchanged != 5 || got.Moved.Blobs != 0 {
		t.Fatalf("unchanged: %+v: %+v", got, report.Applications)
	}
	if got, most := l.source.Stats().Total(), 7; got > most {
		t.Errorf("%d source requests, want at most %d: one for each image", got, most)
	}
	if got, most := l.destination.Stats().Total(), 5; got > most {
		t.Errorf("%d destination requests, want at most %d: one for each application", got, most)
	}

	made, err := fleet.MakeReport(t.Context(), fleet.ReportOptions{Options: o.Options})
	if err != nil {
		t.Fatal(err)
	}
	if got := states(made); len(got) != 5 || got["app00"] != fleet.OutcomeUnchanged {
		t.Errorf("report of the last plan: %v", got)
	}
}

// with returns options of a machine that shares a cache in a repository.
func (l *lab) with(t *testing.T, machine, repository string, s app.CacheSettings) fleet.Options {
	t.Helper()
	o := l.options(t, machine)
	s.Repository, s.Patience = repository, time.Minute // the machine may be busy
	cache, err := o.OpenCache(s)
	if err != nil {
		t.Fatal(err)
	}
	o.Cache = cache
	return o
}

// TestSharedCache has a second machine continue with what the first one shares, without reading
// an image again; the second executes the plan of the first.
func TestSharedCache(t *testing.T) {
	t.Parallel()
	l := newLab(t, 6)
	cache := l.host + "/ci/cache"
	l.pack(t, fleet.PackageOptions{Options: l.with(t, "one", cache, app.CacheSettings{})})
	l.application(t, 3, "1.1")
	l.commit(t, "change one")

	second := l.with(t, "two", cache, app.CacheSettings{})
	l.source.Reset()
	plan, dgst, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: second, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range plan.Applications {
		want, reason := fleet.Unchanged, "packaged as "+l.host+"/team/"+a.Name
		if a.Name == "app03" {
			want, reason = fleet.ToPackage, "apps/app03/pod.yaml changed"
		}
		if a.State != want || !strings.HasPrefix(a.Reason, reason) {
			t.Errorf("%s: %s, %s; want %s, %s", a.Name, a.State, a.Reason, want, reason)
		}
	}
	if got := l.source.Stats().Requests["GET blobs"]; got != 0 {
		t.Errorf("the plan read %d blobs", got)
	}
	third := fleet.PackageOptions{Options: l.with(t, "three", cache, app.CacheSettings{}), Plan: dgst}
	report := l.pack(t, third)
	if report.Totals.Done != 1 || report.Totals.Unchanged != 5 {
		t.Fatalf("%+v", report.Applications)
	}
	made, err := fleet.MakeReport(t.Context(), fleet.ReportOptions{Options: l.with(t, "four", cache, app.CacheSettings{}), Plan: dgst})
	if err != nil || made.Totals.Done != 1 || made.Totals.Unchanged != 5 {
		t.Errorf("report of a fourth machine: %+v, %v", made, err)
	}
}

// TestCacheIsNeverNeeded runs a fleet with an unreachable cache: everything is packaged, and
// only a plan for other machines is an error.
func TestCacheIsNeverNeeded(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	gone := registrytest.Unreachable(t) + "/ci/cache"
	report := l.pack(t, fleet.PackageOptions{Options: l.with(t, "one", gone, app.CacheSettings{})})
	if report.Totals.Done != 2 {
		t.Errorf("%+v", report.Applications)
	}
	if _, _, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: l.with(t, "two", gone, app.CacheSettings{}), Shared: true}); err == nil {
		t.Error("a plan for other machines was made that they cannot read")
	}
}

// TestForgedRecord has a writer of the cache claim that an application was packaged: the root
// that its tag points to decides, and with trusted keys the claim is not even read.
func TestForgedRecord(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	cache := l.host + "/ci/cache"
	dir := t.TempDir()
	pair, err := app.GenerateKey(t.Context(), app.KeyOptions{Prefix: filepath.Join(dir, "ci"), Password: func(bool) ([]byte, error) { return []byte("x"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	forger := l.with(t, "forger", cache, app.CacheSettings{})
	l.pack(t, fleet.PackageOptions{Options: forger}) // an attacker, without the key

	reader := l.with(t, "reader", cache, app.CacheSettings{Trust: []string{pair.Public}})
	plan, _, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: reader})
	if err != nil {
		t.Fatal(err)
	}
	if a := plan.Applications[0]; a.State != fleet.ToPackage {
		t.Errorf("%s: %s", a.State, a.Reason)
	}
}

// TestOlderPlan executes a plan of an older commit after one of a newer commit: no tag moves
// back.
func TestOlderPlan(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	l.write(t, "tape.fleet.yaml", "apiVersion: tape/v1\nkind: Fleet\napplications: [apps/*]\n"+
		"defaults: {output: {image: \""+l.host+"/team/${name}\", tags: [stable]}}\n")
	l.commit(t, "tag")
	older := l.git(t, "rev-parse", "HEAD")
	l.application(t, 0, "2.0")
	l.commit(t, "newer")
	first := l.pack(t, fleet.PackageOptions{Options: l.options(t, "one")})
	if first.Totals.Done != 1 {
		t.Fatalf("%+v", first.Applications)
	}
	l.git(t, "checkout", "-q", older)
	report := l.pack(t, fleet.PackageOptions{Options: l.options(t, "one")})
	if o := report.Applications[0]; o.State != fleet.Failed || !strings.Contains(o.Error.Message, "a newer commit was packaged already") {
		t.Errorf("%+v", o)
	}
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	repository, err := client.Repository(l.host + "/team/app00")
	if err != nil {
		t.Fatal(err)
	}
	now, err := repository.Digest(t.Context(), "stable")
	if err != nil || !strings.HasSuffix(first.Applications[0].Root, now.String()) {
		t.Errorf("stable is %s (%v), want that of %s", now, err, first.Applications[0].Root)
	}
	forced := l.pack(t, fleet.PackageOptions{Options: l.options(t, "one"), Force: true})
	if forced.Totals.Done != 1 || len(forced.Applications[0].MovedTags) == 0 {
		t.Errorf("with force: %+v", forced.Applications)
	}
}

// TestRegistryDown packages while the source registry is down: applications that failed for
// that reason are retried by the next run, broken ones are not.
func TestRegistryDown(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	l.upstream.Image = func(string, string) (registrytest.Image, bool) { return registrytest.Image{}, true }
	down := registrytest.Serve(t, registrytest.Misbehave(l.source, func(*http.Request) bool { return l.down.Load() }, registrytest.Status(http.StatusInternalServerError)))
	if err := registrytest.WriteHosts(l.hosts, "_default", down); err != nil {
		t.Fatal(err)
	}
	l.down.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	plan, dgst, err := fleet.MakePlan(ctx, fleet.PlanOptions{Options: l.options(t, "one")})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range plan.Applications {
		if a.State != fleet.ToPackage || a.Key != "" {
			t.Errorf("%s: %s, key %q", a.Name, a.State, a.Key)
		}
	}
	report := l.pack(t, fleet.PackageOptions{Options: l.options(t, "one"), Plan: dgst})
	if report.Totals.Failed != 3 || report.Applications[0].Error.Final {
		t.Fatalf("%+v", report.Applications)
	}
	l.down.Store(false)
	if report = l.pack(t, fleet.PackageOptions{Options: l.options(t, "one"), Plan: dgst}); report.Totals.Done != 3 {
		t.Errorf("after it came back: %+v", report.Applications)
	}
}

// TestSharedRepository has two independent shards package applications with common images,
// which are read and sent once.
func TestSharedRepository(t *testing.T) {
	t.Parallel()
	l := newLab(t, 8)
	l.write(t, "tape.fleet.yaml", "apiVersion: tape/v1\nkind: Fleet\napplications: [apps/*]\n"+
		"defaults: {output: {image: \""+l.host+"/team/${name}\"}}\nshared: {repository: "+l.host+"/ci/shared}\n")
	l.commit(t, "share")
	cache := l.host + "/ci/cache"
	_, dgst, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: l.with(t, "planner", cache, app.CacheSettings{}), Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	uploaded := func(machine string, index int) int64 {
		l.destination.Reset()
		report := l.pack(t, fleet.PackageOptions{Options: l.with(t, machine, cache, app.CacheSettings{}), Plan: dgst, Shard: fleet.Shard{Index: index, Of: 4}})
		if report.Totals.Done != 2 || report.Totals.Failed != 0 {
			t.Fatalf("%+v", report.Applications)
		}
		return int64(report.Totals.Moved.Blobs)
	}
	l.source.Reset()
	first := uploaded("one", 1)
	pool := l.source.Reset().Requests["GET blobs"]
	second := uploaded("three", 3) // which has the same image from the pool
	if again := l.source.Reset().Requests["GET blobs"]; again >= pool {
		t.Errorf("the other shard read %d blobs of images, the first %d: what they share was read twice", again, pool)
	}
	if second > first {
		t.Errorf("the other shard sent %d blobs, the first %d", second, first)
	}
}

// TestShards executes a plan with one process and with twenty, which only share the cache: the
// roots are the same byte for byte, and each run has one report.
func TestShards(t *testing.T) {
	t.Parallel()
	const applications = 20
	l := newLab(t, 0)
	for i := range applications {
		l.write(t, fmt.Sprintf("apps/app%02d/pod.yaml", i), fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: app%02d}\nspec: {containers: [{name: a, image: ex.io/pool/a:1}]}\n", i))
	}
	l.commit(t, "more")
	var want []fleet.Outcome
	for _, of := range []int{1, applications} {
		cache := fmt.Sprintf("%s/ci/cache%d", l.host, of)
		machine := func(i int) fleet.Options {
			return l.with(t, fmt.Sprintf("%d-%d", of, i), cache, app.CacheSettings{})
		}
		_, dgst, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: machine(0), Shared: true})
		if err != nil {
			t.Fatal(err)
		}
		var shards errgroup.Group
		for i := range of {
			o := fleet.PackageOptions{Options: machine(i + 1), Plan: dgst, Shard: fleet.Shard{Index: i + 1, Of: of}}
			shards.Go(func() error {
				report, err := fleet.Package(t.Context(), o)
				if err == nil && report.Totals.Done != applications/of {
					err = fmt.Errorf("shard %s: %+v", o.Shard, report.Applications)
				}
				return err
			})
		}
		if err := shards.Wait(); err != nil {
			t.Fatal(err)
		}
		report, err := fleet.MakeReport(t.Context(), fleet.ReportOptions{Options: machine(of + 1), Plan: dgst})
		if err != nil || report.Totals.Done != applications {
			t.Fatalf("%d shards: %+v, %v", of, report, err)
		}
		for i := range report.Applications {
			report.Applications[i].Seconds, report.Applications[i].Moved = 0, transfer.Moved{}
		}
		if want == nil {
			want = report.Applications
		}
		if diff := cmp.Diff(want, report.Applications); diff != "" {
			t.Errorf("%d shards make something else than one (-want +got):\n%s", of, diff)
		}
	}
}

// TestPlanElsewhere executes plans that do not match: nothing is packaged, and the error states
// what to do.
func TestPlanElsewhere(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	_, dgst, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: l.options(t, "one")})
	if err != nil {
		t.Fatal(err)
	}
	other := l.options(t, "one")
	other.Version = "v9"
	for name, c := range map[string]struct {
		o    fleet.PackageOptions
		want string
	}{
		"another version": {fleet.PackageOptions{Options: other, Plan: dgst}, "made by tape test, and this is v9: make another"},
		"gone":            {fleet.PackageOptions{Options: l.options(t, "another machine"), Plan: dgst}, dgst.String() + " is not stored here"},
		"no digest":       {fleet.PackageOptions{Options: l.options(t, "one"), Plan: "sha256:beef"}, "is not a digest"},
		"no such shard":   {fleet.PackageOptions{Options: l.options(t, "one"), Plan: dgst, Shard: fleet.Shard{Index: 3, Of: 2}}, "shard 3/2 is out of range"},
		"shard 0":         {fleet.PackageOptions{Options: l.options(t, "one"), Plan: dgst, Shard: fleet.Shard{Index: 0, Of: 2}}, "shard 0/2 is out of range"},
	} {
		if _, err := fleet.Package(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	l.application(t, 0, "2.0")
	l.commit(t, "another")
	if _, err := fleet.Package(t.Context(), fleet.PackageOptions{Options: l.options(t, "one"), Plan: dgst}); err == nil || !strings.Contains(err.Error(), "check out that commit, or make another plan") {
		t.Errorf("another commit: %v", err)
	}
	if got := l.destination.Stats().Requests["PUT manifests"]; got != 0 {
		t.Errorf("%d manifests were pushed", got)
	}
}

// TestWrongClock has machines with wrong clocks: their records are not used for longer than
// others, no entry of theirs makes a run wrong, and a commit that is dated before its parent
// comes after it.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	asked := func(machine string, now time.Time) int {
		t.Helper()
		o := l.with(t, machine, l.host+"/ci/cache", app.CacheSettings{})
		o.Now = func() time.Time { return now }
		l.source.Reset()
		if report := l.pack(t, fleet.PackageOptions{Options: o}); report.Totals.Failed != 0 {
			t.Fatalf("%+v", report.Applications)
		}
		return l.source.Stats().Requests["HEAD manifests"] + l.source.Stats().Requests["GET manifests"] + l.source.Stats().Requests["GET referrers"]
	}
	now := time.Now()
	least := 2 // a request for each image, to check its digest
	if got := asked("ahead", now.AddDate(70, 0, 0)); got <= least {
		t.Fatalf("the first run asked %d times", got)
	}
	if got := asked("right", now); got <= least {
		t.Errorf("what a clock that is ahead recorded is used 70 years: %d requests", got)
	}
	if got := asked("right", now.Add(time.Minute)); got != least {
		t.Errorf("a minute later: %d requests, want %d", got, least)
	}
	if got := asked("behind", now.Add(-time.Minute)); got != least {
		t.Errorf("a clock that is a minute behind: %d requests, want %d", got, least)
	}

	// The next commit is dated before this one, but the history takes precedence.
	l.env = []string{"GIT_COMMITTER_DATE=2001-01-01T00:00:00Z"}
	l.application(t, 0, "2.0")
	l.commit(t, "dated before its parent")
	if report := l.pack(t, fleet.PackageOptions{Options: l.options(t, "right")}); report.Totals.Done != 1 {
		t.Errorf("a commit that is dated before its parent: %+v", report.Applications)
	}
	// Without history only the dates are known: no tag moves, unless the user forces it.
	if err := os.RemoveAll(filepath.Join(l.dir, ".git")); err != nil {
		t.Fatal(err)
	}
	l.git(t, "init", "-q", "-b", "main")
	l.env = []string{"GIT_COMMITTER_DATE=2000-01-01T00:00:00Z"}
	l.application(t, 0, "3.0")
	l.commit(t, "dated before what is not here")
	again := fleet.PackageOptions{Options: l.options(t, "right")}
	if o := l.pack(t, again).Applications[0]; o.State != fleet.Failed || !strings.Contains(o.Error.Message, "a newer commit was packaged already") {
		t.Errorf("a commit that is dated before one that is not here: %+v", o)
	}
	again.Force = true
	if o := l.pack(t, again).Applications[0]; o.State != fleet.Done {
		t.Errorf("with force: %+v", o)
	}
}

// TestAnyFolders matches globs with the maximum number of **, and rejects one more.
func TestAnyFolders(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), fleet.FileName)
	for glob, want := range map[string]string{"a/**/b/**/c/**/d": "", "a/**/b/**/c/**/d/**": "has ** more than 3 times"} {
		if err := os.WriteFile(file, []byte("apiVersion: tape/v1\nkind: Fleet\napplications: ["+glob+"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		switch _, err := fleet.Read(file); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", glob, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ":3:")):
			t.Errorf("%s: %v, want %q and the line", glob, err, want)
		}
	}
}

// TestTrust checks the images of a fleet with a trust file, including those of applications
// that were packaged without one.
func TestTrust(t *testing.T) {
	l := newLab(t, 2)
	key, err := app.GenerateKey(t.Context(), app.KeyOptions{Prefix: filepath.Join(l.scratch, "vendor")})
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(l.scratch, "trust.yaml")
	if err := os.WriteFile(trust, fmt.Appendf(nil, "apiVersion: tape/v1\nkind: Trust\nauthorities: {vendor: {key: %q}}\nimages: [{names: [ex.io/own/app01], require: vendor}]\ndefault: allow\n", key.Public), 0o600); err != nil {
		t.Fatal(err)
	}
	o := fleet.PackageOptions{Options: l.options(t, "a")}
	o.Trust = trust
	refused := func(r *fleet.Report) {
		t.Helper()
		for _, out := range r.Applications {
			if out.Name == "app01" && (out.State != fleet.Failed || !strings.Contains(out.Error.Message, "ex.io/own/app01")) {
				t.Errorf("%+v: %+v", out, out.Error)
			}
		}
	}
	r := l.pack(t, o)
	if got := states(r); got["app00"] != fleet.Done || got["app01"] != fleet.Failed {
		t.Errorf("%v", got)
	}
	refused(r)
	o.Trust = ""
	if got := states(l.pack(t, o)); got["app00"] != fleet.Done || got["app01"] != fleet.Done {
		t.Errorf("without a trust file: %v", got)
	}
	o.Trust = trust
	r = l.pack(t, o)
	if got := states(r); got["app00"] != fleet.OutcomeState(fleet.Unchanged) || got["app01"] != fleet.Failed {
		t.Errorf("again: %v", got)
	}
	refused(r)
	plan, made, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: l.options(t, "a")})
	if err != nil || len(plan.Applications) != 2 {
		t.Fatal(err)
	}
	o.Plan = made
	if _, err := fleet.Package(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the plan was made with another trust file") {
		t.Errorf("a plan without a trust file: %v", err)
	}
}

// worker is an engine with one worker.
type worker struct{ options fleet.Options }

func (w worker) Package(ctx context.Context, job fleet.Job, ended func(fleet.Outcome)) error {
	r, err := fleet.NewRunner(ctx, fleet.PackageOptions{Options: w.options, Plan: job.Plan})
	if err != nil {
		return err
	}
	defer r.Close()
	unsigned, err := r.Unsigned(ctx)
	if err != nil {
		return err
	}
	for _, name := range append(job.Names, unsigned...) {
		o, err := r.Do(ctx, name)
		if err != nil {
			return err
		}
		ended(o)
	}
	return nil
}

func (worker) Status(context.Context, fleet.Job) (*fleet.Run, error) { return &fleet.Run{}, nil }

func (worker) Cancel(context.Context, digest.Digest) error { return nil }

// TestSignLater signs applications that were packaged without a key, under a plan that finds
// them unchanged: in one process, in shards, and on a worker. Each is packaged again once, and
// every machine reports the root that is signed.
func TestSignLater(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	key, err := app.GenerateKey(t.Context(), app.KeyOptions{Prefix: filepath.Join(l.scratch, "release")})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := app.LoadSigner(t.Context(), app.SignerOptions{Name: key.Private})
	if err != nil {
		t.Fatal(err)
	}
	for name, sign := range map[string]func(machine func() fleet.Options, plan digest.Digest) *fleet.Report{
		"one": func(machine func() fleet.Options, plan digest.Digest) *fleet.Report {
			o := machine()
			o.Signer = signer
			return l.pack(t, fleet.PackageOptions{Options: o, Plan: plan})
		},
		"shards": func(machine func() fleet.Options, plan digest.Digest) *fleet.Report {
			for i := range 2 {
				o := machine()
				o.Signer = signer
				l.pack(t, fleet.PackageOptions{Options: o, Plan: plan, Shard: fleet.Shard{Index: i + 1, Of: 2}})
			}
			return nil
		},
		"worker": func(machine func() fleet.Options, plan digest.Digest) *fleet.Report {
			o := machine()
			o.Signer = signer
			return l.pack(t, fleet.PackageOptions{Options: machine(), Plan: plan, Engine: worker{o}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l.write(t, "tape.fleet.yaml", "apiVersion: tape/v1\nkind: Fleet\napplications: [apps/*]\n"+
				"defaults: {output: {image: \""+l.host+"/"+name+"/${name}\"}}\n")
			l.commit(t, "another place")
			machines := 0
			machine := func() fleet.Options {
				machines++
				return l.with(t, fmt.Sprintf("%s%d", name, machines), l.host+"/ci/"+name, app.CacheSettings{})
			}
			before := l.pack(t, fleet.PackageOptions{Options: machine()})
			l.write(t, "README-"+name, "another commit, which gives another root")
			l.commit(t, "read me")
			_, plan, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: machine()})
			if err != nil {
				t.Fatal(err)
			}
			mine := sign(machine, plan)
			l.destination.Reset()
			again := sign(machine, plan)
			for upload, n := range l.destination.Stats().Requests {
				if strings.HasPrefix(upload, "PUT manifests") && n > 0 {
					t.Errorf("%d times %s to sign what is signed", n, upload)
				}
			}
			report, err := fleet.MakeReport(t.Context(), fleet.ReportOptions{Options: machine(), Plan: plan})
			if err != nil {
				t.Fatal(err)
			}
			next := l.pack(t, fleet.PackageOptions{Options: machine()})
			if next.Totals.Unchanged != 3 || report.Totals.Done != 3 || mine != nil && mine.Totals.Done != 3 {
				t.Errorf("this process reports %+v, another one %+v, and the next run %+v", mine, report, next)
			}
			for i, a := range report.Applications {
				if a.Root == before.Applications[i].Root {
					t.Errorf("%s is reported with the root that is not signed", a.Name)
				}
				if a.Root != next.Applications[i].Root || mine != nil && (a.Root != mine.Applications[i].Root || a.Root != again.Applications[i].Root) {
					t.Errorf("%s has different roots in different reports", a.Name)
				}
				r, err := app.Verify(t.Context(), app.VerifyOptions{Environment: machine().Environment, Ref: a.Root, Key: key.Public})
				if err != nil || !r.OK {
					t.Errorf("%s: %+v, %v", a.Root, r, err)
				}
			}
		})
	}
}

// TestNewUntilPackaged plans an application twice before it is packaged: it is as new as before.
func TestNewUntilPackaged(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	plan := func() string {
		t.Helper()
		p, _, err := fleet.MakePlan(t.Context(), fleet.PlanOptions{Options: l.options(t, "a")})
		if err != nil {
			t.Fatal(err)
		}
		return p.Applications[0].Reason
	}
	plan()
	l.application(t, 0, "1.1")
	if got := plan(); got != "it is new" {
		t.Errorf("planned twice: %s", got)
	}
	l.pack(t, fleet.PackageOptions{Options: l.options(t, "a")})
	l.commit(t, "the change")
	if got := plan(); got != "all files of app00 are committed now" {
		t.Errorf("packaged, and committed: %s", got)
	}
}
