// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/vcs"
)

// maxLinks limits the symbolic links in the resolution of one path, as in Linux.
const maxLinks = 40

// reader reads files below a root.
type reader struct {
	root     string
	limits   files.Limits
	inputs   map[string]vcs.Input // by path
	folders  map[string]bool      // folders that were read completely, by their real paths
	warnings map[string]bool
	entries  int
	bytes    int64
}

func newReader(root string, limits files.Limits) *reader {
	return &reader{root: root, limits: limits, inputs: map[string]vcs.Input{}, folders: map[string]bool{}, warnings: map[string]bool{}}
}

// linkError is a symbolic link to something that cannot be read.
type linkError struct {
	link   string // path below the root
	target string // text of the link
	reason error
}

func (e *linkError) Error() string {
	return fmt.Sprintf("the symbolic link %s leads to %s, %v", e.link, e.target, e.reason)
}

func (e *linkError) Unwrap() error { return e.reason }

var (
	errDangles = errors.New("which does not exist")
	errLoops   = errors.New("and so back to itself")
)

// outsideError reports a path that leads out of the root.
type outsideError struct{ path string } // absolute

func (e *outsideError) Error() string { return "which is outside (" + e.path + ")" }

// resolved is the real location of a path below the root.
type resolved struct {
	real  string // below the root, free of symbolic links
	links []vcs.Link
	info  fs.FileInfo
}

// resolve follows the symbolic links in a path as the system would, but only inside the root.
func (r *reader) resolve(name string) (resolved, error) {
	var (
		out   = resolved{real: "."}
		queue = strings.Split(path.Clean(name), "/")
	)
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			if out.real == "." {
				return out, r.broken(out, name, &outsideError{filepath.Join(append([]string{filepath.Dir(r.root)}, queue...)...)})
			}
			out.real = path.Dir(out.real)
			continue
		}
		at := path.Join(out.real, next)
		info, err := os.Lstat(r.abs(at))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && len(out.links) > 0 {
				err = errDangles
			}
			return out, r.broken(out, name, regular.Cause(err))
		}
		out.info = info
		if info.Mode()&fs.ModeSymlink == 0 {
			out.real = at
			continue
		}
		target, err := os.Readlink(r.abs(at))
		if err != nil {
			return out, r.broken(out, name, regular.Cause(err))
		}
		out.links = append(out.links, vcs.Link{Path: at, Target: target})
		if len(out.links) > maxLinks {
			return out, r.broken(out, name, errLoops)
		}
		if filepath.IsAbs(target) {
			rel, ok := below(r.root, target)
			if !ok {
				// The target may contain links outside the root, such as /tmp on some systems.
				real, err := filepath.EvalSymlinks(target)
				if errors.Is(err, fs.ErrNotExist) {
					return out, r.broken(out, name, errDangles)
				}
				if rel, ok = below(r.root, real); err != nil || !ok {
					return out, r.broken(out, name, &outsideError{filepath.Join(append([]string{target}, queue...)...)})
				}
			}
			out.real, target = ".", rel
		}
		queue = append(strings.Split(filepath.ToSlash(target), "/"), queue...)
	}
	if out.info == nil || len(out.links) > 0 {
		info, err := os.Lstat(r.abs(out.real))
		if err != nil {
			return out, r.broken(out, name, regular.Cause(err))
		}
		out.info = info
	}
	return out, nil
}

// broken returns the error of resolve. If links were followed, it is about the first link.
func (r *reader) broken(at resolved, name string, reason error) error {
	if len(at.links) == 0 {
		if outside, ok := errors.AsType[*outsideError](reason); ok {
			return outside
		}
		return fmt.Errorf("open %s: %w", name, reason)
	}
	first := at.links[0]
	if outside, ok := errors.AsType[*outsideError](reason); ok {
		// A link that leads outside to nothing is just a dangling link.
		if _, err := os.Stat(r.abs(first.Path)); errors.Is(err, fs.ErrNotExist) {
			reason = errDangles
		} else {
			reason = outside
		}
	}
	return &linkError{link: first.Path, target: first.Target, reason: reason}
}

func (r *reader) abs(name string) string { return filepath.Join(r.root, filepath.FromSlash(name)) }

// take reads a file, or a folder and everything in it.
func (r *reader) take(ctx context.Context, name string) error {
	at, err := r.resolve(name)
	if err != nil {
		return err
	}
	if at.info.IsDir() {
		r.folders[at.real] = true
		return r.folder(ctx, name, at, []string{at.real})
	}
	return r.file(ctx, name, at)
}

// folder reads the content of a folder. inside are the real folders through which it was reached,
// including itself.
func (r *reader) folder(ctx context.Context, name string, at resolved, inside []string) error {
	entries, err := os.ReadDir(r.abs(at.real))
	if err != nil {
		return fmt.Errorf("read folder %s: %w", name, regular.Cause(err))
	}
	for _, entry := range entries {
		if entry.Name() == ".git" {
			continue
		}
		child := path.Join(name, entry.Name())
		next := resolved{real: path.Join(at.real, entry.Name()), links: at.links}
		if entry.Type()&fs.ModeSymlink != 0 {
			if next, err = r.resolve(next.real); err != nil {
				if link, ok := errors.AsType[*linkError](err); ok && !isOutside(link.reason) {
					if link.link != child {
						err = fmt.Errorf("%s: %w", child, err)
					}
					r.warn("%v: it is left out", err)
					continue
				}
				return err
			}
			next.links = slices.Concat(at.links, next.links)
		} else if next.info, err = entry.Info(); err != nil {
			return fmt.Errorf("open %s: %w", child, regular.Cause(err))
		}
		switch {
		case next.info.IsDir() && loops(next.real, inside):
			r.warn("%s is left out: the symbolic link leads to a folder that contains it", child)
		case next.info.IsDir():
			if err := r.count(child); err != nil {
				return err
			}
			if err := r.folder(ctx, child, next, append(slices.Clip(inside), next.real)); err != nil {
				return err
			}
		case next.info.Mode().IsRegular():
			if err := r.file(ctx, child, next); err != nil {
				return err
			}
		default:
			r.warn("%s is left out: it is %s", child, species(next.info.Mode()))
		}
	}
	return nil
}

func isOutside(err error) bool {
	_, ok := errors.AsType[*outsideError](err)
	return ok
}

// loops reports whether a folder is one of those in inside, or contains one of them.
func loops(real string, inside []string) bool {
	return slices.ContainsFunc(inside, func(dir string) bool {
		return dir == real || real == "." || strings.HasPrefix(dir, real+"/")
	})
}

// file reads a file.
func (r *reader) file(ctx context.Context, name string, at resolved) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if _, ok := r.inputs[name]; ok {
		return nil
	}
	if !at.info.Mode().IsRegular() {
		return fmt.Errorf("%s is %s", name, species(at.info.Mode()))
	}
	if err := r.count(name); err != nil {
		return err
	}
	if r.bytes += at.info.Size(); r.bytes > r.limits.Bytes {
		return fmt.Errorf("%s makes it more than the %d MiB that a source may have: point tape at the folder with the manifests", name, r.limits.Bytes>>20)
	}
	data, err := readFile(r.abs(at.real), at.info.Size())
	if err != nil {
		return fmt.Errorf("read %s: %w", name, regular.Cause(err))
	}
	r.inputs[name] = vcs.Input{Path: name, Real: at.real, Links: at.links, Data: data}
	return nil
}

// readFile reads a file of a known size. It returns an error if the file has become a pipe or a
// device, or has grown since its size was counted.
func readFile(name string, size int64) ([]byte, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, size+1)
	n, err := io.ReadFull(f, data)
	switch {
	case err == nil:
		return nil, errGrew
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return data[:n], nil
	}
	return nil, err
}

var errGrew = errors.New("it grew while it was read: try again when nothing writes to it")

// count limits the number of files and folders that are visited.
func (r *reader) count(name string) error {
	if r.entries++; r.entries > r.limits.Files {
		return fmt.Errorf("%s makes it more than the %d files and folders that a source may have: point tape at the folder with the manifests", name, r.limits.Files)
	}
	return nil
}

func (r *reader) warn(format string, args ...any) { r.warnings[fmt.Sprintf(format, args...)] = true }
