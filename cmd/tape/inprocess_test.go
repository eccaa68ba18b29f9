// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/rendering"
)

// inProcess runs the interpreters without processes.
type inProcess map[string]interpreter.Interpreter

func (p inProcess) Find(_ context.Context, name string) (rendering.Interpreter, error) {
	i, ok := p[name]
	if !ok {
		return nil, errors.New("no interpreter " + name)
	}
	return here{i, name}, nil
}

func (p inProcess) List(ctx context.Context) (list []rendering.Interpreter, err error) {
	for _, name := range []string{"cue", "helm", "kustomize", app.BuiltIn} {
		i, err := p.Find(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

type here struct {
	interpreter.Interpreter
	name string
}

func (h here) Name() string                                    { return h.name }
func (h here) Checksum(context.Context) (digest.Digest, error) { return digest.FromString(h.name), nil }

// inThisProcess returns an environment with all interpreters in this process, an upstream with
// every image, and an empty registry.
func inThisProcess(t *testing.T) (env app.Environment, registry string) {
	t.Helper()
	hosts := t.TempDir()
	upstream, empty := httptest.NewServer(&registrytest.Upstream{}), httptest.NewServer(registrytest.GGCR())
	t.Cleanup(upstream.Close)
	t.Cleanup(empty.Close)
	for name, at := range map[string]*httptest.Server{"_default": upstream, address(empty): empty} {
		if err := registrytest.WriteHosts(hosts, name, address(at)); err != nil {
			t.Fatal(err)
		}
	}
	opened, err := app.Open(t.Context(), app.Settings{
		Store: t.TempDir(), HostsDir: hosts, Credentials: func(string) (string, string, error) { return "", "", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	interpreters := inProcess(served())
	interpreters[app.BuiltIn] = plain.New()
	opened.Interpreters = interpreters
	return *opened, address(empty)
}
