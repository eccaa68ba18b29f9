// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/taped-dev/tape/engine/temporary"
)

const (
	// memoryFS is where Linux has a file system in memory that everyone may use.
	memoryFS     = "/dev/shm"
	memoryPrefix = "tape-render-"
	// memoryMost is the largest source that goes there. Containers have 64 MiB of it
	// as a rule; four sources at once must fit.
	memoryMost = 16 << 20
)

// inMemory makes a folder in memory for so many bytes. There is none where it has no
// room, or where the user says with $TMPDIR where such things belong.
func inMemory(size int64) *temporary.Folder {
	var stat unix.Statfs_t
	if os.Getenv("TMPDIR") != "" || size > memoryMost || unix.Statfs(memoryFS, &stat) != nil ||
		stat.Type != unix.TMPFS_MAGIC || int64(stat.Bavail)*stat.Bsize < 4*size {
		return nil
	}
	parent, err := filepath.EvalSymlinks(memoryFS)
	if err != nil {
		return nil
	}
	folder, err := temporary.New(parent, memoryPrefix)
	if err != nil {
		return nil
	}
	return folder
}
