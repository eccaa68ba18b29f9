// SPDX-License-Identifier: Apache-2.0

package host

// bounds are what a process is held to, as far as the kernel can.
type bounds struct {
	dir     string // the only folder that it may write below
	network bool   // it may use the network
	memory  int64  // bytes that it may have
}
