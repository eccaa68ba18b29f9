// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

const prefix = "tape-interpreter-"

// SearchPath returns the folders to search for interpreters, in order: the folder of the
// tape binary exe, the folders in $TAPE_INTERPRETERS (a list like $PATH), and [UserDir].
// Relative folders are dropped: the result must not depend on the working directory.
func SearchPath(exe string, getenv func(string) string) []string {
	dirs := []string{filepath.Dir(exe)}
	// The binary may be a symbolic link into the folder that holds its interpreters.
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	dirs = append(dirs, filepath.SplitList(getenv("TAPE_INTERPRETERS"))...)
	dirs = append(dirs, UserDir(getenv))

	var out []string
	for _, dir := range dirs {
		if dir = filepath.Clean(dir); filepath.IsAbs(dir) && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// UserDir returns the folder where [Install] puts the user's interpreters:
// $XDG_DATA_HOME/tape/interpreters, by default ~/.local/share/tape/interpreters. It returns
// "" if neither variable is set.
func UserDir(getenv func(string) string) string {
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tape", "interpreters")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "tape", "interpreters")
	}
	return ""
}

var nameRegexp = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkName(name string) error {
	switch {
	case nameRegexp.MatchString(name):
		return nil
	case strings.ContainsAny(name, `/\`):
		return fmt.Errorf("interpreter %q is a path: give the interpreter by name, so that a checked-in file cannot choose what is executed; "+
			"install it first", name)
	}
	return fmt.Errorf("interpreter %q is not a valid name: want lower-case letters, digits and dashes, such as helm", name)
}

func fileName(name string) string {
	if runtime.GOOS == "windows" {
		return prefix + name + ".exe"
	}
	return prefix + name
}

// interpreterName is the reverse of fileName.
func interpreterName(file string) (name string, ok bool) {
	name, ok = strings.CutPrefix(file, prefix)
	if runtime.GOOS == "windows" && ok {
		name, ok = strings.CutSuffix(name, ".exe")
	}
	if !ok || !nameRegexp.MatchString(name) {
		return "", false
	}
	return name, true
}
