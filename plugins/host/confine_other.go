// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package host

import "syscall"

// ways: none is confined here. That tape is gone an interpreter learns from the end
// of its stdin.
func (bounds) ways() []syscall.SysProcAttr {
	return []syscall.SysProcAttr{{}}
}

func killGroup(int) {}
