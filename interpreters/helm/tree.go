// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/ignore"

	"github.com/taped-dev/tape/internal/regular"
)

// tree reads a folder and prevents access outside it, including through symbolic links.
type tree struct {
	dir  string // symbolic links resolved
	root *os.Root
	// live is set if this is the original tree of the source. References outside are then
	// recorded, for tape to decide on, instead of being an error.
	live bool
	// links are the targets of the symbolic links found so far, relative to dir.
	links []string
}

func openTree(dir string, live bool) (*tree, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{dir: dir, root: root, live: live}, nil
}

func (t *tree) Close() { _ = t.root.Close() }

// read reads a file and removes a byte order mark.
func (t *tree) read(name string) ([]byte, error) {
	if t == nil {
		return nil, fs.ErrNotExist
	}
	data, err := t.root.ReadFile(filepath.FromSlash(name))
	if err != nil {
		return nil, regular.Cause(err)
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil
}

// chart loads the chart in a folder, honouring .helmignore and following symbolic links.
// loader.LoadDir does that too, but follows links out of the tree and in cycles, and loads
// subcharts in random order.
func (t *tree) chart(dir string) (*chart.Chart, error) {
	rules := ignore.Empty()
	if data, err := t.read(path.Join(dir, ignore.HelmIgnore)); err == nil {
		if rules, err = ignore.Parse(bytes.NewReader(data)); err != nil {
			return nil, problem(path.Join(dir, ignore.HelmIgnore), "%w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, problem(path.Join(dir, ignore.HelmIgnore), "%w", err)
	}
	rules.AddDefaults()

	w := walk{tree: t, top: dir, rules: rules}
	info, err := t.root.Stat(dir)
	if err != nil {
		return nil, problem(dir, "cannot read the chart: %w", regular.Cause(err))
	}
	if err := w.folder("", info, nil); err != nil {
		return nil, err
	}
	return load(dir, func() (*chart.Chart, error) { return loader.LoadFiles(w.files) })
}

// load converts the error of a loader to a problem, and sorts subcharts.
func load(source string, f func() (*chart.Chart, error)) (*chart.Chart, error) {
	c, err := f()
	if err != nil {
		for _, file := range []string{"Chart.yaml", "Chart.lock", "values.yaml", "requirements.yaml", "requirements.lock"} {
			if text, ok := strings.CutPrefix(err.Error(), "cannot load "+file+": "); ok {
				return nil, yamlProblem(path.Join(source, file), file, errors.New(text))
			}
		}
		return nil, problem(source, "cannot load the chart: %w", err)
	}
	order(c)
	return c, nil
}

func order(c *chart.Chart) {
	deps := c.Dependencies()
	slices.SortStableFunc(deps, func(a, b *chart.Chart) int {
		return cmp.Or(strings.Compare(a.Name(), b.Name()), strings.Compare(a.Metadata.Version, b.Metadata.Version))
	})
	for _, dep := range deps {
		order(dep)
	}
}

// walk collects the files of a chart.
type walk struct {
	tree  *tree
	top   string
	rules *ignore.Rules
	files []*loader.BufferedFile
}

// folder adds a folder below top. above are the folders that contain it; a symbolic link
// must not lead back to one of them.
func (w *walk) folder(name string, info fs.FileInfo, above []fs.FileInfo) error {
	full := path.Join(w.top, name)
	if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
		return problem(full, "the symbolic link leads to a folder that contains it")
	}
	above = append(above, info)
	entries, err := fs.ReadDir(w.tree.root.FS(), full)
	if err != nil {
		return problem(full, "cannot read the folder: %w", regular.Cause(err))
	}
	for _, e := range entries {
		name, full := path.Join(name, e.Name()), path.Join(full, e.Name())
		if link, err := e.Info(); err == nil && w.rules.Ignore(name, link) {
			continue
		}
		info, err := w.tree.stat(full, e)
		switch {
		case err != nil:
			return problem(full, "cannot be read: %w", regular.Cause(err))
		case info == nil, w.rules.Ignore(name, info):
			// Outside the tree, or its target is an ignored folder.
		case info.IsDir():
			err = w.folder(name, info, above)
		case !info.Mode().IsRegular():
			err = problem(full, "is neither a file nor a folder: exclude it in .helmignore")
		case w.tree.live && !saysWhatItNeeds(name):
			// Inputs does not need its content.
		case info.Size() > loader.MaxDecompressedFileSize:
			err = problem(full, "has %d bytes, more than the %d that Helm allows for a file in a chart: exclude it in .helmignore", info.Size(), loader.MaxDecompressedFileSize)
		default:
			var data []byte
			if data, err = w.tree.read(full); err != nil {
				return problem(full, "cannot be read: %w", err)
			}
			w.files = append(w.files, &loader.BufferedFile{Name: name, Data: data})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// saysWhatItNeeds reports whether a file of a chart determines which charts it depends on
// or contains.
func saysWhatItNeeds(name string) bool {
	switch path.Base(name) {
	case "Chart.yaml", "requirements.yaml":
		return true
	}
	return strings.HasPrefix(name, "charts/") && path.Ext(name) == ".tgz"
}

// stat follows a symbolic link and records its target. It returns nil for a link that leads
// out of a live tree.
func (t *tree) stat(name string, e fs.DirEntry) (fs.FileInfo, error) {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.Info()
	}
	target, err := filepath.EvalSymlinks(filepath.Join(t.dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("the symbolic link leads nowhere: %w", regular.Cause(err))
	}
	rel, err := filepath.Rel(t.dir, target)
	if err != nil {
		return nil, err
	}
	if !filepath.IsLocal(rel) && !t.live {
		return nil, errors.New("the symbolic link leads outside the source")
	}
	t.links = append(t.links, filepath.ToSlash(rel))
	if !filepath.IsLocal(rel) {
		return nil, nil
	}
	return t.root.Stat(name)
}
