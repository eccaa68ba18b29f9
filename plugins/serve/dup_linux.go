// SPDX-License-Identifier: Apache-2.0

package serve

import "golang.org/x/sys/unix"

// dup2 uses dup3 because newer Linux architectures lack dup2.
func dup2(from, to int) error { return unix.Dup3(from, to, 0) }
