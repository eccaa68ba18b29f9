// SPDX-License-Identifier: Apache-2.0

package stagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/rpc"
	"os"
	"os/exec"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/store"
)

// Elsewhere is an executor that runs every node in a separate process with a shared store, which
// proves that a node is data. The process calls [Serve].
type Elsewhere struct {
	// Stages runs the nodes that stay in this process.
	engine.Stages
	// Store is shared by the processes.
	Store engine.Store
	// Command returns the command of a process that calls Serve.
	Command func(ctx context.Context) *exec.Cmd
	// Here lists the needs that only this process fulfils, such as a key.
	Here []engine.Need

	mu         sync.Mutex
	away, stay []string
	said       []byte
}

// Away returns the names of the nodes that ran in other processes and of those that ran here,
// sorted.
func (e *Elsewhere) Away() (away, here []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(slices.Values(e.away)), slices.Sorted(slices.Values(e.stay))
}

// Said returns everything that was exchanged with the processes, except the store and the
// secrets that they asked for.
func (e *Elsewhere) Said() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.said)
}

// sent is a task for a process, and ran is its result.
type (
	sent struct {
		Node   engine.Node                   `json:"node"`
		Inputs map[string]ocispec.Descriptor `json:"inputs"`
	}
	ran struct {
		Outputs   engine.Outputs `json:"outputs"`
		Events    []engine.Event `json:"events"`
		Skip      string         `json:"skip,omitempty"`
		DoNotKeep bool           `json:"doNotKeep,omitempty"`
	}
)

// Run implements [engine.Executor].
func (e *Elsewhere) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	here := slices.ContainsFunc(t.Node.Needs, func(n engine.Need) bool { return slices.Contains(e.Here, n) })
	e.mu.Lock()
	if here {
		e.stay = append(e.stay, t.Node.Name)
	} else {
		e.away = append(e.away, t.Node.Name)
	}
	e.mu.Unlock()
	if here {
		return e.Stages.Run(ctx, t)
	}
	// Outputs of nodes that ran here are in the memory of this process.
	for name, desc := range t.Inputs {
		if err := e.share(ctx, t.Store, desc); err != nil {
			return nil, fmt.Errorf("input %s: %w", name, err)
		}
	}
	task, err := json.Marshal(sent{t.Node, t.Inputs})
	if err != nil {
		return nil, err
	}
	cmd := e.Command(ctx)
	cmd.Stdin = bytes.NewReader(task)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = run(ctx, cmd, t.Secrets)
	e.mu.Lock()
	e.said = slices.Concat(e.said, task, stdout.Bytes(), stderr.Bytes())
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
	if out.Skip != "" {
		t.Skip(out.Skip)
	}
	if out.DoNotKeep {
		t.DoNotKeep()
	}
	return out.Outputs, nil
}

// share copies a blob, and everything that it lists, into the shared store.
func (e *Elsewhere) share(ctx context.Context, from engine.Store, desc ocispec.Descriptor) error {
	all, err := store.Closure(ctx, from, desc)
	if err != nil {
		return err
	}
	for _, desc := range all {
		data, err := engine.Get(ctx, from, desc)
		if err == nil {
			_, err = engine.Put(ctx, e.Store, desc.MediaType, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run runs a process that may ask for secrets, by net/rpc over two pipes.
func run(ctx context.Context, cmd *exec.Cmd, secrets engine.Secrets) error {
	ask, asks, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ask.Close()
	replies, answers, err := os.Pipe()
	if err != nil {
		return errors.Join(err, asks.Close())
	}
	defer answers.Close()
	cmd.ExtraFiles = []*os.File{asks, replies}
	server := rpc.NewServer()
	err = server.RegisterName("Secrets", &vault{ctx, secrets})
	if err == nil {
		err = cmd.Start()
	}
	if err = errors.Join(err, asks.Close(), replies.Close()); err != nil {
		return err
	}
	server.ServeConn(pipes{ask, answers}) // until the process has ended
	return cmd.Wait()
}

// pipes are a connection: one to read from, and one to write to.
type pipes struct {
	io.Reader
	io.WriteCloser
}

// vault serves the secrets of a task.
type vault struct {
	ctx     context.Context // of the task
	secrets engine.Secrets
}

// Value is called by [asked] in the process.
func (v *vault) Value(name string, value *string) (err error) {
	*value, err = v.secrets(v.ctx, name)
	return err
}

// asked returns the secrets of the parent process.
func asked() engine.Secrets {
	client := rpc.NewClient(pipes{os.NewFile(4, "answers"), os.NewFile(3, "ask")})
	return func(_ context.Context, name string) (value string, err error) {
		err = client.Call("Secrets.Value", name, &value)
		return value, err
	}
}

// Serve is the main function of a process that [Elsewhere] starts: it reads a task from stdin,
// runs it over the store and writes the result to stdout.
func Serve(ctx context.Context, stages engine.Executor, shared engine.Store) error {
	var task sent
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		return err
	}
	var out ran
	var mu sync.Mutex
	t := &engine.Task{
		Node: task.Node, Inputs: task.Inputs, Store: shared, Log: slog.New(slog.DiscardHandler), Secrets: asked(),
		Report: func(e engine.Event) {
			mu.Lock()
			defer mu.Unlock()
			out.Events = append(out.Events, e)
		},
	}
	var err error
	if out.Outputs, err = stages.Run(namespaces.WithNamespace(ctx, "tape"), t); err != nil {
		return err
	}
	out.Skip, out.DoNotKeep = t.Asked()
	return json.NewEncoder(os.Stdout).Encode(out)
}
