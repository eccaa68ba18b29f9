// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/taped-dev/tape/internal/regular"
)

// tree is the read-only file system that kustomize sees: the source at /, fetched
// repositories below /.tape-fetched, and single files that replace or add to these. Nothing
// outside is accessible, including through symbolic links.
type tree struct {
	mounts []mount // later ones are below earlier ones
	files  map[string][]byte
}

// mount is a folder on disk at a path of the tree.
type mount struct {
	at   string // clean absolute path in the tree
	dir  string // symbolic links resolved
	root *os.Root
}

// fetchedFolder is the folder of fetched repositories in the tree.
const fetchedFolder = "/.tape-fetched"

func newTree(dir string) (*tree, error) {
	t := &tree{files: map[string][]byte{}}
	return t, t.mount("/", dir)
}

// mount adds a folder on disk to the tree.
func (t *tree) mount(at, dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	t.mounts = append(t.mounts, mount{at, dir, root})
	return nil
}

func (t *tree) Close() {
	for _, m := range t.mounts {
		_ = m.root.Close()
	}
}

// at returns the mount of a path, and the path relative to it.
func (t *tree) at(name string) (mount, string) {
	name = path.Join("/", filepath.ToSlash(name))
	for _, m := range slices.Backward(t.mounts) {
		if rest, ok := cutFolder(name, m.at); ok {
			return m, rest
		}
	}
	return t.mounts[0], "." // unreachable: the first mount is /
}

// cutFolder returns a path relative to a folder that contains it, "." for the folder
// itself.
func cutFolder(name, folder string) (string, bool) {
	if name == folder {
		return ".", true
	}
	return strings.CutPrefix(name, strings.TrimSuffix(folder, "/")+"/")
}

// real resolves the symbolic links in the path of an existing file.
func (t *tree) real(name string) (string, error) {
	name = path.Join("/", filepath.ToSlash(name))
	if _, ok := t.files[name]; ok {
		return name, nil
	}
	m, rest := t.at(name)
	target, err := filepath.EvalSymlinks(filepath.Join(m.dir, filepath.FromSlash(rest)))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, regular.Cause(err))
	}
	rel, err := filepath.Rel(m.dir, target)
	if err != nil || !filepath.IsLocal(rel) {
		return "", &outsideError{name, filepath.ToSlash(rel)}
	}
	return path.Join(m.at, filepath.ToSlash(rel)), nil
}

// outsideError reports a symbolic link that leads outside its mount. The target is relative to
// the mount.
type outsideError struct{ name, target string }

func (e *outsideError) Error() string {
	return e.name + ": the symbolic link leads outside the source"
}

func (t *tree) stat(name string) (fs.FileInfo, error) {
	real, err := t.real(name)
	if err != nil {
		return nil, err
	}
	m, rest := t.at(real)
	info, err := m.root.Stat(filepath.FromSlash(rest))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, regular.Cause(err))
	}
	return info, nil
}

// inSource reports whether a path is a file of the source, and not a fetched one.
func (t *tree) inSource(name string) bool {
	if !fs.ValidPath(name) || mountOf(name) != "" {
		return false
	}
	info, err := t.mounts[0].root.Stat(filepath.FromSlash(name))
	return err == nil && info.Mode().IsRegular()
}

// The methods below implement kustomize's file system.

// ReadFile reads a file for kustomize. It rejects files that make kustomize fetch something.
func (t *tree) ReadFile(name string) ([]byte, error) {
	data, err := t.read(name)
	if err != nil {
		return nil, err
	}
	if remote := remoteInPlugins(data); len(remote) > 0 {
		return nil, fmt.Errorf("%s names %s: a plugin's configuration cannot name a remote file: name it in the kustomization", name, remote[0])
	}
	return data, nil
}

func (t *tree) read(name string) ([]byte, error) {
	real, err := t.real(name)
	if err != nil {
		return nil, err
	}
	if data, ok := t.files[real]; ok {
		return slices.Clone(data), nil
	}
	m, rest := t.at(real)
	info, err := m.root.Stat(filepath.FromSlash(rest))
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() { // reading a named pipe would block
		err = errors.New("it is neither a file nor a folder")
	}
	var data []byte
	if err == nil {
		data, err = m.root.ReadFile(filepath.FromSlash(rest))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, regular.Cause(err))
	}
	return data, nil
}

func (t *tree) IsDir(name string) bool {
	if _, ok := t.files[path.Join("/", name)]; ok {
		return false
	}
	info, err := t.stat(name)
	return err == nil && info.IsDir()
}

func (t *tree) Exists(name string) bool {
	_, err := t.real(name)
	return err == nil
}

func (t *tree) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	real, err := t.real(name)
	if err != nil {
		return "", "", err
	}
	if t.IsDir(real) {
		return filesys.ConfirmedDir(real), "", nil
	}
	return filesys.ConfirmedDir(path.Dir(real)), path.Base(real), nil
}

func (t *tree) ReadDir(name string) ([]string, error) {
	real, err := t.real(name)
	if err != nil {
		return nil, err
	}
	m, rest := t.at(real)
	entries, err := fs.ReadDir(m.root.FS(), rest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, regular.Cause(err))
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// errUnused is returned by methods that kustomize does not use in a build.
var errUnused = errors.New("the source is read-only")

func (*tree) Create(string) (filesys.File, error)  { return nil, errUnused }
func (*tree) Open(string) (filesys.File, error)    { return nil, errUnused }
func (*tree) Glob(string) ([]string, error)        { return nil, errUnused }
func (*tree) Walk(string, filepath.WalkFunc) error { return errUnused }
func (*tree) Mkdir(string) error                   { return errUnused }
func (*tree) MkdirAll(string) error                { return errUnused }
func (*tree) RemoveAll(string) error               { return errUnused }
func (*tree) WriteFile(string, []byte) error       { return errUnused }

var _ filesys.FileSystem = (*tree)(nil)
