// SPDX-License-Identifier: Apache-2.0

//go:build unix

package regular

import "syscall"

const nonblocking = syscall.O_NONBLOCK
