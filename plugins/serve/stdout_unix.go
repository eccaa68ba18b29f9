// SPDX-License-Identifier: Apache-2.0

//go:build unix

package serve

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// guardStdout reserves stdout for the handshake: os.Stdout becomes a duplicate of file
// descriptor 1, and anything that writes to the descriptor itself (a C library, a child
// process) writes to stderr.
func guardStdout() error {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("copy stdout: %w", err)
	}
	if err := unix.Dup2(2, 1); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("send stdout to stderr: %w", err)
	}
	os.Stdout = os.NewFile(uintptr(fd), "stdout")
	return nil
}
