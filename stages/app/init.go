// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/app/internal/newfile"
	"github.com/taped-dev/tape/stages/artifact"
)

// InitOptions are what Init takes.
type InitOptions struct {
	Environment
	// Dir is looked at, and gets the file.
	Dir string
	// Repository to push to; "" writes an example.
	Repository string
	// Force replaces a file that is there.
	Force bool
}

// InitResult is the pipeline file that was written.
type InitResult struct {
	File     string `json:"file"`
	Pipeline string `json:"pipeline"` // its content
}

// Init looks at a folder and writes a tape.yaml that packs what is in it.
func Init(ctx context.Context, o InitOptions) (*InitResult, error) {
	var err error
	if o.Store, err = o.kept(ctx); err != nil {
		return nil, err
	}
	if info, err := os.Stat(o.Dir); err != nil || !info.IsDir() {
		return nil, usagef("%s is no folder: name the one that the application lies in", o.Dir)
	}
	if o.Repository != "" {
		if err := artifact.CheckRepository(o.Repository); err != nil {
			return nil, asUsage(err)
		}
	}
	file := filepath.Join(o.Dir, PipelineFile)
	if _, err := os.Lstat(file); err == nil && !o.Force {
		return nil, newfile.Exists(file)
	}
	f, err := newFinder(ctx, o.Interpreters, o.Dir, cmp.Or(o.Log, slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	found, err := f.find(ctx)
	if err != nil {
		return nil, err
	}
	if len(found.sources) == 0 {
		return nil, fmt.Errorf("nothing to pack in %s: no interpreter claims a folder, and there are no manifests (.yaml, .yml, .json)", o.Dir)
	}
	sources, failed, err := o.rendering(ctx, f, found.sources)
	if err != nil {
		return nil, err
	}
	name(sources)
	data := o.text(sources, failed, found)

	if err := newfile.Write(file, data, o.Force); err != nil {
		return nil, fmt.Errorf("write pipeline: %w", err)
	}
	return &InitResult{File: file, Pipeline: data}, nil
}

// text is the pipeline.
func (o *InitOptions) text(sources []claimedSource, failed failures, found candidates) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\n", pipeline.APIVersion, pipeline.FileKind)
	if len(sources) > 1 {
		b.WriteString("# All of these go into one artifact: remove what is not wanted.\n")
	}
	b.WriteString("sources:\n")
	for _, s := range sources {
		fmt.Fprintf(&b, "  - path: %s\n    interpreter: %s", newfile.Quote(s.Path), s.Interpreter)
		if len(s.also) > 0 {
			fmt.Fprintf(&b, "  # or %s", strings.Join(s.also, ", "))
		}
		b.WriteByte('\n')
		if len(sources) > 1 {
			fmt.Fprintf(&b, "    name: %s\n", s.Name)
		}
	}
	for _, f := range failed.reasons {
		fmt.Fprintf(&b, "  # left out, as it does not render by itself: %s\n", newfile.OneLine(f))
	}
	said := map[string]bool{}
	for _, s := range sources {
		said[s.Path] = true
	}
	for _, left := range []struct {
		why string
		all []claimedSource
	}{
		{"as they do not render by themselves", failed.below},
		{"as others are made of it", found.parts},
		{"as none of these reads it, although it lies in one", found.inside},
		{"as it shows, tries or builds something", found.asides},
		{"as tests read it, or others made it", found.shut},
		{"packed", found.packed},
		{"plain manifests that none of these reads", found.plain},
	} {
		comment(&b, "left out, "+left.why+":", slices.DeleteFunc(left.all, func(s claimedSource) bool {
			again := said[s.Path]
			said[s.Path] = true
			return again
		}))
	}
	b.WriteString(o.environments(sources))
	repository := o.Repository
	if repository == "" {
		repository = "registry.example.com/team/" + strings.ToLower(sourceName(filepath.Base(found.dir)))
	}
	fmt.Fprintf(&b, "output:\n  image: %s\n", repository)
	return b.String()
}

// environments proposes environments in a comment: one for each file values-NAME.yaml of a
// chart. Which values go together is the author's to say.
func (o *InitOptions) environments(sources []claimedSource) string {
	of := map[string][]string{}
	for _, s := range sources {
		files, err := filepath.Glob(filepath.Join(o.path(s), "values-*.yaml"))
		if s.Interpreter != "helm" || err != nil {
			continue
		}
		for _, file := range files {
			base := filepath.Base(file)
			if e := strings.TrimSuffix(strings.TrimPrefix(base, "values-"), ".yaml"); pipeline.CheckEnvironment(e) == nil {
				of[e] = append(of[e], fmt.Sprintf("%s: {options: {values: [%s]}}", s.Name, newfile.Quote(path.Join(s.Path, base))))
			}
		}
	}
	if len(of) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("# All of these in one artifact, a folder each:\n# environments:\n")
	for _, e := range slices.Sorted(maps.Keys(of)) {
		fmt.Fprintf(&b, "#   %s: {sources: {%s}}\n", e, strings.Join(of[e], ", "))
	}
	return b.String()
}

// failures are the sources that do not render: why, and those in them.
type failures struct {
	reasons []string
	below   []claimedSource
}

// rendering tells the sources that render as they are from those that do not, with
// the first line of why. In those it finds the folders below that do. None that
// renders is an error.
func (o *InitOptions) rendering(ctx context.Context, f *finder, all []claimedSource) (good []claimedSource, failed failures, err error) {
	var first error
	for depth, tries := 0, all; len(tries) > 0; depth++ {
		problems, err := o.try(ctx, tries)
		if err != nil {
			return nil, failures{}, err
		}
		var next []claimedSource
		for i, s := range tries {
			if problems[i] == nil {
				good = append(good, s)
				continue
			}
			first = cmp.Or(first, problems[i])
			if depth == 0 { // there may be many packages below, and most hold no objects
				failed.reasons = append(failed.reasons, fmt.Sprintf("%s (%s): %s", s.Path, s.Interpreter, o.reason(s, problems[i])))
			} else {
				failed.below = append(failed.below, s)
			}
			below, err := f.below(ctx, s)
			if err != nil {
				return nil, failures{}, err
			}
			next = append(next, below...)
		}
		tries = next
	}
	if len(good) == 0 {
		return nil, failures{}, fmt.Errorf("nothing in %s renders as it is: %w", o.Dir, first)
	}
	slices.SortFunc(good, func(a, b claimedSource) int { return strings.Compare(a.Path, b.Path) })
	return good, failed, nil
}

// try renders sources, and says of each what went wrong.
func (o *InitOptions) try(ctx context.Context, all []claimedSource) ([]error, error) {
	problems := make([]error, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(initRenders)
	for i, s := range all {
		group.Go(func() error {
			_, problems[i] = Render(ctx, RenderOptions{Options: Options{Environment: o.Environment, Sources: []Source{{
				Path: o.path(s), Interpreter: s.Interpreter,
			}}}})
			return context.Cause(ctx)
		})
	}
	return problems, group.Wait()
}

// reason is the first line of why a source does not render. It is written beside the
// source, whatever the working directory is now: files are named from there.
func (o *InitOptions) reason(s claimedSource, err error) string {
	if failed, ok := errors.AsType[*engine.StageError](err); ok {
		err = failed.Err
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	first = strings.TrimPrefix(first, o.path(s)+": ")
	first = strings.TrimPrefix(first, "interpreter "+s.Interpreter+": ")
	for _, folder := range []string{o.path(s), filepath.Clean(o.Dir)} {
		if folder != "." {
			first = strings.ReplaceAll(first, folder+"/", "")
		}
	}
	return first
}

// path of a source from the working directory.
func (o *InitOptions) path(s claimedSource) string {
	return filepath.Join(o.Dir, filepath.FromSlash(s.Path))
}

// initRenders is how many sources are tried at once.
const initRenders = 4

// commentWidth is where the lines of a comment end.
const commentWidth = 120

// comment names paths in a comment, all of them: what is left out and not named
// would be missed in the cluster.
func comment(b *strings.Builder, what string, all []claimedSource) {
	if len(all) == 0 {
		return
	}
	line := "  # " + what
	for i, s := range all {
		name := " " + newfile.OneLine(s.Path)
		if i < len(all)-1 {
			name += ","
		}
		if len(line)+len(name) > commentWidth && strings.Contains(line, ",") {
			b.WriteString(line + "\n")
			line = "  #  "
		}
		line += name
	}
	b.WriteString(line + "\n")
}

// name gives every source a name of its own: the last element of its path, and the
// whole path where that is not enough.
func name(sources []claimedSource) {
	last := func(s claimedSource) string {
		base := path.Base(s.Path)
		if s.by != nil && path.Ext(base) == ".tgz" {
			base = strings.TrimSuffix(base, ".tgz")
		}
		return sourceName(base)
	}
	count := map[string]int{}
	for _, s := range sources {
		count[last(s)]++
	}
	for i := range sources {
		sources[i].Name = last(sources[i])
		if count[sources[i].Name] > 1 {
			sources[i].Name = sourceName(strings.ReplaceAll(sources[i].Path, "/", "-"))
		}
	}
}
