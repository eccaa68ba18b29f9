// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import "io/fs"

func identify(info fs.FileInfo) fileID {
	return fileID{Size: info.Size(), Modified: info.ModTime().UnixNano()}
}
