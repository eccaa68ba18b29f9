// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/rendering"
)

// wellKnown are files and folders that mark a source, even if the interpreter for it is not
// installed.
var wellKnown = []struct{ name, interpreter, what string }{
	{"Chart.yaml", "helm", "chart"},
	{"Kustomization", "kustomize", "kustomization"},
	{"cue.mod/", "cue", "CUE module"},
	{"kustomization.yaml", "kustomize", "kustomization"},
	{"kustomization.yml", "kustomize", "kustomization"},
}

// find returns the interpreter that the source names, or else the one that claims it. A marker
// above the source moves a root that may grow.
func (s *Stage) find(ctx context.Context, report func(engine.Event), at *place) (*found, error) {
	var chosen *found
	var err error
	if s.config.Interpreter != "" {
		chosen, err = s.named(ctx)
	} else {
		chosen, err = s.detect(ctx, report, *at)
	}
	if err != nil {
		return nil, err
	}
	if p, ok := chosen.Interpreter.(rendering.Preparer); ok && s.config.Lock == nil {
		p.Prepare(ctx)
	}
	sum, err := chosen.Checksum(ctx)
	if err == nil {
		err = s.config.Lock.allow(chosen.Name(), sum, s.lockFile())
	}
	if err != nil {
		return nil, err
	}
	d, err := chosen.Describe(ctx)
	if err != nil {
		return nil, byName(chosen, err)
	}
	switch {
	case s.config.Interpreter == "":
		if !reflect.DeepEqual(d, chosen.description) {
			return s.find(ctx, report, at) // the description by which it was chosen belongs to another program
		}
	case at.reference != "" && !slices.Contains(d.References, referenceScheme(at.reference)):
		return nil, engine.Mistaken("interpreter", fmt.Errorf("interpreter %s does not take %s:// sources", chosen.Name(), referenceScheme(at.reference)))
	default:
		if chosen.claim, err = claims(d, *at); err != nil {
			return nil, err
		}
	}
	warning, err := s.config.Lock.described(chosen.Name(), d.Version, sum, s.lockFile())
	if err != nil {
		return nil, err
	}
	if warning != "" {
		report(engine.Event{Level: engine.Warning, Message: warning})
	}
	if s.config.Interpreter == "" {
		report(engine.Event{Message: fmt.Sprintf("interpreter %s: %s", chosen.Name(), chosen.reason)})
	}
	if chosen.schema, err = compile(d.Options); err != nil {
		text := strings.Join(strings.Fields(err.Error()), " ")
		return nil, fmt.Errorf("interpreter %s: the schema of its options is not valid: %s", chosen.Name(), text)
	}
	if chosen.above != "" {
		at.grow(chosen.above) // claims looks no further than the root may grow
	}
	chosen.checksum, chosen.description = sum, d
	return chosen, nil
}

// named returns the interpreter that the source names.
func (s *Stage) named(ctx context.Context) (*found, error) {
	i, err := s.o.Interpreters.Find(ctx, s.config.Interpreter)
	if err != nil {
		others, _ := s.o.Interpreters.List(ctx) // the earlier error is the one to report
		return nil, engine.Mistaken("interpreter", fmt.Errorf("%w%s", err, nearest.Hint(s.config.Interpreter, slices.Values(names(others)))))
	}
	return &found{Interpreter: i}, nil
}

// detect finds the interpreter that claims a source, using the descriptions of all interpreters.
// It neither reads nor starts a program for that.
func (s *Stage) detect(ctx context.Context, report func(engine.Event), at place) (*found, error) {
	all, err := s.o.Interpreters.List(ctx)
	if err != nil {
		report(engine.Event{Level: engine.Warning, Message: fmt.Sprintf("not every interpreter can be used: %v", err)})
	}
	var candidates []*found
	var fallback *found
	for _, i := range all {
		d, err := i.Describe(ctx)
		if ctxErr := context.Cause(ctx); ctxErr != nil {
			return nil, ctxErr
		}
		if err != nil {
			report(engine.Event{Level: engine.Warning, Message: fmt.Sprintf("not used: %v", byName(i, err))})
			continue
		}
		if i.Name() == fallbackName {
			fallback = &found{Interpreter: i, description: d, claim: claim{reason: "no other claims it"}}
			continue
		}
		c, err := claims(d, at)
		if err != nil {
			return nil, err
		}
		if c.reason != "" {
			candidates = append(candidates, &found{Interpreter: i, description: d, claim: c})
		}
	}
	switch {
	case len(candidates) > 1:
		var each []string
		for _, c := range candidates {
			each = append(each, fmt.Sprintf("%s (%s)", c.Name(), c.reason))
		}
		return nil, engine.Mistaken("path", advice.Add(fmt.Errorf("several interpreters claim it: %s", strings.Join(each, " and ")), advice.NameInterpreter))
	case len(candidates) == 1:
	case at.reference != "":
		return nil, engine.Mistaken("path", fmt.Errorf("no interpreter takes %s:// sources (there are: %s)", referenceScheme(at.reference), strings.Join(names(all), ", ")))
	case fallback == nil:
		return nil, advice.Add(fmt.Errorf("no interpreter claims it (there are: %s)", strings.Join(names(all), ", ")), advice.NameInterpreter)
	default:
		candidates = append(candidates, fallback)
		here, err := list(at.abs(at.path))
		for _, m := range wellKnown {
			if err == nil && at.folder && match(m.name, here) != "" {
				return nil, engine.Mistaken("path", fmt.Errorf("%s needs the interpreter %s, which is not installed (there are: %s); the interpreter plain takes the files as they are",
					strings.TrimSuffix(m.name, "/"), m.interpreter, strings.Join(names(all), ", ")))
			}
		}
		if err := s.whole(ctx, report, at); err != nil {
			return nil, err
		}
	}
	return candidates[0], nil
}

// byName adds the name of the interpreter whose call failed, unless the error contains it.
func byName(i rendering.Interpreter, err error) error {
	name := "interpreter " + i.Name()
	if strings.HasPrefix(err.Error(), name) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Claims returns the reason why an interpreter claims a folder or file that names no interpreter,
// or "" if it does not. It considers markers above up to the repository that folder is in, or up
// to folder if there is none.
func Claims(d interpreter.Description, path, folder string) (reason string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	folder, err = filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", folder, err)
	}
	at, err := locate(path, folder)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	c, err := claims(d, at)
	return c.reason, err
}

// Reads returns the absolute paths of the files and folders that an interpreter reads for a
// source without options. folder is the same as for Claims.
func Reads(ctx context.Context, i interpreter.Interpreter, path, folder string) ([]string, error) {
	at, err := locate(path, folder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	answer, err := i.Inputs(ctx, &interpreter.InputsRequest{Root: at.root, Path: at.path, Options: json.RawMessage("{}")})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range answer.Paths {
		out = append(out, at.abs(p))
	}
	return out, nil
}

// claim is the reason why an interpreter claims a source; without a reason, it does not.
type claim struct {
	reason string
	above  string // the folder above the source that contains the marker
}

// claims looks for the markers of an interpreter.
func claims(d interpreter.Description, at place) (claim, error) {
	if at.reference != "" {
		if s := referenceScheme(at.reference); slices.Contains(d.References, s) {
			return claim{reason: "takes " + s + ":// sources"}, nil
		}
		return claim{}, nil
	}
	source := at.abs(at.path)
	dir, here := filepath.Dir(source), []string{filepath.Base(source)}
	if at.folder {
		var err error
		if here, err = list(source); err != nil {
			return claim{}, err
		}
		dir = source
	}
	for _, m := range d.Markers {
		if m.With != "" && match(m.With, here) == "" || m.File && at.folder {
			continue
		}
		if name := match(m.Name, here); name != "" {
			return claim{reason: "found " + name}, nil
		}
		if !m.Above {
			continue
		}
		up := ""
		for above := dir; at.mayHold(above); above = filepath.Dir(above) {
			names, err := list(above)
			if err != nil {
				break // an unreadable folder has no markers
			}
			if name := match(m.Name, names); name != "" {
				return claim{reason: "found " + up + name, above: above}, nil
			}
			up += "../"
		}
	}
	return claim{}, nil
}

// mayHold reports whether a folder at or above the source is searched for markers.
func (at place) mayHold(dir string) bool {
	return filepath.Dir(dir) != dir && at.grow(dir)
}

// match returns the first name that matches a pattern, or "". Names and patterns of folders end
// with a slash.
func match(pattern string, names []string) string {
	for _, name := range names {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return strings.TrimSuffix(name, "/")
		}
	}
	return ""
}

// list returns the names in a folder, sorted. Names of folders end with a slash.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read folder %s: %w", dir, regular.Cause(err))
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
		folder := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			info, err := os.Stat(filepath.Join(dir, e.Name()))
			folder = err == nil && info.IsDir()
		}
		if folder {
			names[i] += "/"
		}
	}
	return names, nil
}

func referenceScheme(reference string) string {
	s, _, _ := strings.Cut(reference, "://")
	return s
}

func names(all []rendering.Interpreter) (out []string) {
	for _, i := range all {
		out = append(out, i.Name())
	}
	return out
}
