// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package host

import "syscall"

// ways: a group of its own. That tape is gone an interpreter learns from the end of
// its stdin.
func (bounds) ways() []syscall.SysProcAttr {
	return []syscall.SysProcAttr{{Setpgid: true}}
}
