// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/app/internal/newfile"
	"github.com/taped-dev/tape/stages/artifact"
)

// InitOptions are the options of Init.
type InitOptions struct {
	app.Environment
	// Dir is the folder to inspect, where the file is written.
	Dir string
	// Repository below which each application gets its own repository; "" writes an example.
	Repository string
	// Force replaces an existing file.
	Force bool
}

// InitResult is the written file.
type InitResult struct {
	File         string `json:"file"`
	Fleet        string `json:"fleet"` // its content
	Applications int    `json:"applications"`
}

// Init writes a fleet file for the applications in a folder.
func Init(ctx context.Context, o InitOptions) (*InitResult, error) {
	if o.Repository != "" {
		if err := artifact.CheckRepository(o.Repository); err != nil {
			return nil, &app.UsageError{Err: err}
		}
	}
	file := filepath.Join(o.Dir, FileName)
	if _, err := os.Lstat(file); err == nil && !o.Force {
		return nil, newfile.Exists(file)
	}
	found, err := app.Find(ctx, app.FindOptions{Environment: o.Environment, Dir: o.Dir})
	if err != nil {
		return nil, err
	}
	data, n := o.text(found)
	if err := newfile.Write(file, data, o.Force); err != nil {
		return nil, fmt.Errorf("write fleet: %w", err)
	}
	return &InitResult{File: file, Fleet: data, Applications: n}, nil
}

// text returns the file.
func (o *InitOptions) text(found *app.Found) (string, int) {
	paths := slices.Clone(found.Pipelines)
	for _, s := range found.Sources {
		paths = append(paths, s.Path)
	}
	slices.Sort(paths)
	names := distinctNames(paths)
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: %s\nkind: Fleet\napplications:\n", pipeline.APIVersion)
	for _, p := range o.patterns(paths, names) {
		b.WriteString("  - " + p + "\n")
	}
	for _, left := range found.Left {
		fmt.Fprintf(&b, "  # left out, %s: %s\n", newfile.OneLine(left.Reason), newfile.OneLine(strings.Join(left.Paths, ", ")))
	}
	fmt.Fprintf(&b, "defaults:\n  output:\n    image: %s/${name}\n", cmp.Or(o.Repository, "registry.example.com/apps"))
	return b.String(), len(paths)
}

// patterns returns the entries for applications: one glob for a folder in which every folder is
// an application with its name, else one entry each.
func (o *InitOptions) patterns(paths []string, names map[string]string) []string {
	in := map[string][]string{} // by parent
	for _, p := range paths {
		in[path.Dir(p)] = append(in[path.Dir(p)], p)
	}
	var out []string
	globbed := map[string]bool{}
	for _, p := range paths {
		dir := path.Dir(p)
		switch {
		case globbed[dir]:
		case p != "." && len(in[dir]) > 1 && o.wholly(dir, in[dir], names):
			globbed[dir] = true
			out = append(out, newfile.Quote(path.Join(dir, "*")))
		case names[p] == path.Base(p):
			out = append(out, newfile.Quote(p))
		default:
			out = append(out, fmt.Sprintf("{path: %s, name: %s}", newfile.Quote(p), names[p]))
		}
	}
	return out
}

// wholly reports whether a glob of a folder matches exactly these applications.
func (o *InitOptions) wholly(dir string, paths []string, names map[string]string) bool {
	entries, err := os.ReadDir(filepath.Join(o.Dir, filepath.FromSlash(dir)))
	if err != nil {
		return false
	}
	folders := 0
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") || e.Type()&fs.ModeSymlink != 0 {
			folders++
		}
	}
	return folders == len(paths) && !slices.ContainsFunc(paths, func(p string) bool { return names[p] != path.Base(p) })
}

// between matches folders that group applications, and are not part of their names.
var between = regexp.MustCompile(`^(apps?|applications?|base|charts?|clusters?|config|deploy(ments?)?|env(s|ironments?)?|helm|k8s|kubernetes|kustomize|manifests|overlays?|services?)$`)

// distinctNames names each application after the last element of its path and, if that is not
// unique, after what precedes it: web-dev for web/overlays/dev.
func distinctNames(paths []string) map[string]string {
	names := map[string]string{}
	for depth := 1; ; depth++ {
		count := map[string]int{}
		for _, p := range paths {
			if names[p] == "" {
				count[nameAt(p, depth)]++
			}
		}
		for _, taken := range names {
			count[taken]++
		}
		left := false
		for _, p := range paths {
			if names[p] != "" {
				continue
			}
			if n := nameAt(p, depth); count[n] == 1 && applicationName.MatchString(n) {
				names[p] = n
			} else {
				left = true
			}
		}
		if !left {
			return names
		}
		if depth > 64 { // names that differ only in characters that a name cannot have
			for i, p := range paths {
				if names[p] == "" {
					names[p] = fmt.Sprintf("app-%d", i+1)
				}
			}
			return names
		}
	}
}

// nameAt returns a name of up to depth elements of a path, without those that only group
// applications. The name of an overlay includes that of its application.
func nameAt(p string, depth int) string {
	elements := strings.Split(p, "/")
	telling := slices.DeleteFunc(slices.Clone(elements), between.MatchString)
	if len(elements) > 1 && overlays.MatchString(elements[len(elements)-2]) {
		depth++
	}
	if len(telling) == 0 || depth > len(telling)+1 {
		telling = elements
	}
	return notInNames.ReplaceAllString(strings.Join(telling[max(len(telling)-depth, 0):], "-"), "-")
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]`)

var overlays = regexp.MustCompile(`^(overlays?|env(s|ironments?)?|clusters?)$`)
