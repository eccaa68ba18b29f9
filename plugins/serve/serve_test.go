// SPDX-License-Identifier: Apache-2.0

//go:build unix

package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/plugins/internal/wire"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// TestMain makes this test binary an interpreter if a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("SERVE_TEST") != "" {
		Interpreter(described{})
	}
	os.Exit(m.Run())
}

type described struct{ interpreter.Interpreter }

func (described) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{Name: "x", Version: "1.2.3", Help: "tests", Options: json.RawMessage(`{"type":"object"}`)}, nil
}

type broken struct{ interpreter.Interpreter }

func (broken) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{}, errors.New("no library")
}

func TestByHand(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := []string{"/opt/tape-interpreter-x"}
	if status := byHand(t.Context(), described{}, args, &stdout, &stderr); status != 2 || stdout.Len() > 0 {
		t.Errorf("status %d, stdout %q", status, &stdout)
	}
	for _, want := range []string{"tape-interpreter-x 1.2.3: tests", "tape interpreter install /opt/tape-interpreter-x", "tape render --interpreter x SOURCE"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("help has no %q:\n%s", want, &stderr)
		}
	}
	if status := byHand(t.Context(), broken{}, args, &stdout, &stderr); status != 1 || !strings.HasSuffix(stderr.String(), "no library\n") {
		t.Errorf("status %d: %s", status, &stderr)
	}
}

func TestDescribe(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := byHand(t.Context(), described{}, []string{"x", "describe"}, &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	var got any
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"name": "x", "version": "1.2.3", "help": "tests", "options": map[string]any{"type": "object"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// start starts the server in a process, and returns after the handshake.
func start(t *testing.T) (*exec.Cmd, io.Closer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(exe)
	cmd.Env = []string{
		"SERVE_TEST=1", wire.Cookie + "=" + wire.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=1,7",
		"PLUGIN_UNIX_SOCKET_DIR=" + dir, "TMPDIR=" + dir,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line := make([]byte, len("1|1|unix|"))
	if _, err := io.ReadFull(stdout, line); err != nil || string(line) != "1|1|unix|" {
		t.Fatalf("handshake is %q, %v", line, err)
	}
	return cmd, stdin
}

// It ends when its host has ended.
func TestEndsWithHost(t *testing.T) {
	cmd, stdin := start(t)
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 1" {
		t.Errorf("ended with %v", err)
	}
}

func TestEndsOnSignal(t *testing.T) {
	cmd, _ := start(t)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 1" {
		t.Errorf("ended with %v", err)
	}
}
