// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/vcs"
)

// place is the location of a source.
type place struct {
	// reference is a remote source. root then contains the files that options name.
	reference string
	// root is absolute and free of symbolic links. For a reference, it is "" until an option
	// names a file.
	root string
	// path is relative to root, with slashes and free of symbolic links; "." means root.
	path   string
	folder bool // path is a folder
	// fixed means that root must not grow.
	fixed bool
}

var scheme = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://`)

// locate finds a source. folder is the folder of the pipeline file, or "" if there is none.
func locate(path, folder string) (place, error) {
	at := place{fixed: folder != ""}
	base, err := filepath.Abs(folder)
	if err == nil {
		base, err = filepath.EvalSymlinks(base)
	}
	if err != nil {
		return place{}, fmt.Errorf("find folder %q: %w", folder, err)
	}
	given := path
	if !filepath.IsAbs(given) {
		given = filepath.Join(base, given)
	}
	real, err := filepath.EvalSymlinks(given)
	var info fs.FileInfo
	if err == nil {
		info, err = os.Stat(real)
	}
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return place{}, fmt.Errorf("open %s: %w", given, regular.Cause(err))
	case scheme.MatchString(path):
		at.reference = path
		real = base
	case strings.Contains(strings.SplitN(path, "/", 2)[0], ".") && !strings.HasPrefix(path, ".") && !filepath.IsAbs(path):
		return place{}, errors.New("no such file or folder (a remote source is spelled oci://… or https://…)")
	default:
		if target, linkErr := os.Readlink(given); linkErr == nil {
			return place{}, fmt.Errorf("the symbolic link leads to %s, which does not exist", target)
		}
		return place{}, errors.New("no such file or folder")
	}

	if at.reference != "" && folder == "" {
		return at, nil
	}
	at.folder = at.reference != "" || info.IsDir()
	if !at.folder && !info.Mode().IsRegular() {
		return place{}, fmt.Errorf("it is %s: give a folder or a file", species(info.Mode()))
	}
	start := base
	if folder == "" {
		if start = real; !at.folder {
			start = filepath.Dir(real)
		}
	}
	at.plant(start)
	var inside bool
	if at.path, inside = below(at.root, real); !inside {
		return place{}, fmt.Errorf("it is in %s, outside %s: everything that a pipeline packages must be in the pipeline file's repository or folder", real, at.root)
	}
	return at, nil
}

// species describes a file that is neither a regular file nor a folder.
func species(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	default:
		return "not a regular file"
	}
}

// below returns an absolute path relative to a folder, with slashes.
func below(folder, path string) (rel string, ok bool) {
	rel, err := filepath.Rel(folder, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// plant sets the root to the repository that a folder is in, or to the folder.
func (at *place) plant(folder string) {
	at.root, at.path = folder, "."
	if top, ok := vcs.FindTop(folder); ok {
		at.root, at.fixed = top, true
	}
}

// grow moves the root up until it contains an absolute path, and reports whether it did. It never
// reaches the home folder or a folder above it, which may contain anything.
func (at *place) grow(path string) bool {
	if at.root == "" {
		at.plant(filepath.Dir(path))
	}
	root := at.root
	for {
		if _, ok := below(root, path); ok {
			break
		}
		root = filepath.Dir(root)
	}
	if root == at.root {
		return true
	}
	if at.fixed || filepath.Dir(root) == root {
		return false
	}
	if home, err := os.UserHomeDir(); err == nil {
		if _, above := below(root, home); above {
			return false
		}
	}
	rel, _ := below(root, at.abs(at.path))
	at.root, at.path = root, rel
	return true
}

// abs returns the absolute form of a path below root.
func (at *place) abs(path string) string { return filepath.Join(at.root, filepath.FromSlash(path)) }

// outside returns the error about a path outside the root.
func (at *place) outside(path string) error {
	if at.fixed {
		return fmt.Errorf("%s is outside %s, and nothing outside is packaged: move it in", path, at.root)
	}
	return fmt.Errorf("%s is too far from %s: what is not in one git repository must be in one folder below the home folder; "+
		"a git repository or a tape.yaml determines what belongs together", path, at.root)
}
