// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages"
	"github.com/taped-dev/tape/stages/app"
)

// nodeProcess is the variable that makes the test binary run one node, in the environment of
// the folder that it names.
const (
	nodeProcess  = "TAPE_TEST_NODE"
	nodeUpstream = "TAPE_TEST_UPSTREAM"
	nodeFolder   = "TAPE_TEST_FOLDER" // of the pipeline file
)

func TestMain(m *testing.M) {
	dir := os.Getenv(nodeProcess)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := runNode(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runNode runs one node.
func runNode(ctx context.Context, dir string) (err error) {
	env, closeEnv, err := environment(dir, os.Getenv(nodeUpstream))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeEnv()) }()
	env.Interpreters = vaultToo{}
	return stagetest.Serve(ctx, app.Stages(env, os.Getenv(nodeFolder)), env.Store)
}

// elsewhere runs nodes in separate processes, except those that need a key.
func elsewhere(dir, upstream, folder string, shared *store.Store) *stagetest.Elsewhere {
	return &stagetest.Elsewhere{Store: shared, Here: []engine.Need{engine.NeedKey}, Command: func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), nodeProcess+"="+dir, nodeUpstream+"="+upstream, nodeFolder+"="+folder)
		return cmd
	}}
}

// TestElsewhere checks that a node is data: every node that needs no key runs in a separate
// process, which gets nothing but JSON and a store, and the root is the same as that of a run
// in a single process.
func TestElsewhere(t *testing.T) {
	up := registrytest.Serve(t, &registrytest.Upstream{})
	destination := registrytest.Serve(t, registrytest.Distribution(""))
	_, signer := newKey(t)
	pack := func(dir string, executor func(*store.Store, engine.Stages) engine.Executor) digest.Digest {
		t.Helper()
		env, closeEnv, err := environment(dir, up)
		if err != nil {
			t.Fatal(err)
		}
		defer closeEnv()
		if executor != nil {
			env.Executor = func(here engine.Stages) engine.Executor { return executor(env.Store, here) }
		}
		result, err := app.Package(t.Context(), app.PackageOptions{
			Options:    app.Options{Environment: env, Sources: []app.Source{{Path: "../../examples/shop/manifests"}}, Version: "test", Signer: signer},
			Repository: destination + "/team/shop", Tags: []string{"v1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return result.Root.Digest
	}
	want := pack(t.TempDir(), nil)

	dir := t.TempDir()
	var e *stagetest.Elsewhere
	got := pack(dir, func(shared *store.Store, here engine.Stages) engine.Executor {
		e = elsewhere(dir, up, "", shared)
		e.Stages = here
		return e
	})
	if got != want {
		t.Errorf("run elsewhere the root is %s, here it is %s", got, want)
	}
	away, own := e.Away()
	if diff := cmp.Diff([]string{"attest", "content", "discover", "index", "mirror", "pin", "push", "render/manifests", "resolve", "scan", "source/manifests"}, away); diff != "" {
		t.Errorf("nodes that ran elsewhere: %s", diff)
	}
	// The key stays on the machine that has it; push still got the signatures.
	if diff := cmp.Diff([]string{"sign"}, own); diff != "" {
		t.Errorf("nodes that ran here: %s", diff)
	}
}

// What ties a stage to a machine, and why, for authors of executors.
func TestNeeds(t *testing.T) {
	want := map[string][]engine.Need{
		"source":   {engine.NeedFiles, engine.NeedInterpreters},     // reads the clone; an interpreter lists the files
		"render":   {engine.NeedInterpreters},                       // an input has the files
		"resolve":  {engine.NeedRegistries, engine.NeedLocalImages}, // resolves digests
		"discover": {engine.NeedRegistries, engine.NeedLocalImages}, // lists what is attached
		"mirror":   {engine.NeedRegistries, engine.NeedLocalImages}, // copies images
		"sign":     {engine.NeedKey},                                // the only one tied to the key
		"push":     {engine.NeedRegistries},                         // writes the result
	}
	for _, kind := range stages.Kinds(stages.Dependencies{}) {
		if diff := cmp.Diff(want[kind.Name], kind.Needs); diff != "" {
			t.Errorf("%s needs other things (-want +got):\n%s", kind.Name, diff)
		}
		if effects := kind.Name == "mirror" || kind.Name == "push"; kind.Effects != effects {
			t.Errorf("%s: effects %t, want %t", kind.Name, kind.Effects, effects)
		}
	}
}
