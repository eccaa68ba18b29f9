// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/engine/content/store"
	"github.com/taped-dev/tape/stages/app"
)

// nodeProcess names the variable that makes the test binary run one node, in the
// environment of the folder that it holds.
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

// sent is a task on its way to another process, and ran what comes back.
type (
	sent struct {
		Node   engine.Node                   `json:"node"`
		Inputs map[string]ocispec.Descriptor `json:"inputs"`
	}
	ran struct {
		Outputs engine.Outputs `json:"outputs"`
		Events  []engine.Event `json:"events"`
	}
)

// runNode reads a task from stdin, runs it and writes what it made to stdout.
func runNode(ctx context.Context, dir string) (err error) {
	env, closeEnv, err := environment(dir, os.Getenv(nodeUpstream))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeEnv()) }()
	env.Interpreters = vaultToo{}
	var task sent
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		return err
	}
	var out ran
	var mu sync.Mutex
	out.Outputs, err = app.Stages(env, os.Getenv(nodeFolder)).Run(ctx, &engine.Task{
		Node: task.Node, Inputs: task.Inputs, Store: env.Store, Log: slog.New(slog.DiscardHandler), Secrets: asked(),
		Report: func(e engine.Event) {
			mu.Lock()
			defer mu.Unlock()
			out.Events = append(out.Events, e)
		},
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// The process of a node asks for secrets by name at one pipe, a line each in JSON, and
// is answered at another.
const askPipe, answerPipe = 3, 4

// asked returns the secrets of the process that started this one.
func asked() engine.Secrets {
	var mu sync.Mutex
	ask, answers := os.NewFile(askPipe, "ask"), json.NewDecoder(os.NewFile(answerPipe, "answers"))
	return func(_ context.Context, name string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if err := json.NewEncoder(ask).Encode(name); err != nil {
			return "", err
		}
		var answer struct{ Value, Err string }
		if err := answers.Decode(&answer); err != nil {
			return "", err
		}
		if answer.Err != "" {
			return "", errors.New(answer.Err)
		}
		return answer.Value, nil
	}
}

// answer serves the secrets of a task to a process until that ends.
func answer(ctx context.Context, ask io.Reader, answers io.Writer, secrets engine.Secrets) {
	for names := json.NewDecoder(ask); ; {
		var name string
		if names.Decode(&name) != nil {
			return
		}
		value, err := secrets(ctx, name)
		out := struct{ Value, Err string }{Value: value}
		if err != nil {
			out.Err = err.Error()
		}
		if json.NewEncoder(answers).Encode(out) != nil {
			return
		}
	}
}

// elsewhere runs nodes in processes of their own, over one store. Those that need
// a key stay where it is.
type elsewhere struct {
	engine.Stages
	dir, upstream string
	folder        string       // of the pipeline file
	shared        *store.Store // in dir

	mu        sync.Mutex
	away, own []string // names of the nodes that ran
	written   []byte   // what the processes got and gave, besides the store
}

func (e *elsewhere) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	here := slices.Contains(t.Node.Needs, engine.NeedKey)
	e.mu.Lock()
	if here {
		e.own = append(e.own, t.Node.Name)
	} else {
		e.away = append(e.away, t.Node.Name)
	}
	e.mu.Unlock()
	if here {
		return e.Stages.Run(ctx, t)
	}
	// What ran here lies in the memory of this process.
	for name, desc := range t.Inputs {
		data, err := engine.Get(ctx, t.Store, desc)
		if err != nil {
			return nil, fmt.Errorf("input %s: %w", name, err)
		}
		if _, err := engine.Put(ctx, e.shared, desc.MediaType, data); err != nil {
			return nil, fmt.Errorf("input %s: %w", name, err)
		}
	}
	task, err := json.Marshal(sent{t.Node, t.Inputs})
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), nodeProcess+"="+e.dir, nodeUpstream+"="+e.upstream, nodeFolder+"="+e.folder)
	cmd.Stdin = bytes.NewReader(task)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = run(ctx, cmd, t.Secrets)
	e.mu.Lock()
	e.written = slices.Concat(e.written, task, stdout.Bytes(), stderr.Bytes())
	e.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, &stderr)
	}
	var out ran
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		return nil, err
	}
	for _, event := range out.Events {
		t.Report(event)
	}
	return out.Outputs, nil
}

// run runs a process that may ask for secrets.
func run(ctx context.Context, cmd *exec.Cmd, secrets engine.Secrets) error {
	ask, asks, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ask.Close()
	answered, answers, err := os.Pipe()
	if err != nil {
		return errors.Join(err, asks.Close())
	}
	defer answers.Close()
	cmd.ExtraFiles = []*os.File{asks, answered}
	err = cmd.Start()
	if err = errors.Join(err, asks.Close(), answered.Close()); err != nil {
		return err
	}
	answer(ctx, ask, answers, secrets)
	return cmd.Wait()
}

// TestElsewhere holds that a node is data: every one that needs no key runs in a
// process of its own, which gets nothing but JSON and a store, and the root is
// the one that a run in a single process makes.
func TestElsewhere(t *testing.T) {
	up := registrytest.Serve(t, &registrytest.Upstream{})
	destination := registrytest.Serve(t, registrytest.Distribution(""))
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
			Options:    app.Options{Environment: env, Sources: []app.Source{{Path: "../../examples/shop/manifests"}}, Version: "test"},
			Repository: destination + "/team/shop", Tags: []string{"v1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return result.Root.Digest
	}
	want := pack(t.TempDir(), nil)

	e := &elsewhere{dir: t.TempDir(), upstream: up}
	got := pack(e.dir, func(shared *store.Store, here engine.Stages) engine.Executor {
		e.shared, e.Stages = shared, here
		return e
	})
	if got != want {
		t.Errorf("run elsewhere the root is %s, here it is %s", got, want)
	}
	slices.Sort(e.away)
	away := []string{"attest", "content", "discover", "index", "mirror", "pin", "push", "render/manifests", "resolve", "scan", "source/manifests"}
	if diff := cmp.Diff(away, e.away); diff != "" {
		t.Errorf("nodes that ran elsewhere: %s", diff)
	}
	// The key stays on the machine that has it.
	if diff := cmp.Diff([]string{"sign"}, e.own); diff != "" {
		t.Errorf("nodes that ran here: %s", diff)
	}
}
