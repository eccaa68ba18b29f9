// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ways returns the ways to start a process, the strictest first; the kernel may refuse all but
// the last. In all of them the process leads its own process group, and in all but one it dies
// when this process does. In a PID namespace it is the first process, so the kernel kills its
// children when it dies. A process that declares no network gets an empty network namespace.
//
// Without root this needs a user namespace, in which the files of other users appear to belong to
// the user nobody. Some programs refuse such files (ssh its own configuration), so an interpreter
// that declares the network gets no namespace. Only its Landlock domain then separates it from this
// process, and the thread that started it is in that domain, with the memory of all threads. So
// the process is held back until that thread has ended. This precludes a parent-death signal, so
// the process only notices the end of this process by the end of stdin.
func (b bounds) ways() []syscall.SysProcAttr {
	plain := syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	pid := plain
	pid.Cloneflags = syscall.CLONE_NEWPID
	if os.Geteuid() != 0 {
		held := syscall.SysProcAttr{Setpgid: true, Ptrace: true}
		if b.network {
			return []syscall.SysProcAttr{held, plain}
		}
		pid.Cloneflags |= syscall.CLONE_NEWUSER
		pid.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		pid.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		net := pid
		net.Cloneflags |= syscall.CLONE_NEWNET
		return []syscall.SysProcAttr{net, pid, held, plain}
	}
	if b.network {
		return []syscall.SysProcAttr{pid, plain}
	}
	net := pid
	net.Cloneflags |= syscall.CLONE_NEWNET
	return []syscall.SysProcAttr{net, pid, plain}
}

// onThread runs f on a thread that ends with f: restrictions that f puts on the thread are
// inherited by the processes that it starts and affect nothing else. f never runs on the
// main thread, which does not end.
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

func traced(attr *syscall.SysProcAttr) bool { return attr.Ptrace }

// hold exchanges the trap at which a traced process begins for a stop. It must be called by the
// thread that started the process. The returned function lets the process run once that thread
// has ended.
func hold(pid int) (release func(), err error) {
	var status unix.WaitStatus
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("hold the process: %w", err)
	}
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(pid), 0, uintptr(unix.SIGSTOP), 0, 0); errno != 0 {
		return nil, fmt.Errorf("hold the process: %w", errno)
	}
	thread := unix.Gettid()
	return func() {
		for !errors.Is(unix.Tgkill(unix.Getpid(), thread, 0), unix.ESRCH) {
			time.Sleep(time.Millisecond)
		}
		_ = unix.Kill(pid, unix.SIGCONT) // if it has ended, its Wait reports that
	}, nil
}

// confine permanently drops rights of this thread that the process to be started does not need.
// The error lists what this kernel does not support; everything else is done.
func (b bounds) confine(attr *syscall.SysProcAttr) error {
	return errors.Join(closeInherited(), dropCapabilities(), b.landlock(attr))
}

// closeInherited keeps files that this process inherited from leaking into the new one: Go
// sets close-on-exec only on files that it opened itself.
func closeInherited() error {
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	return nil
}

// keptCapabilities returns the capabilities that root needs to read files of other users
// and to unpack its own. Without the others root cannot raise its limits, or inspect
// processes with more capabilities, such as this one, even through /proc.
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
		} // EINVAL: the kernel does not know the capability
	}
	return nil
}

// leastLandlock is the first version that allows renaming files between folders (Linux
// 5.19), which git needs.
const leastLandlock = 2

// landlock restricts writing to the process's folder. If the process declares no network,
// TCP is forbidden too, in case a network namespace is not available.
//
// A process restricted by Landlock cannot inspect processes outside its domain, even
// through /proc.
func (b bounds) landlock(attr *syscall.SysProcAttr) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	if version < leastLandlock {
		return fmt.Errorf("landlock: the kernel has version %d, need at least %d", version, leastLandlock)
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
	if version >= 7 { // earlier versions would also keep this thread from signalling its own process
		rules.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: create rules: %w", errno)
	}
	defer func() { _ = unix.Close(int(fd)) }() // nothing is written to it
	allowed := map[string]uint64{b.dir: rules.Handled_access_fs, os.DevNull: toFile}
	if attr.Cloneflags&syscall.CLONE_NEWUSER != 0 {
		allowed["/proc"] = toFile // this thread has yet to write the mapping of the user namespace
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

// allow adds a rule for a path and everything below it.
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

// limit sets the resource limits of a running process. RLIMIT_AS is not used because Go and
// other runtimes reserve far more address space than they use.
func (b bounds) limit(pid int) error {
	memory := unix.Rlimit{Cur: uint64(b.memory), Max: uint64(b.memory)}
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, &memory, nil); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	// A core dump would contain the source and secret option values.
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil {
		return fmt.Errorf("limit core dumps: %w", err)
	}
	return nil
}

// peak returns the peak memory use of a process that has ended, in bytes.
func peak(state *os.ProcessState) int64 {
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss << 10
	}
	return 0
}

// wait waits for the process to end. It calls end before the process is reaped, while its
// PID cannot have been reused.
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

func identify(info fs.FileInfo) fileID {
	id := fileID{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		//nolint:unconvert // Dev has another type on some architectures
		id.Device, id.Inode, id.Changed = uint64(st.Dev), st.Ino, st.Ctim.Nano()
	}
	return id
}
