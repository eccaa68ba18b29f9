// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/taped-dev/tape/internal/temporary"
)

const (
	// memoryFS is an in-memory file system that every user may write to.
	memoryFS     = "/dev/shm"
	memoryPrefix = "tape-render-"
	// memoryMost is the size of the largest source to write there, in bytes. Containers
	// usually have 64 MiB, and four sources must fit at once.
	memoryMost = 16 << 20
)

// inMemory makes a folder in memory for size bytes. It returns nil if there is not enough space,
// or if $TMPDIR determines where temporary files go.
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
