// SPDX-License-Identifier: Apache-2.0

package serve_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// needed are the modules that an interpreter needs: those of go-plugin for gRPC. Neither Helm,
// CUE, containerd nor a registry client is among them.
var needed = []string{
	"github.com/fatih/color",
	"github.com/golang/protobuf",
	"github.com/hashicorp/go-hclog",
	"github.com/hashicorp/go-plugin",
	"github.com/hashicorp/yamux",
	"github.com/mattn/go-colorable",
	"github.com/mattn/go-isatty",
	"github.com/oklog/run",
	"github.com/taped-dev/tape",
	"golang.org/x/net",
	"golang.org/x/sys",
	"golang.org/x/text",
	"google.golang.org/genproto/googleapis/rpc",
	"google.golang.org/grpc",
	"google.golang.org/protobuf",
}

// TestModule writes an interpreter in a separate module and runs go mod tidy on its go.mod: its
// author only depends on the wire protocol, and on nothing else of tape.
func TestModule(t *testing.T) {
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(top, "go.sum")) // so that no checksum is requested
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string]string{
		"go.sum": string(sums),
		"go.mod": "module example.com/tape-interpreter-mine\n\ngo 1.26\n\nrequire github.com/taped-dev/tape v0.0.0\n\nreplace github.com/taped-dev/tape => " + top + "\n",
		"main.go": `package main

import (
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/serve"
)

func main() { serve.Interpreter(struct{ interpreter.Interpreter }{}) }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := cmd.Output()
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go %v: %v\n%s", args, err, failed.Stderr)
		} else if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run("mod", "tidy")
	var mod struct{ Require []struct{ Path string } }
	if err := json.Unmarshal(run("mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range mod.Require {
		got = append(got, r.Path)
	}
	slices.Sort(got)
	if diff := cmp.Diff(needed, got); diff != "" {
		t.Errorf("the modules of an interpreter's go.mod differ (-want +got):\n%s", diff)
	}
}
