// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gofrs/flock"
)

// room is the folder that holds the folders of a host's processes, with their sockets and
// temporary files. A host that is killed cannot remove it, so the next one does: a lock on
// the folder shows whether its host is alive.
type room struct {
	dir  string
	lock *flock.Flock
}

const (
	roomPrefix = "tape-host-"
	lockName   = "lock"
)

// maxSocketDir leaves space for "/123456789/plugin123456789" in the 104 bytes that the
// address of a unix socket may have on macOS (108 on Linux).
const maxSocketDir = 70

func newRoom() (*room, error) {
	parent := os.TempDir()
	if runtime.GOOS != "windows" && len(parent)+len(roomPrefix)+10 > maxSocketDir {
		parent = "/tmp"
	}
	sweep(parent)
	// The folder gets the name that sweep looks for only after it is locked.
	hidden, err := os.MkdirTemp(parent, "."+roomPrefix)
	if err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(hidden, lockName), flock.SetPermissions(0o600))
	dir := filepath.Join(parent, strings.TrimPrefix(filepath.Base(hidden), "."))
	_, err = lock.TryLock()
	if err == nil {
		err = os.Rename(hidden, dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close(), os.RemoveAll(hidden))
	}
	return &room{dir: dir, lock: lock}, nil
}

// sweep removes the folders of this user's hosts that were killed: those whose lock nobody
// holds. Folders of other users are skipped: their owner could replace their content by a
// symbolic link while it is removed.
func sweep(parent string) {
	dirs, err := filepath.Glob(filepath.Join(parent, roomPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || !own(info) {
			continue
		}
		lock := flock.New(filepath.Join(dir, lockName), flock.SetFlag(os.O_RDWR))
		if ok, err := lock.TryLock(); err != nil || !ok {
			continue
		}
		_ = removeAll(dir)
		_ = lock.Close()
	}
}

// removeAll is os.RemoveAll that also removes the content of read-only folders.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			_ = os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// folder creates a new folder.
func (r *room) folder() (string, error) { return os.MkdirTemp(r.dir, "") }

func (r *room) remove() error {
	if r == nil {
		return nil
	}
	err := removeAll(r.dir)
	return errors.Join(err, r.lock.Close())
}
