// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// memoryFS is where Linux has a file system in memory that everyone may use.
	memoryFS     = "/dev/shm"
	memoryPrefix = "tape-render-"
	// memoryMost is the largest source that goes there. Containers have 64 MiB of it
	// as a rule; four sources at once must fit.
	memoryMost = 16 << 20
)

// inMemory makes a folder in memory for so many bytes, which is held until the
// lock is closed. There is none (and no lock) where it has no room, or where the
// user says with $TMPDIR where such things belong.
func inMemory(size int64) (dir string, held *os.File) {
	var stat unix.Statfs_t
	if os.Getenv("TMPDIR") != "" || size > memoryMost || unix.Statfs(memoryFS, &stat) != nil ||
		stat.Type != unix.TMPFS_MAGIC || int64(stat.Bavail)*stat.Bsize < 4*size {
		return "", nil
	}
	parent, err := filepath.EvalSymlinks(memoryFS)
	if err != nil {
		return "", nil
	}
	sweep(parent)
	// It gets the name that sweep looks for once it is locked.
	hidden, err := os.MkdirTemp(parent, "."+memoryPrefix)
	if err != nil {
		return "", nil
	}
	dir = filepath.Join(parent, filepath.Base(hidden)[1:])
	if held, err = lock(hidden); err == nil {
		err = os.Rename(hidden, dir)
	}
	if err != nil {
		_ = held.Close() // also of none
		_ = os.Remove(hidden)
		return "", nil
	}
	return dir, held
}

// sweep removes what this user's processes left that were killed: memory is not to
// be lost until somebody starts the machine anew.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, memoryPrefix+"*"))
	for _, dir := range dirs {
		if f, err := lock(dir); err == nil {
			_ = removeAll(dir)
			_ = f.Close()
		}
	}
}

// lock opens a folder and locks it, unless another process has. One of another user
// is left alone: that user could put a link in the place of what is removed.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var stat unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &stat)
	if err == nil && int64(stat.Uid) != int64(os.Geteuid()) {
		err = fs.ErrPermission
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
