// SPDX-License-Identifier: Apache-2.0

// Package app is the library behind the tape command: [Package], [Images], [Render] and so on do
// what the commands of the same names do. Functions that render expand a pipeline (the default
// one, or a tape.yaml merged over it), and run its graph in the engine. The others read an
// existing application.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages"
	"github.com/taped-dev/tape/stages/render"
	"github.com/taped-dev/tape/stages/source"
	"github.com/taped-dev/tape/stages/vcs"
)

// kinds returns the kinds of stages for a pipeline file in a folder, in addition to those of the
// environment.
func (o *Options) kinds(folder string) []pipeline.Kind {
	d := stages.Dependencies{
		Source: source.Options{
			Interpreters: o.interpreters(), Folder: folder,
		},
		Render:   render.Options{Interpreters: o.interpreters(), Registries: o.Registries, NewDir: o.TempDir},
		Origins:  o.origins(),
		Folder:   folder,
		Signer:   o.Signer,
		Registry: o.Registry,
	}
	if o.Pipeline != "" {
		d.Top = projectTop(folder)
	}
	if o.Together != nil {
		d.Shared, d.Source.Repositories = &o.Together.blobs, &o.Together.repositories
	}
	d.Given, _ = o.seenFrom(folder) // pipeline reports the error
	if o.Store != nil {
		d.Source.Memory = o.Store.Cache()
	}
	return slices.Concat(stages.Kinds(d), o.Kinds)
}

// Stages returns an executor for nodes of a graph that another process made. Paths in their
// configuration are relative to folder.
func Stages(env Environment, folder string) engine.Stages {
	o := Options{Environment: env}
	out := engine.Stages{}
	for _, kind := range o.kinds(folder) {
		out[kind.Name] = kind.New
	}
	return out
}

// prepare is like pipeline, but for a run, so it also opens the store.
func (o *Options) prepare(ctx context.Context) (*pipeline.Pipeline, error) {
	var err error
	if o.Store, err = o.OpenStore(ctx); err != nil {
		return nil, err
	}
	return o.pipeline()
}

// pipeline reads the pipeline file, or makes a pipeline from the sources, and applies the other
// options.
func (o *Options) pipeline() (*pipeline.Pipeline, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	lock, err := o.lock()
	if err != nil {
		return nil, err
	}
	var folder string
	if o.Pipeline != "" {
		folder = filepath.Dir(o.Pipeline)
	}
	schemas := new(pipeline.Schemas)
	if o.Together != nil {
		schemas = &o.Together.schemas
	}
	table, err := schemas.NewTable(stages.Default(), o.kinds(folder)...)
	if err != nil {
		return nil, err
	}
	var p *pipeline.Pipeline
	if o.Pipeline != "" {
		if err := checkProjectFile(o.Pipeline); err != nil {
			return nil, fmt.Errorf("read pipeline: %w", err)
		}
		data, err := regular.ReadFile(o.Pipeline)
		if errors.Is(err, os.ErrNotExist) {
			return nil, advice.Add(fmt.Errorf("there is no %s", o.Pipeline), advice.NamePipeline)
		}
		if err != nil {
			return nil, fmt.Errorf("read pipeline: %w", err)
		}
		if p, err = table.Parse(o.Pipeline, data); err != nil {
			return nil, err
		}
	} else {
		p = table.New()
		if err := o.setSources(p); err != nil {
			return nil, err
		}
	}
	p.SetEnvironments(o.Environments...)
	digests := lock.digests()
	if o.digests != nil {
		digests = o.digests
	}
	if digests != nil {
		err = errors.Join(err, p.With("resolve", "digests", digests), p.With("resolve", "locked", lock.locked))
	}
	for path, v := range map[string]string{"images.platform": o.Platform, "images.related": o.Related} {
		if v != "" {
			err = errors.Join(err, p.Set(path, v))
		}
	}
	if materials := lock.materials(); materials != nil || lock.locked {
		err = errors.Join(err, p.With("render", "lock", render.Lock{Materials: materials, Required: lock.locked}))
	}
	if used := lock.source(); used != nil {
		err = errors.Join(err, p.With("source", "lock", used))
	}
	if len(o.From) > 0 {
		seen, seenErr := o.seenFrom(folder)
		err = errors.Join(err, seenErr, p.Set("images.from", seen))
	}
	for _, option := range []struct {
		on         bool
		node, name string
	}{
		{o.Deterministic, "render", "deterministic"}, {o.SkipInvalid, "scan", "skipInvalid"}, {o.SkipSealed, "scan", "skipSealed"},
	} {
		if option.on {
			err = errors.Join(err, p.With(option.node, option.name, true))
		}
	}
	return p, err
}

// seenFrom returns the places of images that are not in a registry, with paths relative to a
// folder.
func (o *Options) seenFrom(folder string) (map[string]local.Place, error) {
	seen := map[string]local.Place{}
	for reference, place := range o.From {
		var err error
		if seen[reference], err = place.SeenFrom(folder); err != nil {
			return nil, fmt.Errorf("image %s from %s: %w", reference, place, err)
		}
	}
	return seen, nil
}

// projectTop returns the folder that links of a pipeline file must not leave: its repository or,
// if it is not in one, its own folder.
func projectTop(folder string) string {
	real, err := filepath.Abs(folder)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return folder
	}
	if top, ok := vcs.FindTop(real); ok {
		return top
	}
	return real
}

// checkProjectFile checks a pipeline file or its lock, which may be a symbolic link that came
// with the repository.
func checkProjectFile(file string) error {
	err := regular.Inside(file, projectTop(filepath.Dir(file)))
	if errors.Is(err, os.ErrNotExist) {
		return nil // reading it reports that
	}
	return err
}

func (o *Options) setSources(p *pipeline.Pipeline) error {
	var list []pipeline.Source
	for _, s := range o.Sources {
		path := s.Path
		if !utf8.ValidString(path) {
			return fmt.Errorf("source %q: its name is not UTF-8; rename it, or package . in it", path)
		}
		// "." has no name of its own. The name of a single source is only shown as progress.
		// Among several sources it is a folder in the content, which must not depend on the name
		// of the folder of the clone.
		if s.Name == "" && len(o.Sources) == 1 && !strings.Contains(path, "://") {
			abs, err := filepath.Abs(path)
			if err != nil {
				return fmt.Errorf("source %s: %w", path, err)
			}
			s.Name = sourceName(filepath.Base(abs))
		}
		list = append(list, pipeline.Source{Name: s.Name, Path: path, Interpreter: s.Interpreter})
	}
	if len(o.Sources) == 1 && len(o.Sources[0].Settings) > 0 {
		if err := p.With("source", "settings", o.Sources[0].Settings); err != nil {
			return err
		}
	}
	return p.SetSources(list...)
}

// sourceName returns a name that is valid for a folder in the content and as the ID of a node.
func sourceName(base string) string {
	return cmp.Or(strings.TrimLeft(notInNames.ReplaceAllString(base, "-"), "._-"), "app")
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// run builds the graph of the targets and runs it. The result contains all messages, even if
// there is an error.
func (o *Options) run(ctx context.Context, p *pipeline.Pipeline, targets ...string) (made, error) {
	result, _, err := o.traced(ctx, p, targets...)
	return result, err
}

// traced is like run, but names the origins of rendered files in all messages.
func (o *Options) traced(ctx context.Context, p *pipeline.Pipeline, targets ...string) (made, *origins, error) {
	expanded, err := o.expand(ctx, p)
	if err != nil {
		return made{}, nil, err
	}
	return o.carryOut(ctx, expanded, targets...)
}

// expand expands a pipeline for a run.
func (o *Options) expand(ctx context.Context, p *pipeline.Pipeline) (*pipeline.Expanded, error) {
	if err := o.describe(p); err != nil {
		return nil, err
	}
	expanded, err := p.Expand(ctx, o.Args)
	return expanded, fromOptions(err)
}

// carryOut runs the targets of an expanded pipeline and their dependencies.
func (o *Options) carryOut(ctx context.Context, expanded *pipeline.Expanded, targets ...string) (made, *origins, error) {
	graph, err := expanded.Graph(targets...)
	if err != nil {
		return made{}, nil, fromOptions(err)
	}
	var executor engine.Executor = expanded.Stages()
	if o.Executor != nil {
		executor = o.Executor(expanded.Stages())
	}
	if executor, err = o.gated(ctx, executor); err != nil {
		return made{}, nil, err
	}
	from := &origins{
		Executor: executor, place: o.placeOf, unused: expanded.Unused,
		sources: map[string]string{}, rendered: map[string]origin{}, words: words{}, made: map[digest.Digest]bool{}, reported: map[string]bool{},
	}
	run := engine.Options{
		Executor: from, Secrets: expanded.Secrets(o.Secrets), Workers: o.Workers, Log: o.Log, Events: o.Events, NoCache: o.NoCache, Strict: o.Strict,
		Results: results(graph, targets),
	}
	o.results(&run)
	result, err := engine.Run(ctx, graph, run)
	if o.Strict && len(result.Warnings) > 0 {
		err = errors.New("a warning is an error in a strict run:\n  " + strings.Join(made{result}.warnings(), "\n  "))
	}
	return made{result}, from, o.audited(expanded.Placed(err))
}

// describe sets what an artifact records about how it was made, which the pipeline must not
// choose.
func (o *Options) describe(p *pipeline.Pipeline) error {
	err := p.With("attest", "version", o.Version)
	if o.Created.IsZero() {
		return err
	}
	for _, node := range []string{"content", "attest", "index"} {
		err = errors.Join(err, p.With(node, "created", o.Created))
	}
	return err
}

// unpushed returns the nodes that do not write to registries and do not depend on a node that
// does. The stages in harmless count as stages that do not write.
func (o *Options) unpushed(ctx context.Context, p *pipeline.Pipeline, harmless ...string) ([]string, error) {
	graph, err := p.Build(ctx, o.Args)
	if err != nil {
		return nil, fromOptions(err)
	}
	return graph.WithoutEffects(harmless...), nil
}
