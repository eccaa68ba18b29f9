// SPDX-License-Identifier: Apache-2.0

package cue

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/inject/embed"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/mod/modfile"

	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/plugins/interpreter"
)

const (
	moduleDir  = "cue.mod"
	cueExt     = ".cue"
	testSuffix = "_test.cue"
)

// vendored lists the folders in cue.mod that contain packages by their import path.
var vendored = []string{"gen", "pkg", "usr"}

// inputs lists the files that loading the packages may read. The list may be too long (tags
// and package names select among the files), but is never too short. It is computed from
// imports, without asking a registry.
func (s *source) inputs() ([]string, error) {
	w := &walker{source: s, files: map[string]bool{}, folders: map[string]bool{}, seen: map[string]bool{}}
	if err := w.module(); err != nil {
		return nil, err
	}
	for _, p := range s.packages {
		if err := w.argument(p); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(w.files)), slices.Sorted(maps.Keys(w.folders))) {
		out = append(out, s.relative(name))
	}
	return out, nil
}

// relative returns a path relative to the root. It may lead outside.
func (s *source) relative(path string) string {
	rel, err := filepath.Rel(s.root, path)
	if err != nil {
		return filepath.ToSlash(path)
	}
	return filepath.ToSlash(rel)
}

// walker collects files. All paths are absolute.
type walker struct {
	*source
	path    string            // of the module, without version; "" if there is none
	locals  map[string]string // module path → folder, for modules replaced by folders
	files   map[string]bool
	folders map[string]bool
	seen    map[string]bool // package folders
}

// module reads the path of the module and its replacements by local folders.
func (w *walker) module() error {
	w.locals = map[string]string{}
	for _, name := range []string{"module.cue", "local-module.cue"} {
		file := filepath.Join(w.source.module, moduleDir, name)
		data, err := readFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return unreadable(w.relative(file), err)
		}
		w.files[file] = true
		m, err := modfile.ParseNonStrict(data, file)
		if err != nil {
			if m, err = modfile.ParseLegacy(data, file); err != nil {
				continue // reported when it is loaded
			}
		}
		if m.Module != "" {
			w.path = ast.ParseImportPath(m.Module).Path
		}
		for name, dep := range m.Deps {
			if strings.HasPrefix(dep.ReplaceWith, "./") || strings.HasPrefix(dep.ReplaceWith, "../") {
				w.locals[ast.ParseImportPath(name).Path] = filepath.Join(w.source.module, filepath.FromSlash(dep.ReplaceWith))
			}
		}
	}
	for _, dir := range w.locals {
		if file := filepath.Join(dir, moduleDir, "module.cue"); exists(file) {
			w.files[file] = true
		}
	}
	return nil
}

// argument adds the packages that an argument of the cue command names.
func (w *walker) argument(arg string) error {
	if strings.HasSuffix(arg, cueExt) {
		return w.file(filepath.Join(w.dir, filepath.FromSlash(arg)))
	}
	ip := ast.ParseImportPath(arg)
	pattern, all := strings.CutSuffix(ip.Path, "/...")
	if ip.Path == "..." {
		pattern, all = ".", true
	}
	if pattern != "." && !strings.HasPrefix(pattern, "./") && pattern != ".." && !strings.HasPrefix(pattern, "../") {
		if !all {
			return w.imported(pattern)
		}
		dir, ok := w.inModule(pattern)
		if !ok {
			return nil // reported when it is loaded
		}
		return w.below(dir)
	}
	dir := filepath.Join(w.dir, filepath.FromSlash(pattern))
	if all {
		return w.below(dir)
	}
	return w.folder(dir, w.source.module)
}

// below adds the packages in a folder and below it, like ./...: it skips names that begin with a
// dot or underscore, and other modules.
func (w *walker) below(top string) error {
	return filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			if name == top {
				return nil // reported when it is loaded
			}
			return unreadable(w.relative(name), err)
		}
		if !entry.IsDir() {
			return nil
		}
		base := entry.Name()
		if name != top && (base == moduleDir || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || exists(filepath.Join(name, moduleDir))) {
			return fs.SkipDir
		}
		return w.folder(name, w.source.module)
	})
}

// folder adds the files of a package: those in its folder, and in the folders above up to
// the top, which may belong to the same package.
func (w *walker) folder(dir, top string) error {
	for ; ; dir = filepath.Dir(dir) {
		if w.seen[dir] {
			return nil
		}
		w.seen[dir] = true
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unreadable(w.relative(dir), err)
		}
		for _, entry := range entries {
			name := entry.Name()
			if entry.IsDir() || !strings.HasSuffix(name, cueExt) || strings.HasSuffix(name, testSuffix) ||
				strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
				continue
			}
			if err := w.file(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		if dir == top || filepath.Dir(dir) == dir || !within(top, dir) {
			return nil
		}
	}
}

// readFile reads a file of the source. Reading a named pipe would block.
func readFile(name string) ([]byte, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, errors.New("it is neither a file nor a folder")
	}
	return os.ReadFile(name)
}

// file adds a file, its imports and its embedded files.
func (w *walker) file(name string) error {
	if w.files[name] {
		return nil
	}
	data, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		// It is a dangling symbolic link, or an argument that names no file.
		return nil
	}
	if err != nil {
		return unreadable(w.relative(name), err)
	}
	w.files[name] = true
	f, err := parser.ParseFile(name, data, parser.ParseComments)
	if err != nil {
		return nil // reported when it is loaded
	}
	dir := filepath.Dir(name)
	embeds, _ := embed.EmbeddedPaths(filepath.Base(name), f)
	for _, e := range embeds {
		if e.IsGlob() {
			// Files that are added later may match too.
			w.folders[dir] = true
			continue
		}
		found, err := e.FindAll(os.DirFS(dir))
		if err != nil {
			continue // reported when it is built
		}
		for _, file := range found {
			w.files[filepath.Join(dir, filepath.FromSlash(file))] = true
		}
	}
	for _, module := range bundled(f) {
		w.folders[filepath.Join(dir, filepath.FromSlash(module))] = true
	}
	for spec := range f.ImportSpecs() {
		if path, err := literal.Unquote(spec.Path.Value); err == nil {
			if err := w.imported(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// imported adds a package by its import path, if it is in the tree. A package of this module
// may also be in cue.mod, in part or as a whole: `cue get go` writes the module's own Go
// packages there.
func (w *walker) imported(path string) error {
	path = ast.ParseImportPath(path).Path
	if dir, ok := w.inModule(path); ok {
		if err := w.folder(dir, w.source.module); err != nil {
			return err
		}
	}
	for name, local := range w.locals {
		if rest, ok := cutPath(path, name); ok {
			if err := w.folder(filepath.Join(local, filepath.FromSlash(rest)), local); err != nil {
				return err
			}
		}
	}
	for _, sub := range vendored {
		dir := filepath.Join(w.source.module, moduleDir, sub, filepath.FromSlash(path))
		if err := w.folder(dir, dir); err != nil {
			return err
		}
	}
	return nil
}

// inModule returns the folder of a package of this module.
func (w *walker) inModule(path string) (dir string, ok bool) {
	if w.path == "" {
		return "", false
	}
	rest, ok := cutPath(path, w.path)
	return filepath.Join(w.source.module, filepath.FromSlash(rest)), ok
}

// cutPath cuts a prefix of whole path elements.
func cutPath(path, prefix string) (rest string, ok bool) {
	if path == prefix {
		return "", true
	}
	return strings.CutPrefix(path, prefix+"/")
}

// unreadable returns the problem of a file that cannot be read.
func unreadable(file string, err error) error {
	return interpreter.Problem(file, 0, "cannot be read: %w", regular.Cause(err))
}

func within(top, dir string) bool {
	rel, err := filepath.Rel(top, dir)
	return err == nil && filepath.IsLocal(rel)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func isFolder(name string) (bool, error) {
	info, err := os.Stat(name)
	if err != nil {
		return false, err
	}
	return info.IsDir(), nil
}
