// SPDX-License-Identifier: Apache-2.0

// Package render implements the render stage: an interpreter renders a source to
// manifests.
//
//	files        files, the source and what it needs
//	request      rendering.Request
//	→ manifests  the rendered files, below Config.Folder
//	→ rendering  rendering.Rendering: how they were made
//
// The stage is cached, unless the interpreter fetched something remote that is not
// locked by digest: the next run fetches that again.
package render

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/rendering"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config configures the stage.
type Config struct {
	// Folder is the folder of the manifests, or "" for the top.
	Folder string `json:"folder,omitempty"`
	// Deterministic renders twice and fails if the results differ.
	Deterministic bool `json:"deterministic,omitempty"`
	// Lock lists what may be fetched. If it is nil, there is no lock, and materials that are
	// missing from it cause no warning.
	Lock *Lock `json:"lock,omitempty"`
}

// Lock contains the digests of the materials that a render may fetch.
type Lock struct {
	Materials []interpreter.Material `json:"materials"`
	// Required makes fetching anything that is not in the lock an error.
	Required bool `json:"required,omitempty"`
}

// Options are the dependencies of all render stages of a run.
type Options struct {
	Interpreters rendering.Interpreters
	// Registries configures how interpreters reach registries; nil means the defaults.
	Registries *interpreter.Registries
	// LookupEnv returns the environment variables that interpreters ask for; nil means
	// os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// TempDir is the folder that the source is written to for the interpreter. If empty, the
	// source is in memory if there is enough, or else in the system's temporary folder.
	TempDir string
	// NewDir makes the working folder if TempDir is empty; if nil, it is made in the system's
	// temporary folder. The stage removes the folder, unless the process is killed.
	NewDir func() (string, error)
}

// Kind describes the stage to the table of stages.
func Kind(o Options) pipeline.Kind {
	return pipeline.Kind{
		Name:    "render",
		Help:    "render a source to manifests with its interpreter",
		Inputs:  []pipeline.Port{{Name: "files"}, {Name: "request"}},
		Outputs: []string{"manifests", "rendering"},
		Schema:  configSchema,
		Needs:   []engine.Need{engine.NeedInterpreters},
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, o) }),
	}
}

// Stage is the render stage. It renders one source.
type Stage struct {
	config Config
	o      Options
}

// New returns the stage, or an error if config.Folder is not a valid name.
func New(config Config, o Options) (*Stage, error) {
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	if config.Folder != "" {
		if err := files.CheckName(config.Folder); err != nil {
			return nil, fmt.Errorf("folder of the manifests: %w", err)
		}
	}
	if config.Lock != nil {
		lock := *config.Lock
		lock.Materials = slices.Clone(lock.Materials)
		slices.SortFunc(lock.Materials, byURI)
		config.Lock = &lock // sorted, so that equal locks have the same key
	}
	return &Stage{config: config, o: o}, nil
}

// Key covers the configuration. Everything else that affects the result (the interpreter's
// checksum, options, variables and files) is in the inputs.
func (s *Stage) Key(context.Context, *engine.Task) (digest.Digest, error) {
	key, err := engine.MarshalJSON(struct {
		Kind   string
		Config Config
	}{"render/3", s.config})
	return digest.FromBytes(key), err
}

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var request rendering.Request
	if err := engine.GetJSON(ctx, t.Store, t.Inputs["request"], rendering.MediaTypeRequest, &request); err != nil {
		return nil, err
	}
	if err := request.Reveal(ctx, t); err != nil {
		return nil, err
	}
	secret, err := s.secrets(ctx, request)
	if err != nil {
		return nil, err
	}
	out, err := s.run(ctx, t, request, secret)
	if err != nil {
		placed := rendering.Placed(err)
		err = secret.Error(err)
		// Errors of calls to the interpreter already begin with its name.
		if name := "interpreter " + request.Interpreter.Name; !strings.HasPrefix(err.Error(), name) {
			err = fmt.Errorf("%s: %w", name, err)
		}
		if what := cmp.Or(rendering.PublicURI(request.Reference), request.Path); !placed && what != "." {
			err = fmt.Errorf("%s: %w", what, err)
		}
		return nil, err
	}
	return out, nil
}

// secrets returns a Redactor for the secrets in the options of a request and in the
// variables that the interpreter gets.
func (s *Stage) secrets(ctx context.Context, request rendering.Request) (rendering.Redactor, error) {
	var variables []string
	if request.Environment != "" {
		i, err := s.o.Interpreters.Find(ctx, request.Interpreter.Name)
		if err != nil {
			return rendering.Redactor{}, err
		}
		d, err := i.Describe(ctx)
		if err != nil {
			return rendering.Redactor{}, err
		}
		variables = rendering.Variables(s.o.LookupEnv, d.Environment)
	}
	return rendering.Secrets(request.Options, request.Shown, variables...)
}

func (s *Stage) run(ctx context.Context, t *engine.Task, request rendering.Request, secret rendering.Redactor) (engine.Outputs, error) {
	i, err := s.o.Interpreters.Find(ctx, request.Interpreter.Name)
	if err != nil {
		return nil, err
	}
	sum, err := i.Checksum(ctx)
	if err != nil {
		return nil, err
	}
	if sum != request.Checksum {
		return nil, errors.New("the interpreter was replaced during the run: run tape again")
	}
	source, err := files.Get(ctx, t.Store, t.Inputs["files"])
	if err != nil {
		return nil, err
	}
	resp, err := s.render(ctx, i, request, source)
	if err != nil {
		return nil, err
	}
	if s.config.Deterministic {
		again, err := s.render(ctx, i, request, source)
		if err != nil {
			return nil, fmt.Errorf("render a second time: %w", err)
		}
		if err := same(resp.Files, again.Files); err != nil {
			return nil, err
		}
	}

	doc := rendering.Rendering{
		Source: request.Source, Path: request.Path, Reference: rendering.PublicURI(request.Reference), Folder: s.config.Folder,
		Interpreter: request.Interpreter, Checksum: request.Checksum, Options: request.Shown,
		Diagnostics: []interpreter.Diagnostic{}, Files: []rendering.File{},
	}
	var locked bool
	if doc.Materials, locked, err = s.materials(t, resp.Materials); err != nil {
		return nil, err
	}
	if !locked {
		t.DoNotKeep()
	}
	for _, d := range slices.Concat(request.Diagnostics, resp.Diagnostics) {
		doc.Diagnostics = append(doc.Diagnostics, secret.Diagnostic(d))
	}
	report(t, doc.Diagnostics)

	sources := make(map[string][]byte, len(source))
	for _, f := range source {
		sources[f.Name] = f.Data
	}
	manifests := make([]files.File, len(resp.Files))
	for n, f := range resp.Files {
		name := path.Join(s.config.Folder, f.Path)
		manifests[n] = files.File{Name: name, Data: f.Data}
		rendered := rendering.File{Path: name, Digest: digest.FromBytes(f.Data)}
		if data, ok := sources[f.Origin]; ok {
			rendered.Origin, rendered.Same = f.Origin, bytes.Equal(data, f.Data)
		}
		doc.Files = append(doc.Files, rendered)
	}
	slices.SortFunc(doc.Files, func(a, b rendering.File) int { return strings.Compare(a.Path, b.Path) })

	outputs := engine.Outputs{}
	if outputs["manifests"], err = files.Put(ctx, t.Store, manifests); err != nil {
		return nil, err
	}
	outputs["rendering"], err = engine.PutJSON(ctx, t.Store, rendering.MediaTypeRendering, doc)
	return outputs, err
}

// Replay reports the diagnostics of a cached rendering again.
func (s *Stage) Replay(ctx context.Context, t *engine.Task, outputs engine.Outputs) error {
	var doc rendering.Rendering
	if err := engine.GetJSON(ctx, t.Store, outputs["rendering"], rendering.MediaTypeRendering, &doc); err != nil {
		return err
	}
	report(t, doc.Diagnostics)
	return nil
}

// report reports diagnostics that are not errors.
func report(t *engine.Task, all []interpreter.Diagnostic) {
	for _, d := range all {
		e := engine.Event{Level: engine.Warning, Message: rendering.Text(d)}
		if d.Severity == interpreter.Info {
			e.Level = engine.Note
		}
		t.Report(e)
	}
}

// render calls the interpreter once and checks its answer.
func (s *Stage) render(ctx context.Context, i rendering.Interpreter, request rendering.Request, source []files.File) (*interpreter.RenderResponse, error) {
	req := &interpreter.RenderRequest{
		Path: request.Path, Reference: request.Reference, Options: request.Options,
		Registries: s.o.Registries,
	}
	if s.config.Lock != nil {
		req.Materials = s.config.Lock.Materials
	}
	resp, err := s.call(ctx, i, req, source)
	if err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := rendering.Problems(resp.Diagnostics); err != nil {
		return nil, err
	}
	if len(resp.Files) == 0 {
		return nil, errors.New("the source renders to no manifests")
	}
	seen := map[string]bool{}
	for _, f := range resp.Files {
		if err := files.CheckName(f.Path); err != nil {
			return nil, fmt.Errorf("invalid answer of the interpreter: %w", err)
		}
		if seen[f.Path] {
			return nil, fmt.Errorf("invalid answer of the interpreter: it has the file %q twice", f.Path)
		}
		seen[f.Path] = true
	}
	return resp, nil
}

// call passes the source to the interpreter, either in memory if the interpreter supports that,
// or as a folder that is removed afterwards.
func (s *Stage) call(ctx context.Context, i rendering.Interpreter, req *interpreter.RenderRequest, source []files.File) (resp *interpreter.RenderResponse, err error) {
	if m, ok := i.(rendering.FromMemory); ok {
		in := make([]interpreter.File, len(source))
		for n, f := range source {
			in[n] = interpreter.File{Path: f.Name, Data: f.Data}
		}
		return m.RenderFiles(ctx, req, in)
	}
	room, err := layOut(ctx, s.o.TempDir, s.o.NewDir, source)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, room.remove()) }()
	req.Scratch = room.scratch
	if req.Reference == "" || len(source) > 0 {
		req.Source = room.source
	}
	return i.Render(ctx, req)
}

// materials checks what was fetched against the lock. It returns the materials, sorted
// and without duplicates, and whether all of them are locked.
func (s *Stage) materials(t *engine.Task, fetched []interpreter.Material) (out []interpreter.Material, locked bool, err error) {
	lock, digests := s.config.Lock, map[string]string{}
	if lock != nil {
		for _, m := range lock.Materials {
			digests[m.URI] = m.Digest
		}
	}
	out, locked = []interpreter.Material{}, true
	for _, m := range fetched {
		m.URI = rendering.PublicURI(m.URI)
		if algorithm, hex, _ := strings.Cut(m.Digest, ":"); m.URI == "" || algorithm == "" || hex == "" {
			return nil, false, fmt.Errorf("invalid answer of the interpreter: it fetched %q with digest %q", m.URI, m.Digest)
		}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, byURI)
	for _, m := range out {
		want, ok := digests[m.URI]
		switch {
		case ok && want != m.Digest:
			return nil, false, advice.Add(fmt.Errorf("%s has digest %s, but tape.lock has %s", m.URI, m.Digest, want), advice.Update, "materials")
		case ok:
		case lock != nil && lock.Required:
			return nil, false, advice.Add(fmt.Errorf("%s (%s) is not in tape.lock", m.URI, m.Digest), advice.Update, "materials")
		default:
			locked = false
			if lock != nil {
				t.Report(engine.Event{Level: engine.Warning, Message: fmt.Sprintf("%s (%s) is not in tape.lock", m.URI, m.Digest)})
			}
		}
	}
	return out, locked, nil
}

func byURI(a, b interpreter.Material) int {
	return cmp.Or(strings.Compare(a.URI, b.URI), strings.Compare(a.Digest, b.Digest))
}

// same returns an error that names the files and lines that differ between two renderings. It
// does not show the lines, because they may be generated secrets.
func same(first, second []interpreter.File) error {
	const most = 10
	one, two := byPath(first), byPath(second)
	var differ []string
	for name, data := range one {
		again, ok := two[name]
		switch {
		case !ok:
			differ = append(differ, name+" exists only the first time")
		case !bytes.Equal(data, again):
			differ = append(differ, fmt.Sprintf("%s differs from rendered line %d", name, 1+bytes.Count(data[:common(data, again)], []byte("\n"))))
		}
	}
	for name := range two {
		if _, ok := one[name]; !ok {
			differ = append(differ, name+" exists only the second time")
		}
	}
	if differ == nil {
		return nil
	}
	slices.Sort(differ)
	if more := len(differ) - most; more > 0 {
		differ = append(differ[:most], fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("the source does not render the same twice: %s", strings.Join(differ, "; "))
}

func byPath(all []interpreter.File) map[string][]byte {
	out := make(map[string][]byte, len(all))
	for _, f := range all {
		out[f.Path] = f.Data
	}
	return out
}

// common returns the length of the common prefix of a and b.
func common(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

var (
	_ engine.Keyer    = (*Stage)(nil)
	_ engine.Replayer = (*Stage)(nil)
)
