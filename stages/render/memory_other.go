// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package render

import "github.com/taped-dev/tape/internal/temporary"

// inMemory returns nil: the system has no such file system.
func inMemory(int64) *temporary.Folder { return nil }
