// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/taped-dev/tape/plugins/host"
)

// An interpreter writes to its scratch folder only, has no network that it did not
// declare, none of tape's files, and no look at tape's environment. (What the kernel
// lacks is logged: this test needs one that has it all.)
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
	resp, err := render(t.Context(), t, b.find(t, "pries"), fakeOptions{Host: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(resp.Files[0].Data); got != "" {
		t.Errorf("it could: %s\n%s", got, b.log)
	}
	if data, err := os.ReadFile(kept); err != nil || string(data) != "kept" {
		t.Errorf("a file outside now holds %q, %v", data, err)
	}
}
