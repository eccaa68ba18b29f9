// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/taped-dev/tape/plugins/host"
)

// An interpreter can only write to its scratch folder, has no undeclared network, none of
// tape's files, and no access to tape's environment. (What the kernel lacks is logged: this
// test needs one that supports everything.)
func TestConfined(t *testing.T) {
	if version, _, _ := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); int(version) < 2 {
		t.Skip("this kernel has no Landlock")
	}
	home := t.TempDir()
	kept := filepath.Join(home, "kept")
	if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	// As a shell leaves one open: `tape … 99<kept`.
	f, err := os.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Dup2(int(f.Fd()), 99); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(99) }()

	env := map[string]string{"HOME": home, "TAPE_TEST_WANTED": listener.Addr().String()}
	b := newBed(t, host.Options{LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	for mode, want := range map[string]string{"pries": "", "pries-online": "network udp"} {
		resp, err := render(t.Context(), t, b.find(t, mode), fakeOptions{Host: os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(resp.Files[0].Data); got != want {
			t.Errorf("%s could: %q, want %q\n%s", mode, got, want, b.log)
		}
	}
	if data, err := os.ReadFile(kept); err != nil || string(data) != "kept" {
		t.Errorf("a file outside now holds %q, %v", data, err)
	}
}

// The same applies to users other than root, whose interpreters are confined in other ways.
func TestConfinedUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("TestConfined runs as another user already")
	}
	dir, err := os.MkdirTemp("/tmp", "tu") // which other users can access
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	test := filepath.Join(dir, "host.test")
	if err := errors.Join(os.WriteFile(test, data, 0o755), os.Chmod(dir, 0o777)); err != nil { //nolint:gosec // for another user
		t.Fatal(err)
	}
	const nobody = 65534
	cmd := exec.CommandContext(t.Context(), test, "-test.run=^TestConfined$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
