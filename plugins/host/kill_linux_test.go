// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/taped-dev/tape/plugins/host"
)

// When tape is killed, so are interpreters and their children, even without root.
func TestKilledHost(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for name, user := range map[string]*syscall.Credential{"same user": nil, "nobody": nobody} {
		if user != nil && os.Geteuid() != 0 {
			continue // the first case applies
		}
		t.Run(name, func(t *testing.T) {
			// A folder that other users can read, unlike that of the test binary.
			dir, err := os.MkdirTemp("/tmp", "tk")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(exe)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "tape-interpreter-has-children")
			if err := os.WriteFile(path, data, 0o755); err != nil {
				t.Fatal(err)
			}
			hostExe := filepath.Join(dir, "host")
			if err := os.Link(path, hostExe); err != nil {
				t.Fatal(err)
			}
			l := newLife(t)
			cmd := exec.Command(hostExe)
			cmd.Env = []string{
				"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "TAPE_TEST_HOST=" + dir,
				"TAPE_TEST_OPTIONS=" + string(options(t, fakeOptions{Life: l.path})),
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
			var stderr strings.Builder
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			died := make(chan struct{})
			go func() {
				defer close(died)
				_ = cmd.Wait()
			}()
			begun := make(chan struct{})
			go func() {
				defer close(begun)
				l.begins(t, 2)
			}()
			select {
			case <-begun:
			case <-died:
				if conn, err := net.Dial("unix", l.path); err == nil { // makes begins return
					_, _ = io.WriteString(conn, "alive\nalive\n")
				}
				<-begun
				t.Fatalf("host died: %s", stderr.String())
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-died
			l.ends(t)
		})
	}
}

// A frozen interpreter does not respond, but is killed.
func TestFrozen(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "heeds")
	l := newLife(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := render(ctx, t, i, fakeOptions{Life: l.path})
		failed <- err
	}()
	l.begins(t, 1)
	if err := syscall.Kill(b.log.pid(t), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	cancel(context.Canceled)
	if err := <-failed; err == nil {
		t.Error("a frozen interpreter answered")
	}
	l.ends(t)
	t.Logf("killed within %s", time.Since(begin))
}

// An interpreter that is killed from outside is an error that states that.
func TestKilledInterpreter(t *testing.T) {
	b := newBed(t, host.Options{})
	i := b.find(t, "heeds")
	l := newLife(t)
	failed := make(chan error, 1)
	go func() {
		_, err := render(t.Context(), t, i, fakeOptions{Life: l.path})
		failed <- err
	}()
	l.begins(t, 1)
	if err := syscall.Kill(b.log.pid(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "process died without output (signal: killed)") {
		t.Errorf("got %v, want that it was killed", err)
	}
	l.ends(t)
}
