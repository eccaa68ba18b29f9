// SPDX-License-Identifier: Apache-2.0

package vcs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/taped-dev/tape/internal/regular"
)

// checkFiles returns an error if the repository whose work tree is at top contains anything but
// regular files and folders in places that git and go-git read. Opening a named pipe blocks both
// of them, and a device may have no end.
func checkFiles(top string) error {
	dir := filepath.Join(top, ".git")
	if info, err := os.Stat(dir); err != nil {
		return err
	} else if !info.IsDir() { // the .git of a linked work tree or a submodule
		data, err := regular.ReadFile(dir)
		if err != nil {
			return err
		}
		dir = within(top, strings.TrimPrefix(string(data), "gitdir: "))
	}
	if err := checkTree(dir); err != nil {
		return err
	}
	common, err := regular.ReadFile(filepath.Join(dir, "commondir"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = checkTree(within(dir, string(common)))
	}
	return err
}

// within returns the path in text, which is the content of a file in dir.
func within(dir, text string) string {
	if text = strings.TrimRight(text, "\r\n"); filepath.IsAbs(text) {
		return text
	}
	return filepath.Join(dir, text)
}

// checkTree checks the parts of a git directory that are read to find out what is committed. It
// follows symbolic links one level: git creates none, but people replace folders such as objects
// by links.
func checkTree(dir string) error {
	for _, name := range []string{"HEAD", "commondir", "config", "config.worktree", "index", "info", "objects", "packed-refs", "refs", "reftable", "shallow"} {
		root, err := filepath.EvalSymlinks(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // git may be running
			}
			if err != nil {
				return err
			}
			kind := entry.Type()
			if kind == fs.ModeSymlink {
				info, err := os.Stat(file)
				if err != nil {
					return nil // it leads nowhere, which its reader reports
				}
				kind = info.Mode().Type()
			}
			if kind != 0 && kind != fs.ModeDir {
				return fmt.Errorf("%s is not a regular file", file)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
