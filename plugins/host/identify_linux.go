// SPDX-License-Identifier: Apache-2.0

package host

import (
	"io/fs"
	"syscall"
)

func identify(info fs.FileInfo) fileID {
	id := fileID{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		//nolint:unconvert // Dev has another type on some architectures
		id.Device, id.Inode, id.Changed = uint64(st.Dev), st.Ino, st.Ctim.Nano()
	}
	return id
}
