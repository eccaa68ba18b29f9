// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/source"
)

// Application is an application of a fleet.
type Application struct {
	Name string `json:"name"`
	// Path is slash-separated and relative to the fleet file. It is that of a pipeline file, or
	// of a source.
	Path string `json:"path"`
	// Pipeline reports whether Path is a pipeline file.
	Pipeline bool `json:"pipeline,omitempty"`
	// Repository and Tags are those in the fleet file; a destination in the pipeline file takes
	// precedence.
	Repository string   `json:"repository,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	at         document.Position
}

// Find returns the applications of the fleet, sorted by name.
func (f *File) Find(ctx context.Context) ([]Application, error) {
	var (
		found = map[string]Application{} // by path
		wrong document.Problems
		all   = &tree{dir: f.dir}
	)
	for _, p := range f.Applications {
		glob, negated := strings.CutPrefix(path.Clean(p.Path), "!")
		if negated {
			n := len(found)
			for at := range found {
				if match(glob, at) || match(glob, path.Dir(at)) {
					delete(found, at)
				}
			}
			if n == len(found) {
				wrong.Add(p.at, "!%s matches none of the applications above", glob)
			}
			continue
		}
		matches, err := all.glob(ctx, glob)
		if err != nil {
			return nil, err
		}
		n := 0
		for _, at := range matches {
			a, ok, err := f.application(p, at)
			if err != nil {
				wrong.Cause(p.at, err)
			}
			if err != nil || ok {
				n++
			}
			if ok {
				found[a.Path] = a
			}
		}
		if n == 0 {
			wrong.Add(p.at, "%s matches no folder and no pipeline", p.Path)
		}
	}
	out := slices.SortedFunc(maps.Values(found), func(a, b Application) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Path, b.Path))
	})
	for i := 1; i < len(out); i++ {
		if a, b := out[i-1], out[i]; a.Name == b.Name {
			wrong.Add(b.at, "%s and %s are both named %s: give one of them as {path: %s, name: …}", a.Path, b.Path, a.Name, b.Path)
		}
	}
	return out, wrong.Err()
}

// application returns the application at a path that was matched, if there is one.
func (f *File) application(p Pattern, at string) (Application, bool, error) {
	here := filepath.Join(f.dir, filepath.FromSlash(at))
	if err := regular.Inside(here, f.dir); err != nil {
		return Application{}, false, err
	}
	info, err := os.Stat(here)
	if err != nil {
		return Application{}, false, fmt.Errorf("find applications: %w", err)
	}
	a := Application{Path: at, at: p.at}
	named := at
	switch {
	case info.IsDir():
		if _, err := os.Stat(filepath.Join(here, app.PipelineFile)); err == nil {
			a.Path, a.Pipeline = path.Join(at, app.PipelineFile), true
		}
	case app.IsPipeline(here):
		a.Pipeline = true
		if path.Base(at) == app.PipelineFile {
			named = path.Dir(at)
		}
	case !strings.Contains(path.Base(p.Path), ".") || path.Base(at) == FileName:
		return Application{}, false, nil // apps/* is of folders
	}
	a.Name = p.Name
	if a.Name == "" {
		base := path.Base(named)
		if named == "." {
			abs, err := filepath.Abs(f.dir)
			if err != nil {
				return Application{}, false, fmt.Errorf("find applications: %w", err)
			}
			base = filepath.Base(abs)
		}
		if !info.IsDir() && named == at {
			base = strings.TrimSuffix(base, path.Ext(base))
		}
		a.Name = base
	}
	if !applicationName.MatchString(a.Name) {
		return Application{}, false, fmt.Errorf("%s is not a valid name for a repository: give it as {path: %s, name: …}", at, at)
	}
	image := cmp.Or(p.Output.Image, f.Defaults.Output.Image)
	if image != "" {
		a.Repository, err = Expand(image, a.Name, named)
		if err == nil {
			err = artifact.CheckRepository(a.Repository)
		}
		if err != nil {
			return Application{}, false, fmt.Errorf("output of %s: %w", at, err)
		}
	}
	a.Tags = p.Output.Tags
	if len(a.Tags) == 0 {
		a.Tags = f.Defaults.Output.Tags
	}
	return a, true, nil
}

// Expand replaces ${name} and ${path}, in lower case as repositories require.
func Expand(text, name, path string) (string, error) {
	var wrong error
	out := os.Expand(text, func(key string) string {
		switch key {
		case "name":
			return strings.ToLower(name)
		case "path":
			return strings.ToLower(path)
		}
		wrong = fmt.Errorf("%q has ${%s}: want ${name} or ${path}", text, key)
		return ""
	})
	return out, wrong
}

// tree is the folder that globs are matched in.
type tree struct {
	dir string
	all []string // what ** was matched against; nil until it was
}

// glob returns the paths that match, sorted.
func (t *tree) glob(ctx context.Context, pattern string) ([]string, error) {
	folders := strings.Contains(pattern, "**")
	if folders && t.all == nil {
		err := fs.WalkDir(os.DirFS(t.dir), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if name != "." && d.IsDir() && source.NotSource(d.Name()) {
				return fs.SkipDir
			}
			t.all = append(t.all, name)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("find applications: %w", err)
		}
	}
	found := slices.Clone(t.all)
	if !folders {
		var err error
		if found, err = fs.Glob(os.DirFS(t.dir), pattern); err != nil {
			return nil, fmt.Errorf("find applications: %w", err)
		}
	}
	return slices.DeleteFunc(found, func(name string) bool { return hidden(name, pattern) || folders && !match(pattern, name) }), nil
}

// hidden reports whether an element of a path begins with a dot, which only a pattern with a
// dot matches.
func hidden(name, pattern string) bool {
	dotted := func(p string) bool {
		return slices.ContainsFunc(strings.Split(p, "/"), func(e string) bool { return len(e) > 1 && e[0] == '.' })
	}
	return dotted(name) && !dotted(pattern)
}

// match matches a path with a glob in which ** matches any number of folders.
func match(pattern, name string) bool {
	return matchElements(strings.Split(pattern, "/"), strings.Split(name, "/"))
}

func matchElements(pattern, name []string) bool {
	for len(pattern) > 0 && pattern[0] != "**" {
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); !ok || err != nil {
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	if len(pattern) == 0 {
		return len(name) == 0
	}
	for i := range len(name) + 1 {
		if matchElements(pattern[1:], name[i:]) {
			return true
		}
	}
	return false
}
