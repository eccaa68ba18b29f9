// SPDX-License-Identifier: Apache-2.0

package main

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

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/app"
)

// place is what a process needs to run a node: locations, and nothing about the node itself.
type place struct {
	Store, Hosts, Interpreters string
	Folder                     string // of the pipeline file
}

// nodeVariable contains, as JSON, the place of a process that runs one node.
const nodeVariable = "TAPE_TEST_NODE"

// open opens the environment of a place.
func (p place) open(ctx context.Context) (*app.Environment, error) {
	env, err := app.Open(ctx, app.Settings{
		Store: p.Store, HostsDir: p.Hosts, InterpreterDirs: []string{p.Interpreters},
		Credentials: func(string) (string, string, error) { return "", "", nil },
	})
	if err != nil {
		return nil, err
	}
	if env.Store, err = store.Open(ctx, p.Store, store.Options{}); err != nil {
		return nil, errors.Join(err, env.Close())
	}
	return env, nil
}

// runNode runs one node if the process was started for that, and then does not return.
func runNode() {
	text := os.Getenv(nodeVariable)
	if text == "" {
		return
	}
	ctx := context.Background()
	err := func() (err error) {
		var p place
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return err
		}
		env, err := p.open(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, env.Store.Close(), env.Close()) }()
		return stagetest.Serve(ctx, app.Stages(*env, p.Folder), env.Store)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// equalRoots packs an application here, and with every node in its own process, and compares
// the roots.
type equalRoots struct {
	hosts, interpreters, destination string
}

func newEqualRoots(t *testing.T) *equalRoots {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e := &equalRoots{hosts: filepath.Join(t.TempDir(), "hosts"), interpreters: built(t, self), destination: registrytest.Serve(t, registrytest.Distribution(""))}
	if err := registrytest.WriteHosts(e.hosts, "_default", registrytest.Serve(t, &registrytest.Upstream{})); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *equalRoots) check(t *testing.T, o app.Options) {
	t.Helper()
	var folder string
	if o.Pipeline != "" {
		folder = filepath.Dir(o.Pipeline)
	}
	pack := func(away bool) digest.Digest {
		t.Helper()
		p := place{Store: t.TempDir(), Hosts: e.hosts, Interpreters: e.interpreters, Folder: folder}
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
		elsewhere := &stagetest.Elsewhere{Store: env.Store, Here: []engine.Need{engine.NeedKey}, Command: func(ctx context.Context) *exec.Cmd {
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
		o := o
		o.Environment, o.Version, o.SkipInvalid, o.SkipSealed = *env, "test", true, true
		result, err := app.Package(t.Context(), app.PackageOptions{
			Options: o, Repository: e.destination + "/" + strings.ToLower(filepath.Base(t.Name())), Tags: []string{"v1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if ran, here := elsewhere.Away(); away && (!slices.Contains(ran, "push") || !cmp.Equal(here, []string{"sign"})) {
			t.Errorf("%q ran elsewhere, and %q here", ran, here)
		}
		return result.Root.Digest
	}
	if here, elsewhere := pack(false), pack(true); here != elsewhere {
		t.Errorf("run elsewhere the root is %s, here it is %s", elsewhere, here)
	}
}

// TestElsewhere packs examples with interpreters as processes, and the pipeline. (Package app
// tests plain manifests; examples that include a stage or an interpreter are separate modules.)
func TestElsewhere(t *testing.T) {
	e := newEqualRoots(t)
	for name, o := range map[string]app.Options{
		"pipeline":   {Pipeline: "../../examples/pipeline/tape.yaml"},
		"storefront": {Sources: []app.Source{{Path: "../../examples/helm/storefront"}}},
		"kustomize":  {Sources: []app.Source{{Path: "../../examples/kustomize/overlays/prod"}}},
		"cue":        {Sources: []app.Source{{Path: "../../examples/cue", Settings: []app.Setting{{Name: "tags", Value: "environment=prod"}}}}},
	} {
		t.Run(name, func(t *testing.T) { e.check(t, o) })
	}
}
