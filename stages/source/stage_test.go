// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/cache"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/source"
	"github.com/taped-dev/tape/stages/vcs"
)

// TestMain isolates the tests from the user's git configuration, and sets a home folder that
// contains no folder of a test.
func TestMain(m *testing.M) {
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(name, os.DevNull); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// fake is an interpreter with fixed answers.
type fake struct {
	description interpreter.Description
	inputs      func(req *interpreter.InputsRequest) (*interpreter.InputsResponse, error)

	mu       sync.Mutex
	asked    int
	requests []interpreter.InputsRequest
}

func (f *fake) Name() string { return f.description.Name }

func (f *fake) Checksum(context.Context) (digest.Digest, error) {
	return digest.FromString(f.description.Name), nil
}

func (f *fake) Describe(context.Context) (interpreter.Description, error) { return f.description, nil }

func (f *fake) Inputs(_ context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	f.mu.Lock()
	f.asked++
	f.requests = append(f.requests, *req)
	f.mu.Unlock()
	if f.inputs == nil {
		return &interpreter.InputsResponse{}, nil
	}
	return f.inputs(req)
}

func (f *fake) Render(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	return nil, errors.New("source renders nothing")
}

// needs answers with paths relative to the source.
func needs(paths ...string) func(*interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return func(req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
		var out interpreter.InputsResponse
		for _, p := range paths {
			out.Paths = append(out.Paths, filepath.ToSlash(filepath.Join(filepath.FromSlash(req.Path), p)))
		}
		return &out, nil
	}
}

// finder has a few interpreters.
type finder []*fake

func (l finder) Find(_ context.Context, name string) (rendering.Interpreter, error) {
	for _, f := range l {
		if f.Name() == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("no interpreter %q", name)
}

func (l finder) List(context.Context) ([]rendering.Interpreter, error) {
	var out []rendering.Interpreter
	for _, f := range l {
		out = append(out, f)
	}
	return out, nil
}

func plain() *fake {
	return &fake{description: interpreter.Description{Name: "plain", Version: "1"}}
}

func write(t *testing.T, dir string, tree map[string]string) {
	t.Helper()
	for name, data := range tree {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, link := strings.CutPrefix(data, "-> "); link {
			if err := os.Symlink(target, p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func newFolder(t *testing.T, tree map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, tree)
	return dir
}

func initRepository(t *testing.T, dir string) {
	t.Helper()
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"},
		{"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--message=x"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
}

// result is the result of a source.
type result struct {
	files    map[string]string
	facts    vcs.Facts
	request  rendering.Request
	messages []string // warnings with a ! before them
}

func run(t *testing.T, config source.Config, o source.Options) (result, error) {
	t.Helper()
	stage, err := source.New(config, o)
	if err != nil {
		return result{}, err
	}
	r, err := stagetest.Case{Stage: stage}.Run(t.Context())
	var out result
	for _, e := range r.Events {
		if e.Level == engine.Warning {
			out.messages = append(out.messages, "!"+e.Message)
		} else if e.Message != "" {
			out.messages = append(out.messages, e.Message)
		}
	}
	if err != nil {
		return out, err
	}
	tree, err := files.Unpack(r.Outputs["files"].Data)
	if err != nil {
		t.Fatal(err)
	}
	out.files = map[string]string{}
	for _, f := range tree {
		out.files[f.Name] = string(f.Data)
	}
	if err := r.Outputs["facts"].Decode(&out.facts); err != nil {
		t.Fatal(err)
	}
	if err := r.Outputs["request"].Decode(&out.request); err != nil {
		t.Fatal(err)
	}
	return out, nil
}

func mustRun(t *testing.T, config source.Config, o source.Options) result {
	t.Helper()
	r, err := run(t, config, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func names(r result) []string {
	var out []string
	for name := range r.files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

var tree = map[string]string{
	"apps/shop/deploy.yaml": "kind: Deployment\n",
	"apps/shop/b/svc.yaml":  "kind: Service\n",
	"base/x.yaml":           "x: 1\n",
	"README.md":             "hi\n",
}

func TestStage(t *testing.T) {
	dir := newFolder(t, tree)
	initRepository(t, dir)
	stage, err := source.New(source.Config{Name: "shop", Path: filepath.Join(dir, "apps/shop")}, source.Options{Interpreters: finder{plain()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := (stagetest.Case{Stage: stage}).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// A source in a repository is the same wherever the repository is and wherever tape is started.
func TestRepository(t *testing.T) {
	var results []result
	for _, path := range []string{"abs", "inside", "above"} {
		dir := newFolder(t, tree)
		initRepository(t, dir)
		config := source.Config{Name: "shop"}
		switch path {
		case "abs":
			config.Path = filepath.Join(dir, "apps/shop")
		case "inside":
			t.Chdir(filepath.Join(dir, "apps/shop"))
			config.Path = "."
		case "above":
			t.Chdir(filepath.Dir(dir))
			config.Path = filepath.Base(dir) + "/apps/../apps/shop/"
		}
		r := mustRun(t, config, source.Options{Interpreters: finder{plain()}})
		// The commits were made at different times.
		r.facts.Repositories[0].Commit = ""
		r.facts.Repositories[0].CommitTime = r.facts.Repositories[0].CommitTime.UTC().Truncate(1 << 62)
		results = append(results, r)
	}
	for _, r := range results[1:] {
		if diff := cmp.Diff(results[0], r, cmp.AllowUnexported(result{})); diff != "" {
			t.Error(diff)
		}
	}
	first := results[0]
	if got, want := names(first), []string{"apps/shop/b/svc.yaml", "apps/shop/deploy.yaml"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if first.facts.Path != "apps/shop" || first.request.Path != "apps/shop" || first.facts.Modified != vcs.No {
		t.Errorf("facts %+v, request %+v", first.facts, first.request)
	}
	if want := []string{"interpreter plain: no other claims it"}; !slices.Equal(first.messages, want) {
		t.Errorf("messages %q, want %q", first.messages, want)
	}
}

func TestRoot(t *testing.T) {
	for _, c := range []struct {
		name     string
		path     string // of the source
		pipeline string // its folder
		git      string // folder that is a repository
		needs    []string
		root     string // relative to the test's folder
		want     []string
		err      string
	}{
		{name: "a folder alone", path: "apps/shop", want: []string{"b/svc.yaml", "deploy.yaml"}, root: "apps/shop"},
		{name: "a file alone", path: "apps/shop/deploy.yaml", want: []string{"deploy.yaml"}, root: "apps/shop"},
		{name: "a folder that needs another", path: "apps/shop", needs: []string{"../../base"}, root: ".",
			want: []string{"apps/shop/b/svc.yaml", "apps/shop/deploy.yaml", "base/x.yaml"}},
		{name: "in a repository", path: "apps/shop", git: ".", needs: []string{"../../base"}, root: ".",
			want: []string{"apps/shop/b/svc.yaml", "apps/shop/deploy.yaml", "base/x.yaml"}},
		{name: "out of a repository", path: "apps/shop", git: "apps", needs: []string{"../../base"}, err: "base is outside"},
		{name: "of a pipeline", path: "shop", pipeline: "apps", root: "apps", want: []string{"shop/b/svc.yaml", "shop/deploy.yaml"}},
		{name: "of a pipeline in a repository", path: "../base", pipeline: "apps", git: ".", root: ".", want: []string{"base/x.yaml"}},
		{name: "out of a pipeline's folder", path: "../base", pipeline: "apps", err: "outside"},
		{name: "out of a pipeline's repository", path: "../base", pipeline: "apps", git: "apps", err: "outside"},
		{name: "needs what is out of a pipeline's folder", path: "shop", pipeline: "apps", needs: []string{"../../base/x.yaml"}, err: "base/x.yaml is outside"},
		{name: "needs what is not there", path: "apps/shop", needs: []string{"../gone"}, err: "open gone: no such file"},
		{name: "needs what is far away", path: "apps/shop", needs: []string{"../../../../../../../../../../../../../../etc"}, err: "is too far"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newFolder(t, tree)
			if c.git != "" {
				initRepository(t, filepath.Join(dir, c.git))
			}
			o := source.Options{Interpreters: finder{{description: interpreter.Description{Name: "plain", Version: "1"}, inputs: needs(c.needs...)}}}
			path := filepath.Join(dir, c.path)
			if c.pipeline != "" {
				o.Folder, path = filepath.Join(dir, c.pipeline), c.path
			}
			r, err := run(t, source.Config{Path: path}, o)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := names(r); !slices.Equal(got, c.want) {
				t.Errorf("files %q, want %q", got, c.want)
			}
			fakes := o.Interpreters.(finder)
			last := fakes[0].requests[len(fakes[0].requests)-1]
			if want := filepath.Join(dir, c.root); last.Root != want {
				t.Errorf("root %s, want %s", last.Root, want)
			}
			if r.request.Path != last.Path || r.facts.Path != last.Path {
				t.Errorf("paths: asked %q, request %q, facts %q", last.Path, r.request.Path, r.facts.Path)
			}
		})
	}
}

// Without a repository, inputs must not lead up to the home folder.
func TestRootStopsBelowHome(t *testing.T) {
	dir := newFolder(t, tree)
	t.Setenv("HOME", dir)
	f := plain()
	f.inputs = needs("../../base")
	_, err := run(t, source.Config{Path: filepath.Join(dir, "apps/shop")}, source.Options{Interpreters: finder{f}})
	if err == nil || !strings.Contains(err.Error(), "home") {
		t.Errorf("error %v", err)
	}
}

func TestDetection(t *testing.T) {
	helm := &fake{description: interpreter.Description{Name: "helm", Version: "1", Markers: []interpreter.Marker{{Name: "Chart.yaml"}, {Name: "*.tgz", File: true}}, References: []string{"oci", "https"}}}
	kustomize := &fake{description: interpreter.Description{Name: "kustomize", Version: "1", Markers: []interpreter.Marker{{Name: "kustomization.y*ml"}}}}
	cue := &fake{description: interpreter.Description{Name: "cue", Version: "1", Markers: []interpreter.Marker{{Name: "cue.mod/", Above: true, With: "*.cue"}}}}
	all := finder{helm, kustomize, cue, plain()}

	for _, c := range []struct {
		name     string
		tree     map[string]string
		path     string
		explicit string
		parts    bool
		known    finder
		want     string
		message  string
		err      []string
	}{
		{name: "plain", tree: map[string]string{"a.yaml": ""}, want: "plain", message: "interpreter plain: no other claims it"},
		{name: "helm", tree: map[string]string{"Chart.yaml": ""}, want: "helm", message: "interpreter helm: found Chart.yaml"},
		{name: "a pattern", tree: map[string]string{"kustomization.yml": ""}, want: "kustomize", message: "interpreter kustomize: found kustomization.yml"},
		{name: "a folder of a marker's name", tree: map[string]string{"Chart.yaml/a.yaml": "", "a.yaml": ""}, want: "plain"},
		{name: "a file of a folder's name", tree: map[string]string{"cue.mod": "", "deploy/a.cue": ""}, path: "deploy", want: "plain"},
		{name: "a marker for files beside others", tree: map[string]string{"a.tgz": "", "a.yaml": ""}, want: "plain"},
		{name: "a marker for files", tree: map[string]string{"a.tgz": ""}, path: "a.tgz", want: "helm"},
		{name: "a chart below", tree: map[string]string{"chart/Chart.yaml": "", "chart/charts/db/Chart.yaml": "", "a.yaml": ""},
			err: []string{"it is not a source itself", "and 1 chart lies below it: chart; name one of them, or write a pipeline", "plain"}},
		{name: "a chart below, and a pipeline", tree: map[string]string{"chart/Chart.yaml": "", "tape.yaml": ""},
			err: []string{"1 chart lies below it: chart; if ", "tape.yaml is meant as the pipeline, name it as such"}},
		{name: "sources below", tree: map[string]string{
			"base/kustomization.yaml": "", "base/crds/kustomization.yml": "", "overlays/prod/Kustomization": "", "charts/a/Chart.yaml": "", "lib/cue.mod/module.cue": "",
			"components/x/kustomization.yaml": "apiVersion: x\nkind: Component\n", "flux/kustomization.yaml": "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n",
		}, err: []string{"1 CUE module, 1 chart and 2 kustomizations lie below it: base, charts/a, lib, overlays/prod;"}},
		{name: "many below", tree: map[string]string{
			"a/Chart.yaml": "", "b/Chart.yaml": "", "c/Chart.yaml": "", "d/Chart.yaml": "", "e/Chart.yaml": "", "f/Chart.yaml": "", "g/Chart.yaml": "", "h/Chart.yaml": "",
		}, err: []string{"8 charts lie below it: a, b, c, d, e, f, and 2 more;"}},
		{name: "sources below, taken in parts", tree: map[string]string{"chart/Chart.yaml": "", "a.yaml": ""}, parts: true, want: "plain",
			message: "!DIR is not a source itself, and 1 chart lies below it: chart; this applies to the files as they are, not to what these sources render to: name one of them, or write a pipeline"},
		{name: "sources below, taken as they are", tree: map[string]string{"chart/Chart.yaml": "", "a.yaml": ""}, explicit: "plain", want: "plain"},
		{name: "a component, a kustomization of Flux's, and what others made, below", tree: map[string]string{
			"a.yaml": "", "components/x/kustomization.yaml": "apiVersion: x\nkind: Component\n", "flux/kustomization.yaml": "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n",
			"vendor/x/Chart.yaml": "", ".hidden/Chart.yaml": "", "testdata/Chart.yaml": "",
		}, want: "plain"},
		{name: "a chart below, helm not installed", tree: map[string]string{"chart/Chart.yaml": ""}, known: finder{plain()}, err: []string{"1 chart lies below it: chart"}},
		{name: "a marker above", tree: map[string]string{"cue.mod/module.cue": "", "deploy/a.cue": ""}, path: "deploy", want: "cue", message: "interpreter cue: found ../cue.mod"},
		{name: "a marker above without its companion", tree: map[string]string{"cue.mod/module.cue": "", "deploy/a.yaml": ""}, path: "deploy", want: "plain"},
		{name: "a file", tree: map[string]string{"Chart.yaml": ""}, path: "Chart.yaml", want: "helm"},
		{name: "two", tree: map[string]string{"Chart.yaml": "", "kustomization.yaml": ""},
			err: []string{"helm (found Chart.yaml) and kustomize (found kustomization.yaml); say which interpreter reads it"}},
		{name: "two and a choice", tree: map[string]string{"Chart.yaml": "", "kustomization.yaml": ""}, explicit: "kustomize", want: "kustomize"},
		{name: "one that is not there", tree: map[string]string{"a.yaml": ""}, explicit: "kustomise", err: []string{`no interpreter "kustomise" (did you mean "kustomize"?)`}},
		{name: "a path", tree: map[string]string{"a.yaml": ""}, explicit: "./evil", err: []string{"neither an executable nor a path"}},
		{name: "not installed", tree: map[string]string{"kustomization.yaml": ""}, known: finder{plain()},
			err: []string{"kustomization.yaml needs the interpreter kustomize, which is not installed (there are: plain)"}},
		{name: "not installed, taken as it is", tree: map[string]string{"kustomization.yaml": ""}, explicit: "plain", known: finder{plain()}, want: "plain"},
		{name: "none at all", tree: map[string]string{"a.yaml": ""}, known: finder{helm}, err: []string{"no interpreter claims it", "helm"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newFolder(t, c.tree)
			o := source.Options{Interpreters: all}
			if c.known != nil {
				o.Interpreters = c.known
			}
			r, err := run(t, source.Config{Path: filepath.Join(dir, c.path), Interpreter: c.explicit, Parts: c.parts}, o)
			if c.err != nil {
				for _, want := range c.err {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("error %v, want one with %q", err, want)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.request.Interpreter.Name != c.want {
				t.Errorf("interpreter %q, want %q", r.request.Interpreter.Name, c.want)
			}
			c.message = strings.Replace(c.message, "DIR", dir, 1)
			if c.message != "" && !slices.Contains(r.messages, c.message) {
				t.Errorf("messages %q, want %q", r.messages, c.message)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	dir := newFolder(t, map[string]string{
		"cue.mod/module.cue": "", "deploy/a.cue": "", "plain/a.yaml": "", "chart/Chart.yaml": "", "charts/a.tgz": "",
	})
	d := interpreter.Description{Markers: []interpreter.Marker{
		{Name: "Chart.yaml"}, {Name: "*.tgz", File: true}, {Name: "cue.mod/", Above: true, With: "*.cue"},
	}}
	for path, want := range map[string]string{
		".": "", "deploy": "found ../cue.mod", "plain": "", "chart": "found Chart.yaml", "charts": "", "charts/a.tgz": "found a.tgz",
	} {
		if got, err := source.Claims(d, filepath.Join(dir, path), dir); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestRefusedInterpreter(t *testing.T) {
	dir := newFolder(t, tree)
	f := plain()
	lock := &source.Lock{File: "tape.lock", Required: true}
	other := &fake{description: f.description}
	other.description.Name = "other"
	_, err := run(t, source.Config{Path: dir, Interpreter: "other", Lock: lock}, source.Options{Interpreters: finder{other}})
	if err == nil || !strings.Contains(err.Error(), "interpreter other is not in tape.lock") || other.asked > 0 {
		t.Errorf("error %v, asked %d times", err, other.asked)
	}
}

// stale has its real description only once its checksum is known; before, it claims every
// source.
type stale struct {
	*fake
	settled bool
}

func (s *stale) Checksum(ctx context.Context) (digest.Digest, error) {
	s.settled = true
	return s.fake.Checksum(ctx)
}

func (s *stale) Describe(ctx context.Context) (interpreter.Description, error) {
	d, err := s.fake.Describe(ctx)
	if !s.settled {
		d.Markers = []interpreter.Marker{{Name: "*"}}
	}
	return d, err
}

type found []rendering.Interpreter

func (f found) Find(context.Context, string) (rendering.Interpreter, error) {
	return nil, errors.New("nobody named one")
}

func (f found) List(context.Context) ([]rendering.Interpreter, error) { return f, nil }

// An interpreter that was chosen by the description of another program is not used.
func TestStaleDescription(t *testing.T) {
	old := &stale{fake: &fake{description: interpreter.Description{Name: "old", Version: "2"}}}
	p := plain()
	dir := newFolder(t, map[string]string{"a.yaml": "kind: List\n"})
	if _, err := run(t, source.Config{Path: dir}, source.Options{Interpreters: found{old, p}}); err != nil {
		t.Fatal(err)
	}
	if !old.settled || old.asked > 0 || p.asked == 0 {
		t.Errorf("settled: %v; the old one was asked %d times and plain %d", old.settled, old.asked, p.asked)
	}
}

// eager records that it was started before its checksum was known.
type eager struct {
	*fake
	prepared bool
}

func (e *eager) Prepare(context.Context) { e.prepared = true }

// An interpreter may start before its checksum is known only if no lock states it.
func TestPrepare(t *testing.T) {
	dir := newFolder(t, map[string]string{"a.x": "a"})
	locked := source.LockedInterpreter{
		Version: "1", Checksums: map[string]digest.Digest{runtime.GOOS + "/" + runtime.GOARCH: digest.FromString("eager")},
	}
	for _, lock := range []*source.Lock{nil, {File: "tape.lock", Interpreters: map[string]source.LockedInterpreter{"eager": locked}}} {
		e := &eager{fake: &fake{description: interpreter.Description{
			Name: "eager", Version: "1", Markers: []interpreter.Marker{{Name: "*.x"}},
		}}}
		if _, err := run(t, source.Config{Path: dir, Lock: lock}, source.Options{Interpreters: found{e, plain()}}); err != nil {
			t.Fatal(err)
		}
		if e.asked == 0 || e.prepared != (lock == nil) {
			t.Errorf("lock %v: prepared is %v", lock, e.prepared)
		}
	}
}

func TestReference(t *testing.T) {
	dir := newFolder(t, map[string]string{"values/prod.yaml": "a: 1\n", "other": ""})
	helm := &fake{description: interpreter.Description{
		Name: "helm", Version: "1", References: []string{"oci", "https"},
		Options: json.RawMessage(`{"type": "object", "properties": {"values": {"type": "array", "items": {"type": "string", "format": "path"}}}}`),
	}}
	o := source.Options{Interpreters: finder{helm, plain()}}
	ref := "oci://user:secret@example.com/charts/shop:1.0"

	r := mustRun(t, source.Config{Path: ref}, o)
	want := vcs.Facts{Name: "shop:1.0", Reference: "oci://example.com/charts/shop:1.0", Repositories: []vcs.Repository{}, Files: []vcs.File{}, Modified: vcs.Unknown}
	if diff := cmp.Diff(want, r.facts); diff != "" {
		t.Error(diff)
	}
	if r.request.Reference != ref || r.request.Path != "" || len(r.files) != 0 || helm.asked != 0 {
		t.Errorf("request %+v, files %q, asked %d times", r.request, names(r), helm.asked)
	}

	r = mustRun(t, source.Config{Path: ref, Settings: []source.Setting{{Name: "values", Value: "prod.yaml", Base: filepath.Join(dir, "values")}}}, o)
	if got := names(r); !slices.Equal(got, []string{"prod.yaml"}) || string(r.request.Options) != `{"values":["prod.yaml"]}` {
		t.Errorf("files %q, options %s", got, r.request.Options)
	}
	if r.facts.Reference != want.Reference || len(r.facts.Files) != 1 {
		t.Errorf("facts %+v", r.facts)
	}

	if _, err := run(t, source.Config{Path: "ftp://user:secret@example.com/x"}, o); err == nil ||
		!strings.Contains(err.Error(), "no interpreter takes ftp:// sources") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
	if _, err := run(t, source.Config{Path: ref, Interpreter: "plain"}, o); err == nil || !strings.Contains(err.Error(), "does not take oci://") {
		t.Errorf("error %v", err)
	}
}

func TestBadSources(t *testing.T) {
	dir := newFolder(t, map[string]string{
		"empty/.git/stray": "", "dangling": "-> nowhere", "loop": "-> loop", "a.yaml": "", "closed/a.yaml": "",
	})
	for path, want := range map[string]string{
		"gone":              "no such file or folder",
		"empty":             "nothing in it to package",
		"dangling":          "leads to nowhere, which does not exist",
		"loop":              "too many links",
		"a.yaml/b":          "not a directory",
		"ghcr.io/acme/shop": "spelled oci://",
	} {
		t.Run(path, func(t *testing.T) {
			config := source.Config{Path: filepath.Join(dir, path)}
			if strings.Contains(path, ".io") {
				config.Path = path
			}
			_, err := run(t, config, source.Options{Interpreters: finder{plain()}})
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), config.Path) {
				t.Errorf("error %v, want one with %q", err, want)
			}
		})
	}
	if _, err := run(t, source.Config{}, source.Options{Interpreters: finder{plain()}}); err == nil {
		t.Error("no error without a path")
	}
}

func TestLinks(t *testing.T) {
	for _, c := range []struct {
		name     string
		tree     map[string]string
		git      bool
		needs    []string
		exact    bool
		want     map[string]string
		messages []string
		err      string
	}{
		{
			name: "inside", git: true,
			tree: map[string]string{"src/a.yaml": "-> ../common/a.yaml", "src/dir": "-> ../common", "common/a.yaml": "a"},
			want: map[string]string{"src/a.yaml": "a", "src/dir/a.yaml": "a"},
		}, {
			name: "outside the folder, without a repository",
			tree: map[string]string{"src/a.yaml": "-> ../common/a.yaml", "common/a.yaml": "a"},
			want: map[string]string{"src/a.yaml": "a"},
		}, {
			name: "through several", git: true,
			tree: map[string]string{"src/a": "-> ../l1/l2/a.yaml", "l1": "-> real/l1", "real/l1/l2": "-> ../../end", "end/a.yaml": "a"},
			want: map[string]string{"src/a": "a"},
		}, {
			name: "dangling", git: true,
			tree:     map[string]string{"src/a.yaml": "a", "src/b.yaml": "-> nowhere", "src/c.yaml": "-> /nowhere/at/all"},
			want:     map[string]string{"src/a.yaml": "a"},
			messages: []string{"!the symbolic link src/b.yaml leads to nowhere, which does not exist: it is left out", "!the symbolic link src/c.yaml leads to /nowhere/at/all, which does not exist: it is left out"},
		}, {
			name: "a loop of folders", git: true,
			tree:     map[string]string{"src/a.yaml": "a", "src/b/up": "-> ../../src", "src/b/b.yaml": "b"},
			want:     map[string]string{"src/a.yaml": "a", "src/b/b.yaml": "b"},
			messages: []string{"!src/b/up is left out: the symbolic link leads to a folder that contains it"},
		}, {
			name: "a loop of links", git: true,
			tree:     map[string]string{"src/a.yaml": "a", "src/x": "-> y", "src/y": "-> x"},
			want:     map[string]string{"src/a.yaml": "a"},
			messages: []string{"!the symbolic link src/x leads to y, and so back to itself: it is left out", "!the symbolic link src/y leads to x, and so back to itself: it is left out"},
		}, {
			name: "outside", git: true,
			tree: map[string]string{"src/a.yaml": "-> ../../../../../../../../../../../../../../../../etc/hosts"},
			err:  "the symbolic link src/a.yaml leads to ../",
		}, {
			name: "outside, absolute, without a repository",
			tree: map[string]string{"src/a.yaml": "-> /etc/hosts"},
			err:  "leads to /etc/hosts, which is outside",
		}, {
			name: "outside, but not needed", git: true, exact: true, needs: []string{"a.yaml"},
			tree: map[string]string{"src/a.yaml": "a", "src/etc": "-> /etc"},
			want: map[string]string{"src/a.yaml": "a"},
		}, {
			name: "dangling, and needed", git: true, needs: []string{"b.yaml"},
			tree: map[string]string{"src/a.yaml": "a", "src/b.yaml": "-> nowhere"},
			err:  "src/b.yaml leads to nowhere",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newFolder(t, c.tree)
			if c.git {
				initRepository(t, dir)
			}
			f := plain()
			f.inputs = func(req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
				resp, err := needs(c.needs...)(req)
				resp.Exact = c.exact
				return resp, err
			}
			r, err := run(t, source.Config{Path: filepath.Join(dir, "src")}, source.Options{Interpreters: finder{f}})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, r.files); diff != "" {
				t.Error(diff)
			}
			var warnings []string
			for _, m := range r.messages {
				if strings.HasPrefix(m, "!") {
					warnings = append(warnings, m)
				}
			}
			if diff := cmp.Diff(c.messages, warnings); diff != "" {
				t.Error(diff)
			}
			if c.git && r.facts.Modified != vcs.No {
				t.Errorf("modified %s", r.facts.Modified)
			}
		})
	}
}

// A name with a line end would break every output that contains it.
func TestNameWithLineEnd(t *testing.T) {
	dir := newFolder(t, map[string]string{"new\nline.yaml": "3"})
	if _, err := run(t, source.Config{Path: dir}, source.Options{Interpreters: finder{plain()}}); err == nil || !strings.Contains(err.Error(), `file name "new\nline.yaml"`) {
		t.Errorf("error %v", err)
	}
}

func TestOddNames(t *testing.T) {
	want := map[string]string{"a b/ü ✓.yaml": "1", `back\slash.yaml`: "2", "-x.yaml": "4", "%41.yaml": "5"}
	dir := newFolder(t, want)
	r := mustRun(t, source.Config{Path: dir}, source.Options{Interpreters: finder{plain()}})
	if diff := cmp.Diff(want, r.files); diff != "" {
		t.Error(diff)
	}
}

func TestLimits(t *testing.T) {
	dir := newFolder(t, tree)
	for _, limits := range []files.Limits{{Files: 2, Bytes: 1 << 20}, {Files: 100, Bytes: 3}} {
		_, err := run(t, source.Config{Path: dir}, source.Options{Interpreters: finder{plain()}, Limits: limits})
		if err == nil || !strings.Contains(err.Error(), "point tape at the folder") {
			t.Errorf("%+v: error %v", limits, err)
		}
	}
}

const optionsSchema = `{
	"type": "object", "additionalProperties": false,
	"properties": {
		"values": {"type": "array", "items": {"type": "string", "format": "path"}},
		"files": {"type": "array", "items": {"type": "string", "format": "key=path"}},
		"release": {"type": "string", "maxLength": 5},
		"replicas": {"type": "integer"},
		"crds": {"type": "boolean"},
		"password": {"type": "string", "writeOnly": true, "pattern": "^x"},
		"registry": {"$ref": "#/$defs/registry"}
	},
	"$defs": {"registry": {"type": "object", "properties": {"user": {"type": "string"}, "token": {"type": "string", "writeOnly": true}}}}
}`

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name     string
		options  string
		settings []source.Setting
		want     string
		shown    string // where it differs
		err      []string
	}{
		{name: "none", want: `{}`},
		{name: "as given", options: `{"replicas": 3, "crds": false}`, want: `{"crds":false,"replicas":3}`},
		{name: "paths", options: `{"values": ["../values/a.yaml"]}`, want: `{"values":["values/a.yaml"]}`},
		{name: "paths with keys", options: `{"files": ["x.y=../values/a.yaml"]}`, want: `{"files":["x.y=values/a.yaml"]}`},
		{name: "settings by type", settings: []source.Setting{
			{Name: "replicas", Value: "3"}, {Name: "crds", Value: "true"}, {Name: "release", Value: "7"}, {Name: "registry", Value: `{"user": "a"}`},
		}, want: `{"crds":true,"registry":{"user":"a"},"release":"7","replicas":3}`},
		{name: "lists of settings replace a list and add to it", options: `{"values": ["../values/a.yaml"]}`, settings: []source.Setting{
			{Name: "values", Value: "b.yaml", Base: "../values"}, {Name: "values", JSON: json.RawMessage(`["../values/a.yaml"]`)},
		}, want: `{"values":["values/b.yaml","values/a.yaml"]}`},
		{name: "a later setting wins", settings: []source.Setting{{Name: "release", Value: "a"}, {Name: "release", Value: "b"}}, want: `{"release":"b"}`},
		{name: "secrets", options: `{"password": "xyz", "registry": {"user": "a", "token": "t"}}`,
			want: `{"password":"xyz","registry":{"token":"t","user":"a"}}`, shown: `{"registry":{"user":"a"}}`},
		{name: "unknown", options: `{"relase": "a"}`, err: []string{`there is no option "relase" (did you mean "release"?)`}},
		{name: "unknown and unlike", options: `{"zzzzzzzz": "a"}`, err: []string{`there is no option "zzzzzzzz" (there are: crds, files, `}},
		{name: "unknown setting", settings: []source.Setting{{Name: "valuess", Value: "a"}}, err: []string{`did you mean "values"?`}},
		{name: "wrong types", options: `{"values": [1], "crds": "yes"}`, err: []string{"option values[0] must be a string, not an integer", "option crds must be a boolean, not a string"}},
		{name: "wrong setting", settings: []source.Setting{{Name: "replicas", Value: "three"}}, err: []string{"option replicas: want integer"}},
		{name: "too long", options: `{"release": "abcdef"}`, err: []string{"option release: maxLength"}},
		{name: "a wrong secret", options: `{"password": "hunter2"}`, err: []string{"option password: its value is not allowed"}},
		{name: "a path that is not there", options: `{"values": ["gone.yaml"]}`, err: []string{"option values[0]", "gone.yaml does not exist"}},
		{name: "a path outside", options: `{"values": ["/etc/hosts"]}`, err: []string{"option values[0]: /etc/hosts is outside"}},
		{name: "no object", options: `["a"]`, err: []string{"want an object"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newFolder(t, map[string]string{"pipe/x": "", "src/a.yaml": "a", "values/a.yaml": "1", "values/b.yaml": "2"})
			initRepository(t, dir)
			f := plain()
			f.description.Options = json.RawMessage(optionsSchema)
			r, err := run(t, source.Config{Path: "../src", Options: json.RawMessage(c.options), Settings: c.settings},
				source.Options{Interpreters: finder{f}, Folder: filepath.Join(dir, "pipe")})
			if c.err != nil {
				for _, want := range c.err {
					if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
						t.Errorf("error %v, want one with %q", err, want)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			shown := c.shown
			if shown == "" {
				shown = c.want
			}
			if got := string(r.request.Options); got != c.want || string(f.requests[0].Options) != c.want {
				t.Errorf("options %s, asked with %s, want %s", got, f.requests[0].Options, c.want)
			}
			if got := string(r.request.Shown); got != shown {
				t.Errorf("shown %s, want %s", got, shown)
			}
			if strings.Contains(c.want, "values/a.yaml") && r.files["values/a.yaml"] != "1" {
				t.Errorf("the file that an option names is no input: %q", names(r))
			}
		})
	}
}

// An interpreter without a schema takes no options.
func TestNoOptions(t *testing.T) {
	dir := newFolder(t, tree)
	_, err := run(t, source.Config{Path: dir, Options: json.RawMessage(`{"a": 1}`)}, source.Options{Interpreters: finder{plain()}})
	if err == nil || !strings.Contains(err.Error(), `interpreter plain: there is no option "a"`) {
		t.Errorf("error %v", err)
	}
}

func TestDiagnostics(t *testing.T) {
	dir := newFolder(t, tree)
	f := plain()
	diagnostics := []interpreter.Diagnostic{
		{Severity: interpreter.Warning, Summary: "old field", File: "a.yaml"},
		{Severity: interpreter.Error, Summary: "no such base", File: "kustomization.yaml", Line: 3, Column: 5},
		{Severity: interpreter.Error, Summary: "bad", Detail: "first\nsecond"},
	}
	f.inputs = func(*interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
		return &interpreter.InputsResponse{Diagnostics: diagnostics}, nil
	}
	_, err := run(t, source.Config{Path: dir}, source.Options{Interpreters: finder{f}})
	if want := "interpreter plain: " + dir + "/kustomization.yaml:3:5: no such base\nbad:\n  first\n  second"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	diagnostics = diagnostics[:1]
	r := mustRun(t, source.Config{Path: dir}, source.Options{Interpreters: finder{f}})
	if diff := cmp.Diff(diagnostics, r.request.Diagnostics); diff != "" {
		t.Error(diff)
	}
}

// An interpreter is asked once about an unchanged source.
func TestMemory(t *testing.T) {
	dir := newFolder(t, tree)
	f := plain()
	f.description.Environment = []string{"MODE"}
	f.inputs = needs("../../base")
	mode := "a"
	o := source.Options{
		Interpreters: finder{f}, Memory: cache.Open(t.TempDir()),
		LookupEnv: func(name string) (string, bool) { return mode, name == "MODE" },
	}
	config := source.Config{Path: filepath.Join(dir, "apps/shop")}

	first := mustRun(t, config, o)
	asked := f.asked
	second := mustRun(t, config, o)
	if f.asked != asked {
		t.Errorf("asked again although nothing changed")
	}
	if diff := cmp.Diff(first, second, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("the second run differs: %s", diff)
	}
	for _, c := range []struct {
		what   string
		change func()
	}{
		{"a file", func() { write(t, dir, map[string]string{"apps/shop/deploy.yaml": "changed"}) }},
		{"a file elsewhere", func() { write(t, dir, map[string]string{"base/x.yaml": "changed"}) }},
		{"a new file", func() { write(t, dir, map[string]string{"base/new.yaml": ""}) }},
		{"a file less", func() { os.Remove(filepath.Join(dir, "base/new.yaml")) }},
		{"the environment", func() { mode = "b" }},
	} {
		c.change()
		asked = f.asked
		changed := mustRun(t, config, o)
		if f.asked == asked {
			t.Errorf("%s changed and nobody asked again", c.what)
		}
		asked = f.asked
		if diff := cmp.Diff(changed, mustRun(t, config, o), cmp.AllowUnexported(result{})); diff != "" || f.asked != asked {
			t.Errorf("after %s: asked %d times, %s", c.what, f.asked-asked, diff)
		}
	}
}

// An interpreter that reads a folder in part is asked again when files are added or removed
// there, or next to a file elsewhere that it named.
func TestMemoryOfParts(t *testing.T) {
	dir := newFolder(t, tree)
	f := plain()
	f.inputs = func(req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
		resp, err := needs("deploy.yaml", "../../base/x.yaml")(req)
		resp.Exact = true
		return resp, err
	}
	o := source.Options{Interpreters: finder{f}, Memory: cache.Open(t.TempDir())}
	config := source.Config{Path: filepath.Join(dir, "apps/shop")}
	r := mustRun(t, config, o)
	if got, want := names(r), []string{"apps/shop/deploy.yaml", "base/x.yaml"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	for _, c := range []struct {
		file  string
		again bool
	}{{"apps/shop/b/c/new.yaml", true}, {"base/new.yaml", true}, {"base/deeper/new.yaml", true}, {"base/deeper/another.yaml", false}, {"apps/new.yaml", false}} {
		write(t, dir, map[string]string{c.file: ""})
		asked := f.asked
		mustRun(t, config, o)
		if again := f.asked > asked; again != c.again {
			t.Errorf("after %s: asked again %v, want %v", c.file, again, c.again)
		}
	}
	asked := f.asked
	write(t, dir, map[string]string{"apps/shop/b/svc.yaml": "changed"})
	if mustRun(t, config, o); f.asked != asked {
		t.Error("asked again after a change to a file that is not taken")
	}
}

func TestCancelled(t *testing.T) {
	dir := newFolder(t, tree)
	stage, err := source.New(source.Config{Path: dir}, source.Options{Interpreters: finder{plain()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	if _, err := (stagetest.Case{Stage: stage}).Run(ctx); !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
}

func TestKind(t *testing.T) {
	kind := source.Kind(source.Options{Interpreters: finder{plain()}})
	stage, err := kind.New(json.RawMessage(fmt.Sprintf(`{"path": %q, "settings": [{"name": "x", "value": "1"}]}`, newFolder(t, tree))))
	if err != nil {
		t.Fatal(err)
	}
	_, err = stagetest.Case{Stage: stage}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), `no option "x"`) {
		t.Errorf("error %v", err)
	}
	if _, err := kind.New(json.RawMessage(`{"path": ""}`)); err == nil {
		t.Error("a source without a path is taken")
	}
}
