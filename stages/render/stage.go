// SPDX-License-Identifier: Apache-2.0

// Package render implements the stage render: it has an interpreter turn a
// source into manifests.
//
// Its inputs are files and request of the stage source. Its outputs are
// manifests (a tar of what was rendered, below the source's folder where there
// are several sources) and rendering ([rendering.Rendering]: how that was done).
// Both are kept between runs, unless something remote was fetched that is not
// locked by digest: then the next run fetches it again.
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
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/rendering"
)

//go:embed config.schema.json
var configSchema json.RawMessage

// Config is what a pipeline says of a rendering.
type Config struct {
	// Folder that the manifests stand in; "" is the top.
	Folder string `json:"folder,omitempty"`
	// Deterministic renders twice and fails where the results differ.
	Deterministic bool `json:"deterministic,omitempty"`
	// Lock says what may be fetched; nil where there is no lock, so that nothing
	// is reported as missing from it.
	Lock *Lock `json:"lock,omitempty"`
}

// Lock is what is known of the materials that a rendering fetches.
type Lock struct {
	Materials []interpreter.Material `json:"materials"`
	// Required makes what is not in the lock an error.
	Required bool `json:"required,omitempty"`
}

// Options are what every rendering of a run stands on.
type Options struct {
	Interpreters rendering.Interpreters
	// Registries says how interpreters reach registries; nil means as usual.
	Registries *interpreter.Registries
	// LookupEnv is where the variables come from that interpreters ask for; nil
	// is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// TempDir is where the source is laid out for the interpreter; "" is in memory
	// where there is room, else the system's.
	TempDir string
	// NewDir makes the folder to work in where there is no TempDir; nil makes one
	// of the system's. What it makes is removed, but not where the process is killed.
	NewDir func() (string, error)
}

// Kind is the stage's entry in the table of stages.
func Kind(o Options) pipeline.Kind {
	return pipeline.Kind{
		Name:    "render",
		Help:    "have the interpreter turn a source into manifests",
		Inputs:  []pipeline.Port{{Name: "files"}, {Name: "request"}},
		Outputs: []string{"manifests", "rendering"},
		Schema:  configSchema,
		Needs:   []engine.Need{engine.NeedInterpreters},
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, o) }),
	}
}

// Stage renders one source.
type Stage struct {
	config Config
	o      Options
}

// New makes the stage.
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
		config.Lock = &lock // sorted, so that it has one key
	}
	return &Stage{config: config, o: o}, nil
}

// Key covers the configuration, in which the lock is sorted. All else that counts
// (the interpreter with its checksum, options, variables and files) is in the
// inputs.
func (s *Stage) Key(context.Context, *engine.Task) (digest.Digest, error) {
	key, err := engine.MarshalJSON(struct {
		Kind   string
		Config Config
	}{"render/3", s.config})
	if err != nil {
		return "", err
	}
	return digest.FromBytes(key), nil
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
		// What a call to the interpreter came to says by itself whose it was.
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

// secrets are what must not be told of a request: of its options, and of the variables
// that the interpreter gets.
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
		return nil, errors.New("the interpreter was replaced while tape ran: run again")
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
			return nil, fmt.Errorf("second time: %w", err)
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

// Replay says again what there was to say about a rendering that was kept.
func (s *Stage) Replay(ctx context.Context, t *engine.Task, outputs engine.Outputs) error {
	var doc rendering.Rendering
	if err := engine.GetJSON(ctx, t.Store, outputs["rendering"], rendering.MediaTypeRendering, &doc); err != nil {
		return err
	}
	report(t, doc.Diagnostics)
	return nil
}

// report tells of diagnostics that are no errors.
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
		return nil, errors.New("it renders to nothing: there is no manifest in it")
	}
	seen := map[string]bool{}
	for _, f := range resp.Files {
		if err := files.CheckName(f.Path); err != nil {
			return nil, fmt.Errorf("the interpreter's answer is refused: %w", err)
		}
		if seen[f.Path] {
			return nil, fmt.Errorf("the interpreter's answer is refused: it has the file %q twice", f.Path)
		}
		seen[f.Path] = true
	}
	return resp, nil
}

// call hands the source to the interpreter: from memory to one in this process
// that can read it there, else as a folder that is gone afterwards.
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

// materials checks what was fetched against the lock and says whether all of it
// is locked.
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
			return nil, false, fmt.Errorf("the interpreter's answer is refused: it fetched %q with digest %q", m.URI, m.Digest)
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
			return nil, false, fmt.Errorf("%s has digest %s, and tape.lock says %s: 'tape package --update=materials' accepts the new one", m.URI, m.Digest, want)
		case ok:
		case lock != nil && lock.Required:
			return nil, false, fmt.Errorf("%s (%s) is not in tape.lock: 'tape package --update=materials' adds it", m.URI, m.Digest)
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

// same says where two renderings differ, by file and line; not what stands
// there, which may well be a secret that was made up.
func same(first, second []interpreter.File) error {
	const most = 10
	one, two := byPath(first), byPath(second)
	var differ []string
	for _, f := range first {
		data, ok := two[f.Path]
		switch {
		case !ok:
			differ = append(differ, f.Path+" is there only the first time")
		case !bytes.Equal(f.Data, data):
			differ = append(differ, fmt.Sprintf("%s differs from rendered line %d", f.Path, 1+bytes.Count(f.Data[:common(f.Data, data)], []byte("\n"))))
		}
	}
	for _, f := range second {
		if _, ok := one[f.Path]; !ok {
			differ = append(differ, f.Path+" is there only the second time")
		}
	}
	if differ == nil {
		return nil
	}
	slices.Sort(differ)
	if more := len(differ) - most; more > 0 {
		differ = append(differ[:most], fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("it does not render the same twice: %s", strings.Join(differ, "; "))
}

func byPath(all []interpreter.File) map[string][]byte {
	out := make(map[string][]byte, len(all))
	for _, f := range all {
		out[f.Path] = f.Data
	}
	return out
}

// common is how many bytes two texts begin with alike.
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
