// SPDX-License-Identifier: Apache-2.0

//go:build unix

package host

import "syscall"

// killGroup kills the process group that pid leads or led.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
