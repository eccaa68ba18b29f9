// SPDX-License-Identifier: Apache-2.0

// Package replace writes files that readers see either as they were or complete.
package replace

import (
	"errors"
	"os"
	"path/filepath"
)

// File writes a file under a temporary name beside it, which begins with prefix, and renames
// that. After a crash of the machine the file may be lost; after one of the process, only the
// temporary file remains.
func File(name, prefix string, data []byte, mode os.FileMode) error {
	return write(name, prefix, data, mode, func(*os.File) error { return nil })
}

// Durable is File for a file that must survive a crash of the machine, which takes milliseconds
// more.
func Durable(name, prefix string, data []byte, mode os.FileMode) error {
	return write(name, prefix, data, mode, (*os.File).Sync)
}

func write(name, prefix string, data []byte, mode os.FileMode, sync func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), prefix+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), sync(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
