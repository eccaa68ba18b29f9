// SPDX-License-Identifier: Apache-2.0

// Package regular reads files that a repository or a person names: a pipeline and its
// lock, options, keys, lists. Where such a name leads, nobody has checked: it may be a
// device that never ends, or a named pipe that nothing is written to.
package regular

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// MaxFile is the largest file that [ReadFile] reads.
const MaxFile = 4 << 20

// ReadFile reads a regular file of at most [MaxFile] bytes.
func ReadFile(name string) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(name, f)
}

// descriptor matches the names of what the shell that started this process has
// opened for it, as <(command) does.
var descriptor = regexp.MustCompile(`^/(dev/fd|proc/self/fd)/[0-9]+$|^/dev/stdin$`)

// ReadArgument reads what a person names on the command line: a file as
// [ReadFile] does, or a descriptor that their shell has opened, such as
// /dev/fd/63.
func ReadArgument(name string) ([]byte, error) {
	if !descriptor.MatchString(name) {
		return ReadFile(name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return ReadFile(name)
	}
	return ReadAll(name, f)
}

// ReadAll reads a stream, such as standard input, of at most [MaxFile] bytes.
func ReadAll(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, MaxFile)
	}
	return data, nil
}

// Open opens a regular file, and does not wait for a named pipe's other end.
func Open(name string) (*os.File, error) {
	// Opening a device may do something already.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if err := checkRegular(name, info); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|nonblocking, 0)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = checkRegular(name, info)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

func checkRegular(name string, info fs.FileInfo) error {
	mode := info.Mode()
	what := "neither a file nor a folder"
	switch {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a folder"
	case mode&fs.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	}
	return fmt.Errorf("%s is %s, and must be a regular file", name, what)
}

// Inside checks that a file or folder that exists is below top once symbolic links are
// followed.
func Inside(name, top string) error {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	if top, err = filepath.EvalSymlinks(top); err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	if top, err = filepath.Abs(top); err != nil {
		return err
	}
	if rel, err := filepath.Rel(top, real); err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("%s leads to %s, outside of %s", name, real, top)
	}
	return nil
}
