// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package render

import "github.com/taped-dev/tape/engine/temporary"

// inMemory has no such place here.
func inMemory(int64) *temporary.Folder { return nil }
