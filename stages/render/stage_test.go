// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/render"
	"github.com/taped-dev/tape/stages/rendering"
)

type answer func(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error)

// fake is an interpreter that is found under any name and renders what the test specifies.
type fake struct{ answer }

func (fake) Name() string { return "fake" }

func (fake) Checksum(context.Context) (digest.Digest, error) {
	return digest.FromString("fake"), nil
}

func (fake) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{}, errors.New("render needs no description")
}

func (fake) Inputs(context.Context, *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return nil, errors.New("render asks for no inputs")
}

func (f fake) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	return f.answer(ctx, req)
}

func (f fake) Find(context.Context, string) (rendering.Interpreter, error) { return f, nil }

func (f fake) List(context.Context) ([]rendering.Interpreter, error) {
	return []rendering.Interpreter{f}, nil
}

// inMemory is a fake that implements rendering.FromMemory.
type inMemory struct{ fake }

func (f inMemory) RenderFiles(_ context.Context, req *interpreter.RenderRequest, source []interpreter.File) (*interpreter.RenderResponse, error) {
	if req.Source != "" || req.Scratch != "" {
		return nil, errors.New("there are folders")
	}
	return &interpreter.RenderResponse{Files: source}, nil
}

func (f inMemory) Find(context.Context, string) (rendering.Interpreter, error) { return f, nil }

var request = rendering.Request{
	Source: "shop", Path: "apps/shop",
	Interpreter: rendering.Interpreted{Name: "fake", Version: "1.2"},
	Checksum:    digest.FromString("fake"),
	Options:     json.RawMessage(`{"a":1}`), Shown: json.RawMessage(`{"a":1}`),
}

var source = []files.File{{Name: "apps/shop/a.yaml", Data: []byte("a: 1\n")}, {Name: "base/b.yaml", Data: []byte("b: 1\n")}}

func newCase(t *testing.T, config render.Config, o render.Options, r rendering.Request) stagetest.Case {
	t.Helper()
	if o.TempDir == "" {
		o.TempDir = t.TempDir()
	}
	stage, err := render.New(config, o)
	if err != nil {
		t.Fatal(err)
	}
	var tar bytes.Buffer
	if err := files.Write(&tar, source); err != nil {
		t.Fatal(err)
	}
	doc, err := stagetest.JSON(rendering.MediaTypeRequest, r)
	if err != nil {
		t.Fatal(err)
	}
	return stagetest.Case{Stage: stage, Inputs: map[string]stagetest.Blob{
		"files": {MediaType: files.MediaType, Data: tar.Bytes()}, "request": doc,
	}}
}

// result decodes the outputs of the stage and returns its warnings.
func result(t *testing.T, r *stagetest.Result) (manifests map[string]string, doc rendering.Rendering, warnings []string) {
	t.Helper()
	list, err := files.Unpack(r.Outputs["manifests"].Data)
	if err != nil {
		t.Fatal(err)
	}
	manifests = map[string]string{}
	for _, f := range list {
		manifests[f.Name] = string(f.Data)
	}
	if err := r.Outputs["rendering"].Decode(&doc); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Events {
		if e.Level == engine.Warning {
			warnings = append(warnings, e.Message)
		}
	}
	return manifests, doc, warnings
}

func one(data string) *interpreter.RenderResponse {
	return &interpreter.RenderResponse{Files: []interpreter.File{{Path: "out.yaml", Data: []byte(data)}}}
}

func TestStage(t *testing.T) {
	temp := t.TempDir()
	render := render.Options{TempDir: temp, Interpreters: fake{func(_ context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
		// The source has exactly the inputs, read-only, and scratch is empty.
		var seen []string
		err := filepath.WalkDir(req.Source, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil || info.Mode()&0o222 != 0 {
				return fmt.Errorf("%s has mode %s, %w", name, info.Mode(), err)
			}
			if !entry.IsDir() {
				rel, _ := filepath.Rel(req.Source, name)
				seen = append(seen, filepath.ToSlash(rel))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !slices.Equal(seen, []string{"apps/shop/a.yaml", "base/b.yaml"}) {
			return nil, fmt.Errorf("source has %q", seen)
		}
		if err := os.WriteFile(filepath.Join(req.Scratch, "x"), nil, 0o400); err != nil {
			return nil, err
		}
		return &interpreter.RenderResponse{
			Files: []interpreter.File{{Path: "z.yaml", Data: []byte("z")}, {Path: "b/a.yaml", Data: []byte(req.Path + string(req.Options))}},
			Diagnostics: []interpreter.Diagnostic{
				{Severity: interpreter.Warning, Summary: "old field", File: "apps/shop/a.yaml", Line: 3, Column: 1},
				{Severity: interpreter.Info, Summary: "nice"},
			},
		}, nil
	}}}
	c := newCase(t, configFor("shop"), render, request)
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	manifests, doc, warnings := result(t, r)
	if diff := cmp.Diff(map[string]string{"shop/z.yaml": "z", "shop/b/a.yaml": `apps/shop{"a":1}`}, manifests); diff != "" {
		t.Error(diff)
	}
	want := rendering.Rendering{
		Source: "shop", Path: "apps/shop", Folder: "shop", Interpreter: request.Interpreter, Checksum: request.Checksum,
		Options: request.Shown, Materials: []interpreter.Material{},
		Diagnostics: []interpreter.Diagnostic{
			{Severity: interpreter.Warning, Summary: "old field", File: "apps/shop/a.yaml", Line: 3, Column: 1},
			{Severity: interpreter.Info, Summary: "nice"},
		},
		Files: []rendering.File{
			{Path: "shop/b/a.yaml", Digest: digest.FromString(`apps/shop{"a":1}`)},
			{Path: "shop/z.yaml", Digest: digest.FromString("z")},
		},
	}
	if diff := cmp.Diff(want, doc); diff != "" {
		t.Error(diff)
	}
	if want := []string{"apps/shop/a.yaml:3:1: old field"}; !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func configFor(folder string) render.Config { return render.Config{Folder: folder} }

func TestFromMemory(t *testing.T) {
	c := newCase(t, render.Config{}, render.Options{Interpreters: inMemory{}}, request)
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	manifests, _, _ := result(t, r)
	if diff := cmp.Diff(map[string]string{"apps/shop/a.yaml": "a: 1\n", "base/b.yaml": "b: 1\n"}, manifests); diff != "" {
		t.Error(diff)
	}
}

func TestReference(t *testing.T) {
	r := request
	r.Path, r.Reference = "", "oci://user:secret@example.com/shop:1"
	c := newCase(t, render.Config{}, render.Options{Interpreters: fake{func(_ context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
		return one(req.Reference + req.Path), nil
	}}}, r)
	out, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	manifests, doc, _ := result(t, out)
	if manifests["out.yaml"] != r.Reference || doc.Reference != "oci://example.com/shop:1" {
		t.Errorf("asked with %q, recorded %q", manifests["out.yaml"], doc.Reference)
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	file := func(paths ...string) answer {
		return func(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
			var resp interpreter.RenderResponse
			for _, p := range paths {
				resp.Files = append(resp.Files, interpreter.File{Path: p})
			}
			return &resp, nil
		}
	}
	for _, c := range []struct {
		name   string
		answer answer
		want   []string
	}{
		{"outside", file("../x.yaml"), []string{"apps/shop: interpreter fake", `"../x.yaml"`}},
		{"absolute", file("/x.yaml"), []string{`"/x.yaml"`}},
		{"not clean", file("a/../x.yaml"), []string{`"a/../x.yaml"`}},
		{"twice", file("x.yaml", "x.yaml"), []string{`"x.yaml" twice`}},
		{"file and folder", file("x", "x/y.yaml"), []string{"both a file and a folder"}},
		{"nothing", file(), []string{"no manifest"}},
		{"mistakes", func(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
			return &interpreter.RenderResponse{Diagnostics: []interpreter.Diagnostic{
				{Severity: interpreter.Error, Summary: "no such value", File: "a.yaml", Line: 1, Column: 2},
				{Severity: interpreter.Warning, Summary: "old"},
				{Severity: interpreter.Error, Summary: "nor this", Detail: "x", File: "b.yaml", Line: 7},
			}}, nil
		}, []string{"a.yaml:1:2: no such value\nb.yaml:7: nor this: x"}},
		{"an error", func(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
			return nil, errors.New("out of order")
		}, []string{"out of order"}},
		{"a material without digest", func(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
			resp := one("x")
			resp.Materials = []interpreter.Material{{URI: "https://example.com/x"}}
			return resp, nil
		}, []string{"https://example.com/x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			temp := t.TempDir()
			_, err := newCase(t, render.Config{}, render.Options{Interpreters: fake{c.answer}, TempDir: temp}, request).Run(t.Context())
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestReplacedInterpreter(t *testing.T) {
	r := request
	r.Checksum = digest.FromString("another")
	_, err := newCase(t, render.Config{}, render.Options{Interpreters: fake{}}, r).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("error %v", err)
	}
}

func TestDeterministic(t *testing.T) {
	times := func(answers ...[]interpreter.File) (render.Options, *int) {
		n := 0
		return render.Options{Interpreters: fake{func(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
			n++
			return &interpreter.RenderResponse{Files: answers[(n-1)%len(answers)]}, nil
		}}}, &n
	}
	first := []interpreter.File{{Path: "a.yaml", Data: []byte("x\ny: hunter2\n")}, {Path: "b.yaml", Data: []byte("b")}}
	second := []interpreter.File{{Path: "a.yaml", Data: []byte("x\ny: hunter3\n")}, {Path: "c.yaml", Data: []byte("b")}}

	o, n := times(first, second)
	_, err := newCase(t, render.Config{Deterministic: true}, o, request).Run(t.Context())
	want := "a.yaml differs from rendered line 2; b.yaml exists only the first time; c.yaml exists only the second time"
	if err == nil || !strings.HasSuffix(err.Error(), want) || *n != 2 {
		t.Errorf("error %v after %d times, want %s", err, *n, want)
	}
	o, n = times(first, []interpreter.File{first[1], first[0]}) // the order does not matter
	if _, err := newCase(t, render.Config{Deterministic: true}, o, request).Run(t.Context()); err != nil || *n != 2 {
		t.Errorf("error %v after %d times", err, *n)
	}
	o, n = times(first, second)
	if _, err := newCase(t, render.Config{}, o, request).Run(t.Context()); err != nil || *n != 1 {
		t.Errorf("error %v after %d times", err, *n)
	}
}

func TestMaterials(t *testing.T) {
	chart := interpreter.Material{URI: "oci://example.com/chart:1", Digest: "sha256:aa"}
	for _, c := range []struct {
		name    string
		fetched []interpreter.Material
		lock    []interpreter.Material
		locked  bool
		kept    bool
		want    []interpreter.Material
		warning string
		err     string
	}{
		{name: "none", kept: true, want: []interpreter.Material{}},
		{name: "no lock", fetched: []interpreter.Material{chart}, want: []interpreter.Material{chart}},
		{name: "locked", fetched: []interpreter.Material{chart, chart}, lock: []interpreter.Material{chart}, locked: true, kept: true, want: []interpreter.Material{chart}},
		{name: "not in the lock", fetched: []interpreter.Material{chart}, lock: []interpreter.Material{}, want: []interpreter.Material{chart}, warning: "oci://example.com/chart:1 (sha256:aa) is not in tape.lock"},
		{name: "not in the lock, and it must be", fetched: []interpreter.Material{chart}, lock: []interpreter.Material{}, locked: true, err: "is not in tape.lock"},
		{name: "otherwise in the lock", fetched: []interpreter.Material{chart}, lock: []interpreter.Material{{URI: chart.URI, Digest: "sha256:bb"}},
			err: "oci://example.com/chart:1 has digest sha256:aa, but tape.lock has sha256:bb"},
		{name: "with credentials", fetched: []interpreter.Material{{URI: "https://u:hunter2@example.com/x.tgz?sig=hunter3", Digest: "sha256:aa"}},
			want: []interpreter.Material{{URI: "https://example.com/x.tgz", Digest: "sha256:aa"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := render.Options{Interpreters: fake{func(_ context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
				if diff := cmp.Diff(c.lock, req.Materials); diff != "" {
					return nil, fmt.Errorf("locked materials are not passed on: %s", diff)
				}
				resp := one("x")
				resp.Materials = c.fetched
				return resp, nil
			}}}
			var config render.Config
			if c.lock != nil {
				config.Lock = &render.Lock{Materials: c.lock, Required: c.locked}
			}
			cs := newCase(t, config, o, request)
			out, err := cs.Run(t.Context())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, doc, warnings := result(t, out)
			if diff := cmp.Diff(c.want, doc.Materials); diff != "" {
				t.Error(diff)
			}
			if got := strings.Join(warnings, "; "); got != c.warning {
				t.Errorf("warnings %q, want %q", got, c.warning)
			}
			if kept := runTwice(t, cs); kept != c.kept {
				t.Errorf("kept %v, want %v", kept, c.kept)
			}
		})
	}
}

// given is a stage whose outputs are the given blobs.
type given map[string]stagetest.Blob

func (g given) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	out := engine.Outputs{}
	for name, blob := range g {
		var err error
		if out[name], err = engine.Put(ctx, t.Store, blob.MediaType, blob.Data); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// runTwice runs a case twice through the engine and reports whether the second run used
// the cached result of the first.
func runTwice(t *testing.T, c stagetest.Case) bool {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g, err := engine.NewGraph(
		engine.Node{Name: "source", Kind: "source"},
		engine.Node{Name: "render", Kind: "render", Inputs: map[string]engine.Ref{"files": "source.files", "request": "source.request"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	kinds := engine.Stages{
		"source": func(json.RawMessage) (engine.Stage, error) { return given(c.Inputs), nil },
		"render": func(json.RawMessage) (engine.Stage, error) { return c.Stage, nil },
	}
	var last *engine.Result
	for range 2 {
		if last, err = engine.Run(t.Context(), g, engine.Options{Executor: kinds, Store: s, Cache: s.Cache()}); err != nil {
			t.Fatal(err)
		}
	}
	return last.Nodes[1].State == engine.Cached
}

// A cached rendering repeats its warnings.
func TestReplay(t *testing.T) {
	c := newCase(t, render.Config{}, render.Options{Interpreters: fake{func(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
		resp := one("x")
		resp.Diagnostics = []interpreter.Diagnostic{{Severity: interpreter.Warning, Summary: "old"}}
		return resp, nil
	}}}, request)
	if !runTwice(t, c) {
		t.Error("a rendering with warnings is not kept")
	}
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var events []engine.Event
	task := &engine.Task{Store: r.Store, Report: func(e engine.Event) { events = append(events, e) }}
	if err := c.Stage.(engine.Replayer).Replay(t.Context(), task, r.Descriptors); err != nil {
		t.Fatal(err)
	}
	if len(events) != 1 || events[0].Message != "old" || events[0].Level != engine.Warning {
		t.Errorf("events %+v", events)
	}
}

// Options that are writeOnly in the schema reach the interpreter, but no output, message
// or key.
func TestSecrets(t *testing.T) {
	r := request
	r.Options = json.RawMessage(`{"name":"shop","password":"hunter2","registry":{"token":"hunter22","user":"bob"}}`)
	r.Shown = json.RawMessage(`{"name":"shop","registry":{"user":"bob"}}`)
	fails := false
	o := render.Options{Interpreters: fake{func(_ context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
		if !strings.Contains(string(req.Options), "hunter22") {
			return nil, errors.New("the secret does not arrive")
		}
		if fails {
			return nil, errors.New("cannot log in with hunter22")
		}
		resp := one("x")
		resp.Diagnostics = []interpreter.Diagnostic{{Severity: interpreter.Warning, Summary: "hunter2 is a poor password", Detail: "so is hunter22, bob"}}
		return resp, nil
	}}}
	c := newCase(t, render.Config{}, o, r)
	out, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, blob := range out.Outputs {
		if bytes.Contains(blob.Data, []byte("hunter")) {
			t.Errorf("output %s has the secret: %s", name, blob.Data)
		}
	}
	_, _, warnings := result(t, out)
	if want := []string{"(secret) is a poor password: so is (secret), bob"}; !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	fails = true
	if _, err := c.Run(t.Context()); err == nil || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "cannot log in") {
		t.Errorf("error %v", err)
	}
}

func TestKey(t *testing.T) {
	key := func(config render.Config, o render.Options) digest.Digest {
		s, err := render.New(config, o)
		if err != nil {
			t.Fatal(err)
		}
		key, err := s.Key(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	a, b := interpreter.Material{URI: "a", Digest: "x:1"}, interpreter.Material{URI: "b", Digest: "x:2"}
	locked := func(materials ...interpreter.Material) render.Config {
		return render.Config{Lock: &render.Lock{Materials: materials}}
	}
	keys := []digest.Digest{
		key(render.Config{}, render.Options{}),
		key(render.Config{Folder: "x"}, render.Options{}),
		key(render.Config{Deterministic: true}, render.Options{}),
		key(locked(a, b), render.Options{}),
		key(locked(a), render.Options{}),
	}
	for i, k := range keys {
		if k.Validate() != nil || slices.Contains(keys[:i], k) {
			t.Errorf("key %d is %q", i, k)
		}
	}
	if k := key(locked(b, a), render.Options{TempDir: "/elsewhere"}); k != keys[3] {
		t.Error("the order of the lock, or the temporary folder, is in the key")
	}
}

func TestCancelled(t *testing.T) {
	temp := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	c := newCase(t, render.Config{}, render.Options{TempDir: temp, Interpreters: fake{func(ctx context.Context, _ *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
		cancel(reason)
		return nil, context.Cause(ctx)
	}}}, request)
	if _, err := c.Run(ctx); !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFolder(t *testing.T) {
	for _, folder := range []string{"../x", "/x", "a/../b"} {
		if _, err := render.New(render.Config{Folder: folder}, render.Options{}); err == nil {
			t.Errorf("folder %q is taken", folder)
		}
	}
}
