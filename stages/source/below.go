// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/internal/count"
	"github.com/taped-dev/tape/internal/regular"
)

// maxBelow limits how many sources below a folder are counted, and maxNamed how many are named.
const (
	maxBelow = 1000
	maxNamed = 6
)

// inner is a source below a folder.
type inner struct{ path, what string }

// sourcesIn finds the kustomizations, charts and modules below a folder, without searching these.
// It does not search hidden folders, and folders of generated files or tests. It reads a limited
// number of files and folders.
func sourcesIn(ctx context.Context, dir string, most int) ([]inner, error) {
	var found []inner
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if most--; most < 0 {
			return fs.SkipAll // more files than a source may have: reading the source reports that
		}
		switch {
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case err != nil:
			return fs.SkipDir // the interpreter cannot read it either
		case !d.IsDir() || at == dir:
			return nil
		case NotSource(d.Name()):
			return fs.SkipDir
		}
		names, err := list(at)
		if err != nil {
			return fs.SkipDir
		}
		for _, m := range wellKnown {
			if match(m.name, names) == "" {
				continue
			}
			if m.interpreter == "kustomize" && !builds(filepath.Join(at, m.name)) {
				continue
			}
			rel, err := filepath.Rel(dir, at)
			if err != nil {
				return err
			}
			if found = append(found, inner{filepath.ToSlash(rel), m.what}); len(found) == maxBelow {
				return fs.SkipAll
			}
			return fs.SkipDir
		}
		return nil
	})
	return found, err
}

// NotSource reports whether folders with that name are not searched for sources: they contain
// what programs generate or tests read, or are hidden.
func NotSource(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || notSources.MatchString(name)
}

var notSources = regexp.MustCompile(`^(cue\.mod|node_modules|third_party|vendor|tests?|testdata\d*)$`)

// notBuilt matches files with the name of a kustomization that kustomize does not build by
// themselves: components, and objects of Flux.
var notBuilt = regexp.MustCompile(`(?m)^(kind: *["']?Component\b|apiVersion: *["']?kustomize\.toolkit\.fluxcd\.io/)`)

func builds(kustomization string) bool {
	data, err := regular.ReadFile(kustomization)
	return err != nil || !notBuilt.Match(data)
}

// several describes a folder that contains several sources and is not itself a source.
func several(found []inner) string {
	number := map[string]int{}
	var kinds, named []string
	for _, in := range found {
		if number[in.what]++; number[in.what] == 1 {
			kinds = append(kinds, in.what)
		}
		if len(named) < maxNamed {
			named = append(named, in.path)
		}
	}
	slices.Sort(kinds)
	for i, what := range kinds {
		kinds[i] = count.Of(number[what], what)
	}
	if more := len(found) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("and %d more", more))
	}
	verb := "lie"
	if len(found) == 1 {
		verb = "lies"
	}
	kind := strings.Join(kinds, ", ")
	if i := strings.LastIndex(kind, ", "); i >= 0 {
		kind = kind[:i] + " and " + kind[i+2:]
	}
	return fmt.Sprintf("%s %s below it: %s", kind, verb, strings.Join(named, ", "))
}

// pipelineFile is the usual name of a pipeline. A user who names its folder may mean the
// pipeline.
const pipelineFile = "tape.yaml"

// whole returns an error for a folder that no interpreter claims but that contains sources. As
// plain manifests it would consist of their parts, which are not deployed as they are.
func (s *Stage) whole(ctx context.Context, report func(engine.Event), at place) error {
	if !at.folder {
		return nil
	}
	found, err := sourcesIn(ctx, at.abs(at.path), s.o.Limits.Files)
	if err != nil || len(found) == 0 {
		return err
	}
	if s.config.Parts {
		report(engine.Event{Level: engine.Warning, Message: fmt.Sprintf("%s is not a source itself, and %s; this applies to the files as they are, not to what these sources render to: "+
			"name one of them, or write a pipeline", s.where(), several(found))})
		return nil
	}
	problem := fmt.Errorf("it is not a source itself (the interpreter plain takes the files as they are), and %s", several(found))
	if _, err := os.Stat(filepath.Join(at.abs(at.path), pipelineFile)); err == nil {
		return engine.Mistaken("path", advice.Add(problem, advice.TakePipeline, filepath.Join(s.where(), pipelineFile)))
	}
	return engine.Mistaken("path", advice.Add(problem, advice.NameSource))
}
