// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/source"
)

// InitOptions are what InitPipeline takes.
type InitOptions struct {
	Environment
	// Dir is looked at, and gets the file.
	Dir string
	// Repository to push to; "" writes an example.
	Repository string
	// Force replaces a file that is there.
	Force bool
}

// InitPipeline looks at a folder and writes a tape.yaml that packs what is in
// it. It returns the file's name and content.
func InitPipeline(ctx context.Context, o InitOptions) (string, []byte, error) {
	if info, err := os.Stat(o.Dir); err != nil || !info.IsDir() {
		return "", nil, usagef("%s is no folder: name the one that the application lies in", o.Dir)
	}
	if o.Repository != "" {
		if err := artifact.CheckRepository(o.Repository); err != nil {
			return "", nil, asUsage(err)
		}
	}
	file := filepath.Join(o.Dir, PipelineFile)
	if _, err := os.Lstat(file); err == nil && !o.Force {
		return "", nil, thereAlready(file)
	}
	sources, err := findSources(ctx, o.Interpreters, o.Dir, cmp.Or(o.Log, slog.New(slog.DiscardHandler)))
	if err != nil {
		return "", nil, err
	}
	if len(sources) == 0 {
		return "", nil, fmt.Errorf("nothing to pack in %s: no interpreter claims a folder, and there are no manifests (.yaml, .yml, .json)", o.Dir)
	}
	abs, err := filepath.Abs(o.Dir)
	if err != nil {
		return "", nil, err
	}
	sources, failed, err := o.rendering(ctx, sources)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: %s\nkind: %s\n", pipeline.APIVersion, pipeline.FileKind)
	if len(sources) > 1 {
		b.WriteString("# All of these go into one artifact: remove what is not wanted.\n")
	}
	b.WriteString("sources:\n")
	for _, s := range sources {
		fmt.Fprintf(&b, "  - path: %s\n    interpreter: %s", quote(s.Path), s.Interpreter)
		if len(s.also) > 0 {
			fmt.Fprintf(&b, "  # or %s", strings.Join(s.also, ", "))
		}
		b.WriteByte('\n')
		if len(sources) > 1 {
			fmt.Fprintf(&b, "    name: %s\n", s.Name)
		}
	}
	for _, f := range failed {
		fmt.Fprintf(&b, "  # left out, as it does not render by itself: %s\n", oneLine(f))
	}
	repository := o.Repository
	if repository == "" {
		repository = "registry.example.com/team/" + strings.ToLower(sourceName(filepath.Base(abs)))
	}
	fmt.Fprintf(&b, "output:\n  image: %s\n", repository)
	data := []byte(b.String())

	flags := os.O_WRONLY | os.O_CREATE
	if o.Force {
		flags |= os.O_TRUNC
	} else {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(file, flags, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return "", nil, thereAlready(file)
	}
	if err != nil {
		return "", nil, fmt.Errorf("write pipeline: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", nil, fmt.Errorf("write pipeline: %w", err)
	}
	return file, data, nil
}

// rendering tells the sources that render as they are from those that do not, with
// the first line of why. None that does is an error.
func (o *InitOptions) rendering(ctx context.Context, all []claimedSource) (good []claimedSource, failed []string, err error) {
	problems := make([]error, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(initRenders)
	for i, s := range all {
		group.Go(func() error {
			_, problems[i] = Render(ctx, RenderOptions{Options: Options{Environment: o.Environment, Sources: []Source{{
				Path: filepath.Join(o.Dir, filepath.FromSlash(s.Path)), Interpreter: s.Interpreter,
			}}}})
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	for i, s := range all {
		if problems[i] == nil {
			good = append(good, s)
			continue
		}
		problem := problems[i]
		if failed, ok := errors.AsType[*engine.StageError](problem); ok {
			problem = failed.Err
		}
		reason, _, _ := strings.Cut(problem.Error(), "\n")
		reason = strings.TrimPrefix(reason, "interpreter "+s.Interpreter+": ")
		failed = append(failed, fmt.Sprintf("%s (%s): %s", s.Path, s.Interpreter, reason))
	}
	if len(good) == 0 {
		return nil, nil, fmt.Errorf("nothing in %s renders as it is: %w", o.Dir, problems[0])
	}
	return good, failed, nil
}

// initRenders is how many sources are tried at once.
const initRenders = 4

// quote makes a path a YAML string where it would not be one by itself.
func quote(s string) string {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._/-", r)) {
			return "'" + strings.ReplaceAll(s, "'", "''") + "'"
		}
	}
	return s
}

// oneLine is a text without what YAML takes for the end of a comment, or does not
// take at all: what a source says of itself must not write a pipeline.
func oneLine(s string) string {
	words := strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
	return strings.Join(words, " ")
}

// initDepth is how deep findSources looks for folders that an interpreter claims.
const initDepth = 4

// claimedSource is a source that interpreters claim.
type claimedSource struct {
	Source
	also []string // interpreters that claim it too

	abs string
	by  rendering.Interpreter
}

// findSources finds the folders that interpreters claim, and does not look into
// those. Where none is claimed, a file is that an interpreter claims by its name
// (a packed chart), and else the folder itself if it has manifests. A folder that
// only serves another source, as a base or a subchart, is none.
// An interpreter that cannot be asked claims nothing, with a warning in log.
func findSources(ctx context.Context, interpreters Interpreters, dir string, log *slog.Logger) ([]claimedSource, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("look for sources: %w", err)
	}
	known, err := describeAll(ctx, interpreters, log)
	if err != nil {
		return nil, err
	}
	var (
		folders, packed []claimedSource
		manifests       bool
	)
	err = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		if d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains(notSources, d.Name()) ||
			strings.Count(rel, string(filepath.Separator)) >= initDepth) {
			return fs.SkipDir
		}
		if !d.IsDir() {
			switch strings.ToLower(filepath.Ext(at)) {
			case ".yaml", ".yml", ".json":
				manifests = manifests || d.Name() != PipelineFile
			}
		}
		if !d.IsDir() && !d.Type().IsRegular() {
			return nil
		}
		found := claimedSource{Source: Source{Path: filepath.ToSlash(rel)}, abs: at}
		for _, k := range known {
			if !d.IsDir() && !k.takesFile(d.Name()) {
				continue
			}
			reason, err := source.Claims(k.Description, at, dir)
			switch {
			case err != nil:
				return err
			case reason == "":
			case found.Interpreter == "":
				found.Interpreter, found.by = k.Name, k.Interpreter
			default:
				found.also = append(found.also, k.Name)
			}
		}
		switch {
		case found.Interpreter == "":
			return nil
		case d.IsDir():
			folders = append(folders, found)
			return fs.SkipDir
		}
		packed = append(packed, found)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for sources: %w", err)
	}
	out, err := withoutParts(ctx, withoutExamples(folders), dir, log)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		out = packed
	}
	if len(out) == 0 && manifests {
		out = []claimedSource{{Source: Source{Path: ".", Interpreter: builtIn}}}
	}
	slices.SortFunc(out, func(a, b claimedSource) int { return strings.Compare(a.Path, b.Path) })
	name(out)
	return out, nil
}

// withoutExamples leaves out what lies in folders that show or try something,
// unless there is nothing else.
func withoutExamples(all []claimedSource) []claimedSource {
	rest := slices.DeleteFunc(slices.Clone(all), func(s claimedSource) bool {
		return slices.ContainsFunc(strings.Split(s.Path, "/"), func(folder string) bool {
			return slices.Contains([]string{"docs", "example", "examples", "hack", "samples"}, folder)
		})
	})
	if len(rest) == 0 {
		return all
	}
	return rest
}

// notSources are names of folders that hold what others made, or what tests read.
var notSources = []string{"node_modules", "vendor", "testdata", "test", "tests"}

// describedInterpreter is an interpreter with what it says of itself.
type describedInterpreter struct {
	rendering.Interpreter
	interpreter.Description
	Name string // that sources call it by
}

// takesFile says whether a file of that name could be a source by itself.
func (d describedInterpreter) takesFile(name string) bool {
	return slices.ContainsFunc(d.Markers, func(m interpreter.Marker) bool {
		ok, err := path.Match(m.Name, name)
		return m.File && ok && err == nil
	})
}

func describeAll(ctx context.Context, interpreters Interpreters, log *slog.Logger) ([]describedInterpreter, error) {
	found, err := interpreters.List(ctx)
	if err != nil {
		log.Warn("not every interpreter can be used", "err", err)
	}
	var known []describedInterpreter
	for _, i := range found {
		d, err := i.Describe(ctx)
		if ctxErr := context.Cause(ctx); ctxErr != nil {
			return nil, ctxErr
		}
		if err != nil {
			log.Warn("an interpreter cannot be used", "interpreter", i.Name(), "err", err)
			continue
		}
		known = append(known, describedInterpreter{i, d, i.Name()})
	}
	return known, nil
}

// withoutParts leaves out what another source is made of: whatever that reads as a
// folder, or by the file that marks the folder. Kustomize's components are made to
// be part of something.
func withoutParts(ctx context.Context, all []claimedSource, dir string, log *slog.Logger) ([]claimedSource, error) {
	parts := map[string]bool{}
	for _, s := range all {
		if isComponent(s.abs) {
			parts[s.abs] = true
		}
		read, err := source.Reads(ctx, s.by, s.abs, dir)
		if ctxErr := context.Cause(ctx); ctxErr != nil {
			return nil, ctxErr
		}
		if err != nil {
			log.Info("what a source reads is not known", "source", s.Path, "err", err)
		}
		for _, file := range read {
			for _, at := range []string{file, filepath.Dir(file)} {
				if at != s.abs && (at == file || slices.Contains(marks, filepath.Base(file))) {
					parts[at] = true
				}
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s claimedSource) bool { return parts[s.abs] }), nil
}

// marks are the files that make a folder something to build.
var marks = []string{"Chart.yaml", "kustomization.yaml", "kustomization.yml", "Kustomization"}

func isComponent(dir string) bool {
	for _, name := range marks[1:] {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return component.Match(data)
		}
	}
	return false
}

var component = regexp.MustCompile(`(?m)^kind: *"?Component"?\s*$`)

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

func thereAlready(file string) error {
	return fmt.Errorf("%s is there already; --force replaces it", file)
}
