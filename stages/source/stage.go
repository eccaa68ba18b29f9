// SPDX-License-Identifier: Apache-2.0

// Package source implements the source stage: it determines what a source is, which interpreter
// renders it and which files that needs, and reads exactly these.
//
// It has no inputs. Its outputs are files (a tar of the files, relative to the root), facts
// ([vcs.Facts] about them) and request ([rendering.Request] for the render stage). No output is
// kept between runs. Only the files that an interpreter asked for are remembered, so that no
// interpreter is started while they are unchanged.
//
// # Root
//
// Nothing outside the root is read. It is the top of the git repository that the source, or the
// pipeline file, is in. Without a repository it is the folder of the pipeline file, and without a
// pipeline file the smallest folder that contains everything that the interpreter asks for, but
// never the home folder or one above it.
//
// # Links
//
// The tar has no links: the target of a symbolic link takes the place of the link. A link that
// dangles or leads to itself is left out with a warning; one that leads outside the root is
// an error.
package source

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/vcs"
)

// fallbackName is the interpreter of sources that no other interpreter claims.
const fallbackName = "plain"

//go:embed config.schema.json
var configSchema json.RawMessage

// Config is the configuration of a source in a pipeline.
type Config struct {
	// Name is the name of the source; by default the last element of Path.
	Name string `json:"name,omitempty"`
	// Path is a folder, a file, or a remote reference (scheme://…). An existing file takes
	// precedence over a reference.
	Path string `json:"path"`
	// Interpreter is the name of the interpreter; if empty, it is found by the files.
	Interpreter string `json:"interpreter,omitempty"`
	// Options is an object with the options of the interpreter.
	Options json.RawMessage `json:"options,omitempty"`
	// Environment is the environment that the source is rendered for, or "" if the pipeline has
	// none.
	Environment string `json:"environment,omitempty"`
	// Settings are further options, which override Options.
	Settings []Setting `json:"settings,omitempty"`
	// Parts allows a folder that no interpreter claims and that contains sources. It is read as
	// plain manifests, with a warning.
	Parts bool `json:"parts,omitempty"`
	// Lock contains the locked interpreters and files; nil if there is no lock.
	Lock *Lock `json:"lock,omitempty"`
}

// Setting is one option by name: a text that is parsed as the type of the option, or a JSON
// value. A later setting replaces an earlier one of the same name, or is appended to it if the
// option is a list.
type Setting struct {
	Name  string          `json:"name"`
	Value string          `json:"value,omitempty"`
	JSON  json.RawMessage `json:"json,omitempty"`
	// Base is the folder that a path in the value is relative to; by default the folder that
	// Config.Path is relative to.
	Base string `json:"base,omitempty"`
}

// Options are shared by all sources of a run.
type Options struct {
	Interpreters rendering.Interpreters
	// Folder is the folder of the pipeline file. Paths are relative to it, and only files in it,
	// or in its repository, are read. If it is empty, there is no pipeline file, and paths are
	// relative to the working directory.
	Folder string
	// Memory keeps the answers of interpreters between runs; if nil, interpreters are asked in
	// every run. If it fails, the next run only takes longer.
	Memory engine.Cache
	// Repositories are git repositories that stay open between runs; if nil, they are opened for
	// each run.
	Repositories *vcs.Opened
	// LookupEnv looks up the variables that interpreters ask for; nil means os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Limits are the limits of one source; zero means [files.DefaultLimits].
	Limits files.Limits
}

// Kind describes the stage to the table of stages.
func Kind(o Options) pipeline.Kind {
	return pipeline.Kind{
		Name:    "source",
		Help:    "read exactly the files that a render will read, and find out where they come from",
		Outputs: []string{"files", "facts", "request"},
		Schema:  configSchema,
		Needs:   []engine.Need{engine.NeedFiles, engine.NeedInterpreters},
		Secrets: o.secrets,
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, o) }),
	}
}

// Stage reads one source.
type Stage struct {
	config Config
	o      Options
}

var interpreterName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// New returns the stage. It does not read anything.
func New(config Config, o Options) (*Stage, error) {
	if config.Path == "" {
		return nil, errors.New("a source needs a path")
	}
	if config.Interpreter != "" && !interpreterName.MatchString(config.Interpreter) {
		return nil, fmt.Errorf("interpreter %q: name one that is installed; neither an executable nor a path is accepted, "+
			"so that a file in a repository cannot choose which program runs", config.Interpreter)
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	if o.Limits == (files.Limits{}) {
		o.Limits = files.DefaultLimits()
	}
	return &Stage{config: config, o: o}, nil
}

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	out, err := s.run(ctx, t)
	if err != nil && !rendering.Placed(err) {
		err = about(shown(s.config.Path), err)
	}
	return out, err
}

// about adds the subject to an error, and to each mistake in the options.
func about(what string, err error) error {
	if what == "." { // it adds nothing to the name of the node
		return err
	}
	mistakes, ok := errors.AsType[engine.OptionErrors](err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	out := make(engine.OptionErrors, len(mistakes))
	for i, m := range mistakes {
		out[i] = &engine.OptionError{Path: m.Path, Err: fmt.Errorf("%s: %w", what, m.Err)}
	}
	return out
}

// Check implements [engine.Checker]. It checks that the source exists, that an interpreter claims
// it, and that the options are valid. It does not start an interpreter whose description is
// recorded.
func (s *Stage) Check(ctx context.Context) error {
	at, found, given, err := s.settle(ctx, func(engine.Event) {})
	if err == nil {
		_, _, err = found.placed(given, &at)
	}
	if err != nil {
		return about(shown(s.config.Path), err)
	}
	return nil
}

// settle determines the source, its interpreter and its options.
func (s *Stage) settle(ctx context.Context, report func(engine.Event)) (place, *found, map[string]any, error) {
	at, err := locate(s.config.Path, s.o.Folder)
	if err != nil {
		return place{}, nil, nil, engine.Mistaken("path", err)
	}
	found, err := s.find(ctx, report, &at)
	if err != nil {
		return place{}, nil, nil, err
	}
	given, err := s.options(found.schema)
	if err != nil {
		return place{}, nil, nil, about("interpreter "+found.Name(), err)
	}
	return at, found, given, nil
}

func (s *Stage) run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	at, found, given, err := s.settle(ctx, t.Report)
	if err != nil {
		return nil, err
	}
	if err := found.schema.refused(t.Node.Config); err != nil {
		return nil, err
	}
	taken, err := s.take(ctx, t, at, found, given)
	if err != nil {
		return nil, err
	}

	request := rendering.Request{
		Source:      s.name(),
		Path:        taken.at.path,
		Interpreter: rendering.Interpreted{Name: found.description.Name, Version: found.description.Version},
		Checksum:    found.checksum,
		Environment: s.environment(found.description.Environment),
		Diagnostics: taken.diagnostics,
	}
	if request.Shown, err = found.schema.shown(taken.options); err != nil {
		return nil, err
	}
	if at.reference != "" {
		request.Path = ""
	}
	if err := request.Conceal(ctx, t, at.reference, taken.options); err != nil {
		return nil, err
	}
	facts, warnings, err := taken.facts(ctx, request.Source, s.locked(), s.o.Repositories)
	if err != nil {
		return nil, err
	}
	facts.Environment = s.config.Environment
	for _, w := range slices.Concat(taken.warnings, warnings) {
		t.Report(engine.Event{Level: engine.Warning, Message: w})
	}
	t.Report(engine.Event{Current: int64(len(taken.inputs)), Total: int64(len(taken.inputs)), Unit: "files"})

	outputs := engine.Outputs{}
	if outputs["files"], err = engine.Put(ctx, t.Store, files.MediaType, taken.tar); err != nil {
		return nil, err
	}
	if outputs["facts"], err = engine.PutJSON(ctx, t.Store, vcs.MediaType, facts); err != nil {
		return nil, err
	}
	outputs["request"], err = engine.PutJSON(ctx, t.Store, rendering.MediaTypeRequest, request)
	return outputs, err
}

// name returns the name of the source.
func (s *Stage) name() string {
	if s.config.Name != "" {
		return s.config.Name
	}
	p := s.config.Path
	if strings.Contains(p, "://") {
		p = shown(p)
	} else if abs, err := filepath.Abs(filepath.Join(s.o.Folder, p)); err == nil {
		p = abs
	}
	return filepath.Base(p)
}

// where returns the path of the source relative to the working directory.
func (s *Stage) where() string {
	if filepath.IsAbs(s.config.Path) {
		return s.config.Path
	}
	return filepath.Join(s.o.Folder, s.config.Path)
}

// environment returns a digest of the variables that are set, including their names.
func (s *Stage) environment(names []string) digest.Digest {
	var set strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		if value, ok := s.o.LookupEnv(name); ok {
			fmt.Fprintf(&set, "%s=%s\x00", name, value)
		}
	}
	if set.Len() == 0 {
		return ""
	}
	return digest.FromString(set.String())
}

// shown returns a path or reference in a form that may be printed and published.
func shown(path string) string {
	if strings.Contains(path, "://") {
		return cmp.Or(vcs.CleanURL(path), "(a reference that does not parse)")
	}
	return path
}

// log returns the log, which is never nil.
func log(t *engine.Task) *slog.Logger {
	if t.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return t.Log
}

// found is the interpreter that will render the source, or a candidate whose checksum and schema
// are not known yet.
type found struct {
	rendering.Interpreter
	claim
	checksum    digest.Digest
	description interpreter.Description
	schema      schema
}

// placed calls [schema.placed] with the schema of the interpreter.
func (f *found) placed(options map[string]any, at *place) (json.RawMessage, []string, error) {
	raw, inputs, err := f.schema.placed(options, at)
	if err != nil {
		err = about("interpreter "+f.Name(), err)
	}
	return raw, inputs, err
}
