// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/taped-dev/tape/cmd/tape/cli"
	"github.com/taped-dev/tape/engine/registry/registrytest"
	"github.com/taped-dev/tape/interpreters/cnab"
	"github.com/taped-dev/tape/plugins/serve"
)

func TestMain(m *testing.M) {
	// A script may install this program as an interpreter.
	if filepath.Base(os.Args[0]) == "tape-interpreter-cnab" {
		serve.Interpreter(cnab.New())
	}
	testscript.Main(m, map[string]func(){
		"tape": func() { cli.Main() },
	})
}

// TestScript runs testdata/script. Every script has registries of its own:
//
//	$UPSTREAM  makes up an image for every name but those that contain "missing",
//	           and stands in for every registry through $TAPE_HOSTS_DIR
//	$REG       distribution's, without the referrers API
//	$GGCR      go-containerregistry's, with it
//	$PRIVATE   refuses whoever has no password
//
// $SELF is a program that is an interpreter where it is called tape-interpreter-cnab.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: false,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			upstream := &registrytest.Upstream{Image: func(name, _ string) (registrytest.Image, bool) {
				return registrytest.Published(), !strings.Contains(name, "missing")
			}}
			hosts := filepath.Join(env.WorkDir, ".hosts")
			up := httptest.NewServer(upstream)
			env.Defer(up.Close)
			env.Setenv("UPSTREAM", address(up))
			if err := registrytest.WriteHosts(hosts, "_default", address(up)); err != nil {
				return err
			}
			private := httptest.NewServer(registrytest.Basic(upstream, "somebody", "secret"))
			env.Defer(private.Close)
			if err := registrytest.WriteHosts(hosts, "private.example", address(private)); err != nil {
				return err
			}
			for name, server := range map[string]*httptest.Server{
				"REG":  httptest.NewServer(registrytest.Distribution("")),
				"GGCR": httptest.NewServer(registrytest.GGCR()),
			} {
				env.Defer(server.Close)
				env.Setenv(name, address(server))
			}
			env.Setenv("TAPE_HOSTS_DIR", hosts)
			env.Setenv("HOME", filepath.Join(env.WorkDir, ".home"))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, ".docker"))
			env.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
			env.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
			self, err := os.Executable()
			env.Setenv("SELF", self)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":   exitCommand,
			"commit": commitCommand,
		},
	})
}

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

// exitCommand runs a command that must end with a status: exit 2 tape frobnicate.
func exitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit STATUS COMMAND [ARG…]")
	}
	err := ts.Exec(args[1], args[2:]...)
	status := "0"
	if err != nil {
		status = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if status != args[0] {
		ts.Fatalf("%s: status %s, want %s", strings.Join(args[1:], " "), status, args[0])
	}
}

// commitCommand makes a repository of a folder, with all that is in it committed
// at a fixed time, and tags: commit DIR [TAG…].
func commitCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: commit DIR [TAG…]")
	}
	dir := ts.MkAbs(args[0])
	git := func(args ...string) {
		if err := ts.Exec("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com",
			"-c", "init.defaultBranch=main"}, args...)...); err != nil {
			ts.Fatalf("git %s: %v", strings.Join(args, " "), err)
		}
	}
	ts.Setenv("GIT_AUTHOR_DATE", "2024-05-06T07:08:09Z")
	ts.Setenv("GIT_COMMITTER_DATE", "2024-05-06T07:08:09Z")
	git("init", "-q")
	git("add", "-A")
	git("commit", "-q", "-m", "x")
	for _, tag := range args[1:] {
		git("tag", tag)
	}
}
