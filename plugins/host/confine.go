// SPDX-License-Identifier: Apache-2.0

package host

// bounds are the restrictions on a process, enforced as far as the kernel supports them.
type bounds struct {
	dir     string // the only folder that the process may write below
	network bool   // whether the process may use the network
	memory  int64  // limit in bytes
}
