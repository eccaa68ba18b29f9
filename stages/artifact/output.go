// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"errors"
	"os"
	"path/filepath"
)

// Output is a file that is written under a temporary name, so that it appears complete, and
// together with others.
type Output struct {
	name  string
	fresh string // "" if it cannot be exchanged
	data  []byte // for it
}

// NewOutput writes the data beside the file, which may exist. A pipe or a device is not
// replaced, and gets the data with Place. Place or Discard must be called last.
func NewOutput(name string, data []byte) (*Output, error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return &Output{name: name, data: data}, nil
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return &Output{name: name, fresh: f.Name()}, nil
}

// Place renames the file to its final name, or removes it if that fails.
func (o *Output) Place() error {
	if o.fresh == "" {
		return os.WriteFile(o.name, o.data, 0)
	}
	if err := os.Rename(o.fresh, o.name); err != nil {
		return errors.Join(err, o.Discard())
	}
	return nil
}

// Discard removes what was written.
func (o *Output) Discard() error {
	if o.fresh == "" {
		return nil
	}
	return os.Remove(o.fresh)
}
