// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/examples/stages/policy"
	"github.com/taped-dev/tape/stages/app"
)

// TestMain makes this test binary the process that runs one node, if it is started as that.
func TestMain(m *testing.M) {
	if text := os.Getenv(nodeVariable); text != "" {
		if err := runNode(context.Background(), text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// nodeVariable contains, as JSON, the place of a process that runs one node.
const nodeVariable = "POLICY_TEST_NODE"

// place is what a process needs to run a node: locations, and nothing about the node.
type place struct{ Store, Hosts, Folder string }

func (p place) open(ctx context.Context) (*app.Environment, error) {
	env, err := app.Open(ctx, app.Settings{
		HostsDir: p.Hosts, InterpreterDirs: []string{p.Hosts}, Kinds: []pipeline.Kind{policy.Kind()},
		Credentials: func(string) (string, string, error) { return "", "", nil },
	})
	if err != nil {
		return nil, err
	}
	env.Store, err = store.Open(ctx, p.Store, store.Options{})
	return env, err
}

func runNode(ctx context.Context, text string) error {
	var p place
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	env, err := p.open(ctx)
	if err != nil {
		return err
	}
	err = stagetest.Serve(ctx, app.Stages(*env, p.Folder), env.Store)
	return errors.Join(err, env.Store.Close(), env.Close())
}

// The node of the stage is data: run in a separate process, like all others, it gives the same
// root.
func TestElsewhere(t *testing.T) {
	upstream := registrytest.Serve(t, &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) {
		return registrytest.Published(), true
	}})
	hosts, destination, folder := t.TempDir(), registrytest.Serve(t, registrytest.GGCR()), t.TempDir()
	if err := registrytest.WriteHosts(hosts, "_default", upstream); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(folder, os.DirFS("app")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "tape.yaml")
	data, err := os.ReadFile(file)
	if err == nil {
		text := strings.ReplaceAll(string(data), "[registry.shop.example]", "[registry.shop.example, docker.io]")
		err = os.WriteFile(file, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	pack := func(away bool) string {
		t.Helper()
		p := place{Store: t.TempDir(), Hosts: hosts, Folder: folder}
		env, err := p.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := errors.Join(env.Store.Close(), env.Close()); err != nil {
				t.Error(err)
			}
		}()
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := &stagetest.Elsewhere{Store: env.Store, Command: func(ctx context.Context) *exec.Cmd {
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), nodeVariable+"="+string(text))
			return cmd
		}}
		if away {
			env.Executor = func(here engine.Stages) engine.Executor {
				elsewhere.Stages = here
				return elsewhere
			}
		}
		result, err := app.Package(t.Context(), app.PackageOptions{
			Options: app.Options{Environment: *env, Pipeline: file, Version: "test"}, Repository: destination + "/team/app", Tags: []string{"v1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if ran, here := elsewhere.Away(); away && (!slices.Contains(ran, "policy") || len(here) > 0) {
			t.Errorf("%q ran elsewhere, and %q here", ran, here)
		}
		return result.Root.Digest.String()
	}
	if here, elsewhere := pack(false), pack(true); here != elsewhere {
		t.Errorf("run elsewhere the root is %s, here it is %s", elsewhere, here)
	}
}

// The tape with the stage rejects images that are not on the list, before anything is pushed,
// and accepts others.
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
