// SPDX-License-Identifier: Apache-2.0

// Package regular reads files named by a repository or a person: pipelines and their locks,
// options, keys, lists. Such a name is not trustworthy: it may lead to a device that never
// ends, or to a named pipe that nobody writes to.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

// MaxFile is the maximum size of a file for [ReadFile].
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

// descriptor matches names of files that the calling shell opened for this process, as
// <(command) does.
var descriptor = regexp.MustCompile(`^/(dev/fd|proc/self/fd)/[0-9]+$|^/dev/stdin$`)

// ReadArgument reads a file named on the command line, like [ReadFile]. It also accepts a
// file descriptor that the shell opened, such as /dev/fd/63.
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

// Open opens a regular file. It does not block on a named pipe.
func Open(name string) (*os.File, error) {
	// Check first, since opening a device may have side effects.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if err := checkRegular(name, info); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
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
	return fmt.Errorf("%s is %s, want a regular file", name, what)
}

// Cause returns the error of the system without the operation and the path around it, for one
// who names the file otherwise.
func Cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// Inside returns an error unless an existing file or folder is below top after resolving
// symbolic links.
func Inside(name, top string) error {
	real := name
	for _, p := range []*string{&real, &top} {
		found, err := filepath.EvalSymlinks(*p)
		if err == nil {
			*p, err = filepath.Abs(found)
		}
		if err != nil {
			return fmt.Errorf("follow %s: %w", name, Cause(err))
		}
	}
	if rel, err := filepath.Rel(top, real); err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("%s leads to %s, outside %s", name, real, top)
	}
	return nil
}
