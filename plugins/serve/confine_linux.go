// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine restricts this process with Landlock so that it cannot inspect the thread of tape
// that started it: a process can only trace, or read the environment in /proc of, threads
// in its own Landlock domain. The restricted right, creating devices, is one that no
// interpreter needs.
func confine() error {
	rules := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return errno
	}
	defer func() { _ = unix.Close(int(fd)) }() // nothing is written to it
	for _, call := range [][3]uintptr{
		{unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1},
		{unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0},
	} {
		// With cgo this fails: Go cannot make system calls on threads that it did not
		// start.
		if _, _, errno := syscall.AllThreadsSyscall6(call[0], call[1], call[2], 0, 0, 0, 0); errno != 0 {
			return errno
		}
	}
	return nil
}
