// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package serve

// guardStdout does nothing: go-plugin replaces os.Stdout after the handshake.
func guardStdout() error { return nil }
