// SPDX-License-Identifier: Apache-2.0

// Package containerdtest runs a containerd for tests, of what is installed: containerd, ctr
// and, where containers are started, runc.
package containerdtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Start starts containerd, as root, with a root and a socket of its own until the test ends.
// ctr runs ctr against it, and returns what that prints.
func Start(t *testing.T) (ctr func(t *testing.T, args ...string) string, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctrd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket = filepath.Join(dir, "c.sock")
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	server := exec.Command("containerd", "-c", file)
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	run := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := exec.Command("ctr", append([]string{"-a", socket, "--connect-timeout", "30s"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("containerd did not come up")
		}
	}
	run(t, "version")
	return run, socket
}
