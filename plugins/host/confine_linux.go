// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ways to start a process, the strictest first; the kernel may refuse all but the
// last. In all of them the process leads a group of its own and dies when this process
// does. In a PID namespace it is the first process, and the kernel kills what it
// started when it dies. A process that declares no network gets a network namespace
// that is empty.
//
// A user who is not root needs a user namespace for that. In one, files of other users
// seem to belong to nobody, which some programs refuse (ssh its own configuration), so
// an interpreter that declares the network gets none.
func (b bounds) ways() []syscall.SysProcAttr {
	plain := syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	pid := plain
	pid.Cloneflags = syscall.CLONE_NEWPID
	if os.Geteuid() != 0 {
		if b.network {
			return []syscall.SysProcAttr{plain}
		}
		pid.Cloneflags |= syscall.CLONE_NEWUSER
		pid.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		pid.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	if b.network {
		return []syscall.SysProcAttr{pid, plain}
	}
	net := pid
	net.Cloneflags |= syscall.CLONE_NEWNET
	return []syscall.SysProcAttr{net, pid, plain}
}

// onThread runs f on a thread that ends with f: what is taken from the thread is taken
// from the processes that it starts, and from nothing else. The main thread never
// ends, so f does not run there.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // still locked: the thread ends too
		}
		defer runtime.UnlockOSThread()
		done := make(chan struct{})
		onThread(func() {
			defer close(done)
			f()
		})
		<-done
	}()
}

// confine takes rights from this thread, for good, which the process that it starts
// does not need. The error names what this kernel does not offer; all else is done.
func (b bounds) confine(attr *syscall.SysProcAttr) error {
	return errors.Join(closeInherited(), dropCapabilities(), b.landlock(attr))
}

// closeInherited keeps files from the process that this one inherited without knowing:
// Go closes only those that it opened itself.
func closeInherited() error {
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	return nil
}

// keptCapabilities are those that root needs to read the files of others and to lay out
// its own. Without the rest root cannot raise its limits or look into processes that have
// more capabilities, which this one does: not even at their environment in /proc.
func keptCapabilities() []uintptr {
	return []uintptr{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER,
		unix.CAP_FSETID, unix.CAP_SETGID, unix.CAP_SETUID,
	}
}

func dropCapabilities() error {
	if os.Geteuid() != 0 {
		return nil
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(keptCapabilities(), c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EPERM) {
			return fmt.Errorf("drop capabilities: %w", err)
		} // EINVAL: the kernel does not have it
	}
	return nil
}

// leastLandlock is the version from which files may be renamed between folders (Linux
// 5.19): git needs that.
const leastLandlock = 2

// landlock lets the process write below its folder only. Where it declares no network,
// it may not use TCP either: it may be that no network namespace is to be had.
//
// A process that Landlock restricts cannot look into others that it does not restrict,
// whatever /proc says.
func (b bounds) landlock(attr *syscall.SysProcAttr) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	if version < leastLandlock {
		return fmt.Errorf("landlock: the kernel has version %d, and %d is needed", version, leastLandlock)
	}
	const toFile = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	rules := unix.LandlockRulesetAttr{
		Handled_access_fs: toFile | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
			unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
			unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
			unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER,
	}
	if version >= 3 {
		rules.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 && !b.network {
		rules.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 7 { // before, this thread could not signal the others of its process either
		rules.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: create rules: %w", errno)
	}
	defer func() { _ = unix.Close(int(fd)) }() // nothing is written to it
	allowed := map[string]uint64{b.dir: rules.Handled_access_fs, os.DevNull: toFile}
	if attr.Cloneflags&syscall.CLONE_NEWUSER != 0 {
		allowed["/proc"] = toFile // this thread still writes the user namespace's mapping
	}
	for name, access := range allowed {
		if err := allow(int(fd), name, access); err != nil {
			return fmt.Errorf("landlock: allow writing to %s: %w", name, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("landlock: give up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}

// allow adds a rule for what is at, or below, a path.
func allow(rules int, name string, access uint64) error {
	at, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }() // nothing is written to it
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(at)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// limit bounds what a process that runs may take. RLIMIT_AS would not do: Go and others
// reserve far more addresses than they use.
func (b bounds) limit(pid int) error {
	memory := unix.Rlimit{Cur: uint64(b.memory), Max: uint64(b.memory)}
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, &memory, nil); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	// What a crash would leave holds the source, and options that are secret.
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil {
		return fmt.Errorf("limit core dumps: %w", err)
	}
	return nil
}

// peak is the most memory that an ended process had, in bytes.
func peak(state *os.ProcessState) int64 {
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss << 10
	}
	return 0
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
