// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/taped-dev/tape/cmd/tape/cli"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/interpreters/cnab"
	"github.com/taped-dev/tape/interpreters/cue"
	"github.com/taped-dev/tape/interpreters/helm"
	"github.com/taped-dev/tape/interpreters/kustomize"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/serve"
	"github.com/taped-dev/tape/stages/sign/sigstoretest"
)

func TestMain(m *testing.M) {
	// Scripts may install this program under one of these names, or find them in
	// $TAPE_INTERPRETERS, which they set to $INTERPRETERS.
	if i, ok := served()[strings.TrimPrefix(filepath.Base(os.Args[0]), "tape-interpreter-")]; ok {
		serve.Interpreter(i)
	}
	if filepath.Base(os.Args[0]) == "tape" {
		cli.Main()
	}
	runNode() // if this process was started to run one
	os.Exit(withTape(m))
}

// withTape runs the tests with this program as the tape on the PATH.
func withTape(m *testing.M) int {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "tape")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Symlink(self, filepath.Join(dir, "tape")); err != nil {
		panic(err)
	}
	if err := os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH")); err != nil {
		panic(err)
	}
	return m.Run()
}

// served are the interpreters that this program can be, by name.
func served() map[string]interpreter.Interpreter {
	return map[string]interpreter.Interpreter{
		"cnab": cnab.New(), "helm": helm.New(), "kustomize": kustomize.New(), "cue": cue.New(), "keeper": keeper{},
	}
}

// TestScript runs testdata/script. Every script has its own registries:
//
//	$UPSTREAM  makes up an image for every name but those that contain "missing";
//	           images with "unsigned" have no signatures. It replaces every registry
//	           through $TAPE_HOSTS_DIR
//	$REG       distribution's, without the referrers API
//	$GGCR      go-containerregistry's, with it
//	$PRIVATE   rejects requests without a password
//
// $SELF is a program that is an interpreter if it is called tape-interpreter-cnab.
//
// The command tape runs in this process; with something on stdin it is exec tape, which starts
// one.
func TestScript(t *testing.T) {
	testscript.Run(t, scripts(t, filepath.Join("testdata", "script")))
}

// scripts returns how the scripts in a folder run.
func scripts(t *testing.T, dir string) testscript.Params {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	interpreters := built(t, self)
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	tape := &tapeInProcess{}
	// A script that begins while another runs tape would read that script's environment.
	path, race := os.Getenv("PATH"), os.Getenv("GORACE") // see the Makefile
	return testscript.Params{
		Dir:           dir,
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			upstream := &registrytest.Upstream{Image: func(name, _ string) (registrytest.Image, bool) {
				if image := registrytest.Published(); !strings.Contains(name, "unsigned") {
					return image, !strings.Contains(name, "missing")
				}
				return registrytest.Image{Platforms: []string{"linux/amd64"}}, true
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
			env.Setenv("PRIVATE", address(private))
			for _, name := range []string{"private.example", address(private)} {
				if err := registrytest.WriteHosts(hosts, name, address(private)); err != nil {
					return err
				}
			}
			for name, server := range map[string]*httptest.Server{
				"REG":  httptest.NewServer(registrytest.Distribution("")),
				"GGCR": httptest.NewServer(registrytest.GGCR()),
			} {
				env.Defer(server.Close)
				env.Setenv(name, address(server))
				// As a source, the registry must be itself, and not the upstream.
				if err := registrytest.WriteHosts(hosts, address(server), address(server)); err != nil {
					return err
				}
			}
			env.Setenv("TAPE_HOSTS_DIR", hosts)
			env.Setenv("HOME", filepath.Join(env.WorkDir, ".home"))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, ".docker"))
			env.Setenv("PATH", path)
			env.Setenv("GORACE", race)
			env.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
			env.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
			env.Setenv("SELF", self)
			env.Setenv("INTERPRETERS", interpreters)
			env.Setenv("REPOSITORY", repository)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"action":   actionCommand,
			"github":   githubCommand,
			"gitlab":   gitlabCommand,
			"tekton":   tektonCommand,
			"tape":     tape.command,
			"exit":     tape.exit,
			"commit":   commitCommand,
			"artifact": artifactCommand,
			"runs":     runsCommand,
			"sigstore": sigstoreCommand,
		},
	}
}

// built returns a folder with interpreters like that of make build: each has its description,
// so that no command starts one unnecessarily.
func built(t *testing.T, self string) string {
	t.Helper()
	dir := t.TempDir()
	h := host.New(host.Options{Dirs: []string{dir}})
	defer h.Close()
	for _, name := range []string{"helm", "kustomize", "cue", "keeper"} {
		if err := os.Symlink(self, filepath.Join(dir, "tape-interpreter-"+name)); err != nil {
			t.Fatal(err)
		}
		i, err := h.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.WriteDescription(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

// tapeInProcess runs the tape of scripts in this process. Starting this program with the race
// detector takes longer than most commands of the scripts, and they run hundreds. One runs at a
// time, because the working directory and the environment belong to the process.
type tapeInProcess struct{ mu sync.Mutex }

// run returns the exit status.
func (p *tapeInProcess) run(ts *testscript.TestScript, args []string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	dir, err := os.Getwd()
	ts.Check(err)
	before := os.Environ()
	defer func() { ts.Check(errors.Join(os.Chdir(dir), setEnvironment(before))) }()
	// Package testscript only gives commands single variables.
	var env []string
	for variable := reflect.ValueOf(ts).Elem().FieldByName("env"); len(env) < variable.Len(); {
		env = append(env, variable.Index(len(env)).String())
	}
	ts.Check(errors.Join(os.Chdir(ts.MkAbs(".")), setEnvironment(env)))
	return cli.Run(context.Background(), args, cli.Streams{In: strings.NewReader(""), Out: ts.Stdout(), Err: ts.Stderr()})
}

func setEnvironment(env []string) error {
	os.Clearenv()
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (p *tapeInProcess) command(ts *testscript.TestScript, neg bool, args []string) {
	if status := p.run(ts, args); (status != 0) != neg {
		ts.Fatalf("unexpected exit status %d", status)
	}
}

// exit runs a command that must end with the given status: exit 2 tape frobnicate.
func (p *tapeInProcess) exit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || args[1] != "tape" && args[1] != "exec" {
		ts.Fatalf("usage: exit STATUS tape ARG…, or exit STATUS exec COMMAND [ARG…]")
	}
	status := "0"
	if args[1] == "tape" {
		status = strconv.Itoa(p.run(ts, args[2:]))
	} else if err := ts.Exec(args[2], args[3:]...); err != nil {
		status = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if status != args[0] {
		ts.Fatalf("%s: status %s, want %s", strings.Join(args[1:], " "), status, args[0])
	}
}

// sigstoreCommand starts a Sigstore instance, and writes its files and the tokens token.jwt and,
// for another audience, other.jwt.
func sigstoreCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sigstore IDENTITY")
	}
	s, err := sigstoretest.New(time.Now)
	ts.Check(err)
	ts.Defer(s.Close)
	trusted, err := s.TrustedRoot()
	ts.Check(err)
	for name, data := range map[string][]byte{
		"signing_config.json": s.SigningConfig(), "trusted_root.json": trusted,
		"token.jwt": []byte(s.Token(sigstoretest.Identity{Subject: args[0]})),
		"other.jwt": []byte(s.Token(sigstoretest.Identity{Subject: args[0], Audience: "vault"})),
	} {
		ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600))
	}
	ts.Setenv("SIGSTORE", s.URL)
}

// artifactCommand pushes a file as an artifact of one layer, and puts its digest
// into $DIGEST: artifact REF FILE [LAYERTYPE CONFIGTYPE].
func artifactCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 && len(args) != 4 {
		ts.Fatalf("usage: artifact REF FILE [LAYERTYPE CONFIGTYPE]")
	}
	layer, config := types.MediaType("application/octet-stream"), types.OCIConfigJSON
	if len(args) == 4 {
		layer, config = types.MediaType(args[2]), types.MediaType(args[3])
	}
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	image, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), config),
		mutate.Addendum{Layer: static.NewLayer(data, layer), MediaType: layer})
	ts.Check(err)
	ref, err := name.ParseReference(args[0])
	ts.Check(err)
	ts.Check(remote.Write(ref, image))
	dgst, err := image.Digest()
	ts.Check(err)
	ts.Setenv("DIGEST", dgst.String())
}

// keeper is an interpreter that takes a secret, and reveals it wherever it can.
type keeper struct{}

func (keeper) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name: "keeper", Version: "1.0.0", Help: "keeps a secret", Markers: []interpreter.Marker{{Name: "keeper.txt"}},
		Options: json.RawMessage(`{"type": "object", "additionalProperties": false, "properties": {
			"password": {"type": "string", "writeOnly": true}, "fail": {"type": "boolean"}}}`),
	}, nil
}

func (keeper) Inputs(_ context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return &interpreter.InputsResponse{Paths: []string{req.Path}}, nil
}

func (keeper) Render(_ context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	var o struct {
		Password string
		Fail     bool
	}
	if err := json.Unmarshal(req.Options, &o); err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "the keeper starts")
	if o.Fail {
		return nil, fmt.Errorf("the password %q is not right", o.Password)
	}
	return &interpreter.RenderResponse{
		Files: []interpreter.File{{Path: "a.yaml", Data: []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: nginx}]}\n")}},
		Diagnostics: []interpreter.Diagnostic{{
			Severity: interpreter.Warning, Summary: "a weak password", Detail: o.Password,
		}},
	}, nil
}

// commitCommand turns a folder into a repository with all files committed at a fixed time, and
// tags it: commit DIR [TAG…].
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
