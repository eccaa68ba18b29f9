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

// finder looks for sources in a folder.
type finder struct {
	dir   string // absolute, without links
	known []describedInterpreter
	log   *slog.Logger
	// apart means that folders with a pipeline, which are applications of their own, are not
	// searched, and that adjacent folders of manifests are separate.
	apart bool
}

// describedInterpreter is an interpreter with its description.
type describedInterpreter struct {
	rendering.Interpreter
	interpreter.Description
	Name string // that sources use
}

// claimedSource is a source that interpreters claim. Its path is relative to the folder of the
// finder.
type claimedSource struct {
	Source
	also []string // other interpreters that claim it

	abs    string
	reads  []string // absolute, once they were asked for
	by     rendering.Interpreter
	inside bool // claimed because of a folder above it
	// overlays are the paths of the source in each environment; nil if there are none.
	overlays map[string]string
}

// finder opens the store, and asks the interpreters for their markers, for the folder of what.
// An interpreter that cannot be asked claims nothing, with a warning in the log.
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

// source returns the source at a path in the folder.
func (f *finder) source(at string) claimedSource {
	rel, _ := filepath.Rel(f.dir, at) // both are absolute
	return claimedSource{Source: Source{Path: filepath.ToSlash(rel)}, abs: at}
}

// enters reports whether a folder is searched for sources. Below overlays, test is an
// environment.
func (f *finder) enters(dir string) bool {
	name := filepath.Base(dir)
	return !source.NotSource(name) || name == "test" && slices.Contains(overlayFolders, filepath.Base(filepath.Dir(dir)))
}

// asides matches names of folders for examples, tests or builds.
var asides = regexp.MustCompile(`^(demos?|docs|e2e|examples?|hack|make|samples|scripts|tools|test-.*|.*-tests?)$`)

// candidates are what a folder may be packed from, and what is left out.
type candidates struct {
	dir     string // absolute
	sources []claimedSource
	// parts are parts of sources, beside them.
	parts []claimedSource
	// inside are sources in the folder of another one that does not read them.
	inside []claimedSource
	// asides are for examples, tests or builds.
	asides []claimedSource
	// shut are folders with sources that are not searched, because of their name.
	shut []claimedSource
	// packed are files that an interpreter claims by their name.
	packed []claimedSource
	// plain are folders with manifests that no source reads.
	plain []claimedSource
}

// leftOut are sources that are not packed, with the reason.
type leftOut struct {
	why string
	all []claimedSource
}

// left returns what is left out of any selection.
func (c *candidates) left() []leftOut {
	return []leftOut{
		{"as others are made of it", c.parts},
		{"as none of these reads it, although it lies in one", c.inside},
		{"as it shows, tries or builds something", c.asides},
		{"as tests read it, or others made it", c.shut},
	}
}

// find finds the folders that interpreters claim, and their parts. If none is claimed, sources
// are the files that an interpreter claims by their name (packed charts), or else the folders
// with manifests.
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
	if c.shut, err = f.holding(ctx, top.shut); err != nil {
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
	// Sources in folders that are not searched may consist of these.
	for _, s := range c.shut {
		f.addParts(isPart, s)
	}
	candidates := withoutAsides(top.folders)
	based := slices.ContainsFunc(candidates, func(s claimedSource) bool { return !isPart[s.abs] && !s.base() })
	for _, s := range all {
		listed := slices.ContainsFunc(candidates, func(c claimedSource) bool { return c.abs == s.abs })
		switch {
		case isPart[s.abs] || s.base() && based:
			c.parts = append(c.parts, s)
		case listed:
			c.sources = append(c.sources, s)
		case s.aside():
			c.asides = append(c.asides, s)
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
		if c.sources = withoutAsides(plain); len(c.sources) < len(plain) {
			c.asides = append(c.asides, slices.DeleteFunc(plain, func(s claimedSource) bool { return !s.aside() })...)
		}
	}
	return c, nil
}

// within adds to sources those in their folders, at any depth, and records what each reads.
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

// holding returns the sources in folders that are not searched, with what they read.
func (f *finder) holding(ctx context.Context, folders []string) ([]claimedSource, error) {
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
	shut            []string // folders that are not searched
}

// claimed finds the folders at and below top that interpreters claim, without looking into
// those, and the files that one claims by their name (packed charts). The folder except is not
// considered.
func (f *finder) claimed(top, except string) (out claims, err error) {
	err = filepath.WalkDir(top, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && f.apart && hasPipeline(at):
			return fs.SkipDir
		case d.IsDir() && at != top && !f.enters(at):
			if !strings.HasPrefix(d.Name(), ".") && d.Name() != "cue.mod" {
				out.shut = append(out.shut, at)
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

// withoutAsides removes examples and tests, unless there is nothing else.
func withoutAsides(all []claimedSource) []claimedSource {
	rest := slices.DeleteFunc(slices.Clone(all), claimedSource.aside)
	if len(rest) == 0 {
		return all
	}
	return rest
}

// aside reports whether a source is in a folder for examples, tests or builds.
func (s claimedSource) aside() bool {
	return slices.ContainsFunc(strings.Split(s.Path, "/"), asides.MatchString)
}

// base reports whether a source is named base, and so is probably part of others, which may be
// unreadable.
func (s claimedSource) base() bool {
	return slices.ContainsFunc(strings.Split(s.Path, "/"), func(e string) bool { return e == "base" || e == "bases" })
}

// addParts adds the parts of a source: the folders that it reads, or whose marking files it
// reads. Kustomize's components are always parts.
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

// reads returns the files and folders that a source reads; none if that is unknown.
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

// below finds the folders in a folder that is not a source by itself which its own interpreter
// claims: the packages of a CUE module. It returns nothing in what the folder reads, which for
// a chart is everything.
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

// cover finds the folders with manifests in a folder, beside those that interpreters claim: as
// few as contain them all. whole reports that nothing in it is claimed.
func (f *finder) cover(dir string, claimed []claimedSource) (folders []string, whole bool, err error) {
	at := slices.IndexFunc(claimed, func(s claimedSource) bool { return s.abs == dir })
	if at >= 0 && (slices.Contains(claimed[at].reads, dir) || len(claimed[at].reads) == 0 || isChart(dir)) {
		return nil, false, nil // everything in it is its own, or that is unknown
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

// hasManifests reports whether a file contains a Kubernetes object, or would if it could be
// parsed.
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

// marks are files that mark a folder for building.
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
