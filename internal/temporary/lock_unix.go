// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin

package temporary

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// lock opens and locks a folder. It fails if another process holds the lock, or if the
// folder belongs to another user, who could replace its content by a symbolic link while it
// is removed.
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
