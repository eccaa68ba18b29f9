// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
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

	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/manifests"
	"github.com/taped-dev/tape/stages/rendering"
	"github.com/taped-dev/tape/stages/source"
)

// finder finds sources in a folder.
type finder struct {
	dir   string // absolute, with symbolic links resolved
	known []describedInterpreter
	log   *slog.Logger
	// apart means that folders with their own pipeline are not searched, because they are
	// applications by themselves, and that adjacent folders of manifests remain separate.
	apart bool
}

// describedInterpreter is an interpreter with its description.
type describedInterpreter struct {
	rendering.Interpreter
	interpreter.Description
	Name string // the name that sources use for it
}

// claimedSource is a source that an interpreter claims. Its path is relative to the folder of the
// finder.
type claimedSource struct {
	Source
	also []string // other interpreters that claim it too

	abs    string
	reads  []string // absolute; set after the interpreter was asked
	by     rendering.Interpreter
	inside bool // claimed because of a folder above it
	// overlays maps environments to the paths of the source in them; nil if there are none.
	overlays map[string]string
}

// finder opens the store, and asks the interpreters for their markers. what describes what is in
// the folder. An interpreter that cannot be asked claims nothing, which is logged as a warning.
func (e *Environment) finder(ctx context.Context, dir, what string) (*finder, error) {
	var err error
	if e.Store, err = e.OpenStore(ctx); err != nil {
		return nil, err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, usagef("%s is not a folder: name the folder of %s", dir, what)
	}
	if dir, err = filepath.Abs(dir); err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("look for sources: %w", err)
	}
	log := cmp.Or(e.Log, slog.New(slog.DiscardHandler))
	f := &finder{dir: dir, log: log}
	found, err := e.interpreters().List(ctx)
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

// source returns the source at an absolute path in the folder.
func (f *finder) source(at string) claimedSource {
	rel, _ := filepath.Rel(f.dir, at) // both are absolute
	return claimedSource{Source: Source{Path: filepath.ToSlash(rel)}, abs: at}
}

// enters reports whether a folder is searched for sources. A folder named test is usually
// skipped, but below a folder of overlays it is an environment.
func (f *finder) enters(dir string) bool {
	name := filepath.Base(dir)
	return !source.NotSource(name) || name == "test" && slices.Contains(overlayFolders, filepath.Base(filepath.Dir(dir)))
}

// auxiliary matches the names of folders for examples, tests or builds.
var auxiliary = regexp.MustCompile(`^(demos?|docs|e2e|examples?|hack|make|samples|scripts|tools|test-.*|.*-tests?)$`)

// candidates are the sources that could be packed from a folder, and what is left out.
type candidates struct {
	dir     string // absolute
	sources []claimedSource
	// parts are used by other sources, which are listed too.
	parts []claimedSource
	// inside are sources in the folder of another source that does not read them.
	inside []claimedSource
	// auxiliary are for examples, tests or builds.
	auxiliary []claimedSource
	// skipped are folders that contain sources but are not searched because of their name.
	skipped []claimedSource
	// packed are files that an interpreter claims by their name.
	packed []claimedSource
	// plain are folders with manifests that no source reads.
	plain []claimedSource
}

// leftOut lists sources that are not packed, and the reason.
type leftOut struct {
	why string
	all []claimedSource
}

// left returns what is left out, whichever sources are selected.
func (c *candidates) left() []leftOut {
	return []leftOut{
		{"as other sources use it", c.parts},
		{"as it is in the folder of a source that does not read it", c.inside},
		{"as it is for examples, tests or builds", c.auxiliary},
		{"as it is test data or third-party code", c.skipped},
	}
}

// find finds the folders that interpreters claim, and the parts of these sources. If there are
// none, the sources are the files that an interpreter claims by name (packed charts), or else the
// folders with manifests.
func (f *finder) find(ctx context.Context) (candidates, error) {
	top, err := f.claimed(f.dir, "")
	if err != nil {
		return candidates{}, err
	}
	all, err := f.within(ctx, top.folders)
	if err != nil {
		return candidates{}, err
	}
	c := candidates{dir: f.dir}
	if c.skipped, err = f.sourcesIn(ctx, top.skipped); err != nil {
		return candidates{}, err
	}
	covered, _, err := f.cover(f.dir, all)
	if err != nil {
		return candidates{}, fmt.Errorf("look for manifests: %w", err)
	}
	var plain []claimedSource
	for _, at := range covered {
		s := f.source(at)
		s.Interpreter = BuiltIn
		plain = append(plain, s)
	}
	var read []string
	isPart := map[string]bool{}
	for _, s := range all {
		read = append(read, s.reads...)
		f.addParts(isPart, s)
	}
	// Sources in skipped folders may use these as parts.
	for _, s := range c.skipped {
		f.addParts(isPart, s)
	}
	candidates := withoutAuxiliary(top.folders)
	based := slices.ContainsFunc(candidates, func(s claimedSource) bool { return !isPart[s.abs] && !s.base() })
	for _, s := range all {
		listed := slices.ContainsFunc(candidates, func(c claimedSource) bool { return c.abs == s.abs })
		switch {
		case isPart[s.abs] || s.base() && based:
			c.parts = append(c.parts, s)
		case listed:
			c.sources = append(c.sources, s)
		case s.isAuxiliary():
			c.auxiliary = append(c.auxiliary, s)
		default:
			c.inside = append(c.inside, s)
		}
	}
	plain = slices.DeleteFunc(plain, func(s claimedSource) bool {
		in := func(file string) bool { return strings.HasPrefix(file, s.abs+string(filepath.Separator)) }
		whole := !slices.ContainsFunc(all, func(c claimedSource) bool { return in(c.abs) })
		return slices.ContainsFunc(read, func(file string) bool {
			return file == s.abs || filepath.Dir(file) == s.abs || whole && in(file)
		})
	})
	switch {
	case len(c.sources) > 0:
		c.plain, c.packed = plain, top.packed
	case len(top.packed) > 0:
		c.sources, c.plain = top.packed, plain
	default:
		if c.sources = withoutAuxiliary(plain); len(c.sources) < len(plain) {
			c.auxiliary = append(c.auxiliary, slices.DeleteFunc(plain, func(s claimedSource) bool { return !s.isAuxiliary() })...)
		}
	}
	return c, nil
}

// within returns sources and, recursively, the ones in their folders. It records what each of
// them reads.
func (f *finder) within(ctx context.Context, sources []claimedSource) (all []claimedSource, err error) {
	for _, s := range sources {
		if s.reads, err = f.reads(ctx, s); err != nil {
			return nil, err
		}
		all = append(all, s)
		if slices.Contains(s.reads, s.abs) || len(s.reads) == 0 && isChart(s.abs) {
			continue // everything in a chart belongs to the chart
		}
		found, err := f.claimed(s.abs, s.abs)
		if err != nil {
			return nil, err
		}
		more, err := f.within(ctx, found.folders)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// sourcesIn returns those of the skipped folders that contain sources, with what these read.
func (f *finder) sourcesIn(ctx context.Context, folders []string) ([]claimedSource, error) {
	var out []claimedSource
	for _, dir := range folders {
		found, err := f.claimed(dir, "")
		if err != nil {
			return nil, err
		}
		plain, _, err := f.cover(dir, found.folders)
		if err != nil {
			return nil, err
		}
		if len(found.folders)+len(found.packed)+len(plain) == 0 {
			continue
		}
		s := f.source(dir)
		for _, in := range found.folders {
			read, err := f.reads(ctx, in)
			if err != nil {
				return nil, err
			}
			s.reads = append(s.reads, read...)
		}
		out = append(out, s)
	}
	return out, nil
}

// claims is the result of claimed.
type claims struct {
	folders, packed []claimedSource
	skipped         []string // folders that are not searched
}

// claimed finds the folders at and below top that interpreters claim, and the files that an
// interpreter claims by name (packed charts). It does not search claimed folders, and ignores
// except.
func (f *finder) claimed(top, except string) (out claims, err error) {
	err = filepath.WalkDir(top, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && f.apart && hasPipeline(at):
			return fs.SkipDir
		case d.IsDir() && at != top && !f.enters(at):
			if !strings.HasPrefix(d.Name(), ".") && d.Name() != "cue.mod" {
				out.skipped = append(out.skipped, at)
			}
			return fs.SkipDir
		case !d.IsDir() && !d.Type().IsRegular() || at == except:
			return nil
		}
		found := f.source(at)
		for _, k := range f.known {
			takes := func(m interpreter.Marker) bool {
				ok, err := path.Match(m.Name, d.Name())
				return m.File && ok && err == nil
			}
			if !d.IsDir() && !slices.ContainsFunc(k.Markers, takes) {
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
			out.packed = append(out.packed, found)
		default:
			out.folders = append(out.folders, found)
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("look for sources: %w", err)
	}
	return out, nil
}

// withoutAuxiliary returns the sources without examples and tests, or all if there is nothing else.
func withoutAuxiliary(all []claimedSource) []claimedSource {
	rest := slices.DeleteFunc(slices.Clone(all), claimedSource.isAuxiliary)
	if len(rest) == 0 {
		return all
	}
	return rest
}

// isAuxiliary reports whether a source is in a folder for examples, tests or builds.
func (s claimedSource) isAuxiliary() bool {
	return slices.ContainsFunc(strings.Split(s.Path, "/"), auxiliary.MatchString)
}

// base reports whether a source is named base. Such a source is probably part of others, even if
// these cannot be read to find out.
func (s claimedSource) base() bool {
	return slices.ContainsFunc(strings.Split(s.Path, "/"), func(e string) bool { return e == "base" || e == "bases" })
}

// addParts adds the parts of a source to part: the folders that it reads, or from which it reads
// a marker file. Components of Kustomize are always parts.
func (f *finder) addParts(part map[string]bool, s claimedSource) {
	if isComponent(s.abs) {
		part[s.abs] = true
	}
	for _, file := range s.reads {
		for _, at := range []string{file, filepath.Dir(file)} {
			if at != s.abs && (at == file || slices.Contains(marks, filepath.Base(file))) {
				part[at] = true
			}
		}
	}
}

// reads returns the files and folders that a source reads, or nothing if that is unknown.
func (f *finder) reads(ctx context.Context, s claimedSource) ([]string, error) {
	read, err := source.Reads(ctx, s.by, s.abs, f.dir)
	if ctxErr := context.Cause(ctx); ctxErr != nil {
		return nil, ctxErr
	}
	if err != nil {
		f.log.Info("cannot determine what a source reads", "source", s.Path, "err", err)
	}
	return read, nil
}

// below finds the folders below a source that its interpreter also claims, such as the packages
// of a CUE module whose folder has no package. It skips what the source reads, which for a chart
// is everything.
func (f *finder) below(ctx context.Context, s claimedSource) ([]claimedSource, error) {
	if s.by == nil {
		return nil, nil
	}
	read, err := f.reads(ctx, s)
	if err != nil || slices.Contains(read, s.abs) {
		return nil, err
	}
	all, err := f.claimed(s.abs, s.abs)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all.folders, func(sub claimedSource) bool {
		return sub.Interpreter != s.Interpreter || slices.Contains(read, sub.abs) || len(read) == 0 && !sub.inside
	}), nil
}

// cover finds the folders with manifests in dir that interpreters do not claim: as few folders as
// contain all of those manifests. whole reports that dir contains nothing that is claimed.
func (f *finder) cover(dir string, claimed []claimedSource) (folders []string, whole bool, err error) {
	at := slices.IndexFunc(claimed, func(s claimedSource) bool { return s.abs == dir })
	if at >= 0 && (slices.Contains(claimed[at].reads, dir) || len(claimed[at].reads) == 0 || isChart(dir)) {
		return nil, false, nil // everything in it belongs to it, or it is unknown what does
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, false, err
	}
	if f.apart && hasPipeline(dir) {
		return nil, false, nil
	}
	direct := false
	whole = at < 0
	for _, d := range entries {
		name := filepath.Join(dir, d.Name())
		switch {
		case d.IsDir() && f.enters(name):
			below, all, err := f.cover(name, claimed)
			if err != nil {
				return nil, false, err
			}
			folders, whole = append(folders, below...), whole && all
		case d.Type().IsRegular() && !direct && at < 0:
			if direct, err = hasManifests(name); err != nil {
				return nil, false, err
			}
		}
	}
	switch {
	case whole && (direct || len(folders) > 1 && dir != f.dir && !f.apart):
		return []string{dir}, true, nil
	case direct:
		folders = append(folders, dir)
	}
	return folders, whole, nil
}

// hasManifests reports whether a file contains a Kubernetes object, or probably does but cannot
// be parsed.
func hasManifests(file string) (bool, error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".yaml", ".yml", ".json":
	default:
		return false, nil
	}
	data, err := regular.ReadFile(file)
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

// marks are files that mark a folder as buildable.
var marks = []string{"Chart.yaml", "kustomization.yaml", "kustomization.yml", "Kustomization"}

func isChart(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, marks[0]))
	return err == nil
}

func isComponent(dir string) bool {
	for _, name := range marks[1:] {
		if data, err := regular.ReadFile(filepath.Join(dir, name)); err == nil {
			return component.Match(data)
		}
	}
	return false
}

var component = regexp.MustCompile(`(?m)^kind: *"?Component"?\s*$`)
