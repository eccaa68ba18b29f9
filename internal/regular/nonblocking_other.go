// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package regular

const nonblocking = 0
