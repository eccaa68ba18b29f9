// SPDX-License-Identifier: Apache-2.0

//go:build containerd

package stages_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/taped-dev/tape/engine/registry/registrytest"
	"github.com/taped-dev/tape/stages"
)

// TestContainerd imports archives into a containerd of its own: as they are, for
// one platform, and of images alone. It needs root, and containerd and ctr on the
// PATH.
func TestContainerd(t *testing.T) {
	ctr := startContainerd(t)
	a := newSignedApp(t, registrytest.GGCR())
	for name, o := range map[string]stages.SaveOptions{
		"whole":        {},
		"one platform": {Platform: "linux/amd64"},
		"images only":  {ImagesOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Environment, o.Ref, o.File = a.env, a.ref, filepath.Join(t.TempDir(), "app.tar")
			if _, err := stages.Save(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			namespace := strings.ReplaceAll(name, " ", "-")
			// The test's layers are noise, which nothing can unpack.
			ctr(t, "-n", namespace, "images", "import", "--no-unpack", o.File)
			names := ctr(t, "-n", namespace, "images", "ls", "-q")
			for _, want := range []string{a.host + "/team/shop@sha256:", a.host + "/team/shop:web.1."} {
				if !strings.Contains(names, want) {
					t.Errorf("no image %s…, only\n%s", want, names)
				}
			}
			if root := strings.Contains(names, "import-"); root == o.ImagesOnly {
				t.Errorf("root there: %v\n%s", root, names)
			}
		})
	}
}

// startContainerd starts containerd on a root and a socket of its own, and gives
// what runs ctr against it.
func startContainerd(t *testing.T) func(t *testing.T, args ...string) string {
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
	socket := filepath.Join(dir, "c.sock")
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
	return run
}
