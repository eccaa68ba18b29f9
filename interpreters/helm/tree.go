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
)

// tree reads a folder that nothing leads out of, symbolic links included.
type tree struct {
	dir  string // without symbolic links
	root *os.Root
	// live says that this is where the source comes from: what leads out of it is
	// noted, for tape to judge, and not an error.
	live bool
	// links are where the symbolic links met so far lead to, relative to dir.
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

// read reads a file, without a byte order mark.
func (t *tree) read(name string) ([]byte, error) {
	if t == nil {
		return nil, fs.ErrNotExist
	}
	data, err := t.root.ReadFile(filepath.FromSlash(name))
	if err != nil {
		return nil, cause(err)
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil
}

// chart loads the chart in a folder: what .helmignore does not name, through
// symbolic links. loader.LoadDir does that too, but follows links anywhere,
// into themselves as well, and loads subcharts in the order of a map.
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
		return nil, problem(dir, "cannot read the chart: %w", cause(err))
	}
	if err := w.folder("", info, nil); err != nil {
		return nil, err
	}
	return load(dir, func() (*chart.Chart, error) { return loader.LoadFiles(w.files) })
}

// load puts what a loader says into words, and subcharts into one order.
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

// walk collects a chart's files.
type walk struct {
	tree  *tree
	top   string
	rules *ignore.Rules
	files []*loader.BufferedFile
}

// folder takes what lies in a folder below top; above are the folders it lies in,
// which a symbolic link must not lead back to.
func (w *walk) folder(name string, info fs.FileInfo, above []fs.FileInfo) error {
	full := path.Join(w.top, name)
	if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
		return problem(full, "the symbolic link leads to a folder that it lies in")
	}
	above = append(above, info)
	entries, err := fs.ReadDir(w.tree.root.FS(), full)
	if err != nil {
		return problem(full, "cannot read the folder: %w", cause(err))
	}
	for _, e := range entries {
		name, full := path.Join(name, e.Name()), path.Join(full, e.Name())
		if link, err := e.Info(); err == nil && w.rules.Ignore(name, link) {
			continue
		}
		info, err := w.tree.stat(full, e)
		switch {
		case err != nil:
			return problem(full, "cannot read it: %w", cause(err))
		case info == nil, w.rules.Ignore(name, info):
			// Outside, or ignored as the folder that the link itself was not.
		case info.IsDir():
			err = w.folder(name, info, above)
		case !info.Mode().IsRegular():
			err = problem(full, "is neither a file nor a folder: a chart cannot have it (.helmignore can)")
		case w.tree.live && !saysWhatItNeeds(name):
			// Inputs does not render.
		case info.Size() > loader.MaxDecompressedFileSize:
			err = problem(full, "has %d bytes, and Helm takes no file of more than %d in a chart (.helmignore leaves it out)", info.Size(), loader.MaxDecompressedFileSize)
		default:
			var data []byte
			if data, err = w.tree.read(full); err != nil {
				return problem(full, "cannot read it: %w", err)
			}
			w.files = append(w.files, &loader.BufferedFile{Name: name, Data: data})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// saysWhatItNeeds says whether a file of a chart tells which charts it needs, or
// which it has.
func saysWhatItNeeds(name string) bool {
	switch path.Base(name) {
	case "Chart.yaml", "requirements.yaml":
		return true
	}
	return strings.HasPrefix(name, "charts/") && path.Ext(name) == ".tgz"
}

// stat follows a symbolic link and notes where it leads. It returns nothing for
// one that leads out of a live tree.
func (t *tree) stat(name string, e fs.DirEntry) (fs.FileInfo, error) {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.Info()
	}
	target, err := filepath.EvalSymlinks(filepath.Join(t.dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("the symbolic link leads nowhere: %w", cause(err))
	}
	rel, err := filepath.Rel(t.dir, target)
	if err != nil {
		return nil, err
	}
	if !filepath.IsLocal(rel) && !t.live {
		return nil, errors.New("the symbolic link leads out of the source")
	}
	t.links = append(t.links, filepath.ToSlash(rel))
	if !filepath.IsLocal(rel) {
		return nil, nil
	}
	return t.root.Stat(name)
}
