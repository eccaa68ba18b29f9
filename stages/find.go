// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/manifests"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/source"
)

// initDepth is how deep a finder looks for folders that an interpreter claims.
const initDepth = 4

// finder looks for sources in a folder.
type finder struct {
	dir   string // absolute, without links
	known []describedInterpreter
	log   *slog.Logger
}

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

// claimedSource is a source that interpreters claim. Its path is relative to what
// the finder looks at.
type claimedSource struct {
	Source
	also []string // interpreters that claim it too

	abs    string
	by     rendering.Interpreter
	inside bool // claimed for what lies in a folder above it
}

// newFinder asks the interpreters what they take. One that cannot be asked claims
// nothing, with a warning in log.
func newFinder(ctx context.Context, interpreters Interpreters, dir string, log *slog.Logger) (*finder, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("look for sources: %w", err)
	}
	f := &finder{dir: dir, log: log}
	found, err := interpreters.List(ctx)
	if err != nil {
		log.Warn("not every interpreter can be used", "err", err)
	}
	for _, i := range found {
		d, err := i.Describe(ctx)
		if ctxErr := context.Cause(ctx); ctxErr != nil {
			return nil, ctxErr
		}
		if err != nil {
			log.Warn("an interpreter cannot be used", "interpreter", i.Name(), "err", err)
			continue
		}
		f.known = append(f.known, describedInterpreter{i, d, i.Name()})
	}
	return f, nil
}

// enters says whether a folder may hold sources, or be one.
func (f *finder) enters(dir string) bool {
	name := filepath.Base(dir)
	rel, err := filepath.Rel(f.dir, dir)
	return err == nil && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "_") && !notSources.MatchString(name) &&
		strings.Count(rel, string(filepath.Separator)) < initDepth
}

// notSources are names of folders that hold what others made, or what tests read.
var notSources = regexp.MustCompile(`^(node_modules|third_party|vendor|tests?|testdata\d*)$`)

// asides are names of folders that show, try or build something.
var asides = regexp.MustCompile(`^(demos?|docs|e2e|examples?|hack|make|samples|scripts|tools|test-.*|.*-tests?)$`)

// candidates are what a folder may be packed from.
type candidates struct {
	dir     string // absolute
	sources []claimedSource
	// parts are what sources are made of, beside them.
	parts []claimedSource
	// plain are folders with manifests that no source reads.
	plain []claimedSource
}

// find finds the folders that interpreters claim, and what they are made of. Where
// none is claimed, a file is a source that an interpreter claims by its name (a
// packed chart), and else the folders that have manifests.
func (f *finder) find(ctx context.Context) (candidates, error) {
	folders, packed, err := f.claimed(f.dir, "")
	if err != nil {
		return candidates{}, err
	}
	plain, err := f.plain(folders)
	if err != nil {
		return candidates{}, err
	}
	sources, parts, read, err := f.withoutParts(ctx, withoutAsides(folders))
	if err != nil {
		return candidates{}, err
	}
	c := candidates{dir: f.dir, sources: sources, parts: parts}
	switch {
	case len(sources) > 0:
		c.plain = slices.DeleteFunc(plain, func(s claimedSource) bool {
			return s.aside() || slices.ContainsFunc(read, func(file string) bool {
				return file == s.abs || strings.HasPrefix(file, s.abs+string(filepath.Separator))
			})
		})
	case len(packed) > 0:
		c.sources = packed
	default:
		c.sources = withoutAsides(plain)
	}
	return c, nil
}

// claimed finds the folders at and in top that interpreters claim, and does not
// look into those, and the files that one claims by their name (packed charts).
// The folder except is not asked about.
func (f *finder) claimed(top, except string) (folders, packed []claimedSource, err error) {
	err = filepath.WalkDir(top, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && at != top && !f.enters(at):
			return fs.SkipDir
		case !d.IsDir() && !d.Type().IsRegular() || at == except:
			return nil
		}
		rel, err := filepath.Rel(f.dir, at)
		if err != nil {
			return err
		}
		found := claimedSource{Source: Source{Path: filepath.ToSlash(rel)}, abs: at}
		for _, k := range f.known {
			if !d.IsDir() && !k.takesFile(d.Name()) {
				continue
			}
			reason, err := source.Claims(k.Description, at, f.dir)
			switch {
			case err != nil:
				return err
			case reason == "":
			case found.Interpreter == "":
				found.Interpreter, found.by = k.Name, k.Interpreter
				found.inside = strings.HasPrefix(reason, "found ../")
			default:
				found.also = append(found.also, k.Name)
			}
		}
		switch {
		case found.Interpreter == "":
		case !d.IsDir():
			packed = append(packed, found)
		default:
			folders = append(folders, found)
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for sources: %w", err)
	}
	return folders, packed, nil
}

// withoutAsides leaves out what is aside, unless there is nothing else.
func withoutAsides(all []claimedSource) []claimedSource {
	rest := slices.DeleteFunc(slices.Clone(all), claimedSource.aside)
	if len(rest) == 0 {
		return all
	}
	return rest
}

// aside says that a source lies in a folder that only shows, tries or builds
// something.
func (s claimedSource) aside() bool {
	return slices.ContainsFunc(strings.Split(s.Path, "/"), asides.MatchString)
}

// withoutParts tells from the rest what another source is made of: whatever that
// reads as a folder, or by the file that marks the folder. Kustomize's components
// are made to be part of something. All that is read is told too.
func (f *finder) withoutParts(ctx context.Context, all []claimedSource) (rest, parts []claimedSource, reads []string, err error) {
	part := map[string]bool{}
	for _, s := range all {
		if isComponent(s.abs) {
			part[s.abs] = true
		}
		read, err := f.reads(ctx, s)
		if err != nil {
			return nil, nil, nil, err
		}
		reads = append(reads, read...)
		for _, file := range read {
			for _, at := range []string{file, filepath.Dir(file)} {
				if at != s.abs && (at == file || slices.Contains(marks, filepath.Base(file))) {
					part[at] = true
				}
			}
		}
	}
	for _, s := range all {
		if part[s.abs] {
			parts = append(parts, s)
		} else {
			rest = append(rest, s)
		}
	}
	return rest, parts, reads, nil
}

// reads are the files and folders that a source reads; none where that is not
// known.
func (f *finder) reads(ctx context.Context, s claimedSource) ([]string, error) {
	read, err := source.Reads(ctx, s.by, s.abs, f.dir)
	if ctxErr := context.Cause(ctx); ctxErr != nil {
		return nil, ctxErr
	}
	if err != nil {
		f.log.Info("what a source reads is not known", "source", s.Path, "err", err)
	}
	return read, nil
}

// below finds, in a folder that is no source by itself, the folders that its own
// interpreter claims: the packages of a CUE module. What the folder reads, which
// for a chart is all that lies in it, is none.
func (f *finder) below(ctx context.Context, s claimedSource) ([]claimedSource, error) {
	if s.by == nil {
		return nil, nil
	}
	read, err := f.reads(ctx, s)
	if err != nil || slices.Contains(read, s.abs) {
		return nil, err
	}
	all, _, err := f.claimed(s.abs, s.abs)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(sub claimedSource) bool {
		return sub.Interpreter != s.Interpreter || slices.Contains(read, sub.abs) || len(read) == 0 && !sub.inside
	}), nil
}

// plain finds the folders with manifests beside those that interpreters claim: as
// few as hold them all.
func (f *finder) plain(claimed []claimedSource) ([]claimedSource, error) {
	paths, _, err := f.cover(f.dir, claimed)
	if err != nil {
		return nil, fmt.Errorf("look for manifests: %w", err)
	}
	var out []claimedSource
	for _, at := range paths {
		rel, err := filepath.Rel(f.dir, at)
		if err != nil {
			return nil, err
		}
		out = append(out, claimedSource{Source: Source{Path: filepath.ToSlash(rel), Interpreter: builtIn}, abs: at})
	}
	return out, nil
}

// cover is plain for one folder. Whole says that nothing in it is claimed.
func (f *finder) cover(dir string, claimed []claimedSource) (folders []string, whole bool, err error) {
	if slices.ContainsFunc(claimed, func(s claimedSource) bool { return s.abs == dir }) {
		return nil, false, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, false, err
	}
	direct := false
	whole = true
	for _, d := range entries {
		at := filepath.Join(dir, d.Name())
		switch {
		case d.IsDir() && f.enters(at):
			below, all, err := f.cover(at, claimed)
			if err != nil {
				return nil, false, err
			}
			folders, whole = append(folders, below...), whole && all
		case d.Type().IsRegular() && !direct:
			if direct, err = hasManifests(at); err != nil {
				return nil, false, err
			}
		}
	}
	switch {
	case whole && (direct || len(folders) > 1 && dir != f.dir):
		return []string{dir}, true, nil
	case direct && dir != f.dir:
		folders = append(folders, dir)
	}
	return folders, whole, nil
}

// hasManifests says whether a file has a Kubernetes object in it, or would have
// one if it parsed.
func hasManifests(file string) (bool, error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".yaml", ".yml", ".json":
	default:
		return false, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	for _, piece := range manifests.Open(file, data).Text.Split() {
		documents, err := manifests.Parse(piece)
		if err != nil && apiVersion.MatchString(piece.String) {
			return true, nil
		}
		for i := range documents {
			if objects, _ := documents[i].Objects(); len(objects) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

var apiVersion = regexp.MustCompile(`(?m)^apiVersion: `)

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
