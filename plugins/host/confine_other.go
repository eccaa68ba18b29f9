// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package host

import "syscall"

// ways does not confine processes. An interpreter notices that tape is gone by the end of
// its stdin.
func (bounds) ways() []syscall.SysProcAttr {
	return []syscall.SysProcAttr{{}}
}

func killGroup(int) {}
