// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// confinements are ways to start a process, the strictest first; the kernel may
// refuse all but the last. In all of them the process leads a group of its own
// and dies when this process does. In a PID namespace it is the first process,
// and the kernel kills whatever it started when it dies.
//
// Who is not root needs a user namespace for that. In one, other users' files
// seem to be nobody's, which some programs refuse (ssh its own configuration):
// hence the choice.
func confinements(userNamespace bool) []*syscall.SysProcAttr {
	plain := syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	pid := plain
	pid.Cloneflags = syscall.CLONE_NEWPID
	user := pid
	user.Cloneflags |= syscall.CLONE_NEWUSER
	user.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	user.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}

	var ways []*syscall.SysProcAttr
	if os.Geteuid() == 0 {
		ways = append(ways, &pid)
	}
	if userNamespace {
		ways = append(ways, &user)
	}
	return append(ways, &plain)
}

// wait calls end between the death of the process and its reaping, while its
// number is still its own.
func wait(cmd *exec.Cmd, end func()) error {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	end()
	return cmd.Wait()
}
