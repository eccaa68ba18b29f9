// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// The tape with the stage refuses what is not on the list, before anything is
// pushed, and passes what is.
func TestTape(t *testing.T) {
	work := t.TempDir()
	tape := filepath.Join(work, "tape")
	if out, err := exec.Command("go", "build", "-o", tape, "./cmd/tape").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	app := filepath.Join(work, "app")
	if err := os.CopyFS(app, os.DirFS("app")); err != nil {
		t.Fatal(err)
	}
	upstream := registrytest.Serve(t, &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) {
		return registrytest.Published(), true
	}})
	hosts := filepath.Join(work, "hosts")
	if err := registrytest.WriteHosts(hosts, "_default", upstream); err != nil {
		t.Fatal(err)
	}
	pipeline := filepath.Join(app, "tape.yaml")
	change := func(old, new string) {
		t.Helper()
		data, err := os.ReadFile(pipeline)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), old) {
			t.Fatalf("no %q in %s", old, data)
		}
		if err := os.WriteFile(pipeline, []byte(strings.ReplaceAll(string(data), old, new)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("127.0.0.1:5000", registrytest.Serve(t, registrytest.GGCR()))
	run := func(args ...string) (status int, output string) {
		t.Helper()
		cmd := exec.Command(tape, append(args, "--store", filepath.Join(work, "store"), "--hosts-dir", hosts)...)
		cmd.Dir = app
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode(), string(out)
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0, string(out)
	}

	status, out := run("package")
	if want := "docker.io/library/busybox:1.37 at manifests/app.yaml:16"; status != 3 || !strings.Contains(out, want) {
		t.Errorf("status %d, want 3 with %q:\n%s", status, want, out)
	}
	change("[registry.shop.example]", "[registry.shop.example, docker.io]")
	if status, out = run("package"); status != 0 || !strings.Contains(out, "busybox") {
		t.Errorf("status %d, want 0:\n%s", status, out)
	}
	change("registries:", "registrys:")
	if status, out = run("pipeline", "validate"); status != 1 || !strings.Contains(out, "registries") {
		t.Errorf("status %d, want 1 that names the option:\n%s", status, out)
	}
}
