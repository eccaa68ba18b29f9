// SPDX-License-Identifier: Apache-2.0

//go:build unix

package regular

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Anything that is not a file, or too large, is rejected immediately.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(syscall.Mkfifo(at("pipe"), 0o600))
	must(os.Symlink("/dev/zero", at("zero")))
	must(os.Symlink("pipe", at("to-pipe")))
	must(os.WriteFile(at("good"), []byte("good"), 0o600))
	must(os.WriteFile(at("large"), nil, 0o600))
	must(os.Truncate(at("large"), MaxFile+1))
	for name, want := range map[string]string{
		"good": "", "pipe": "is a named pipe", "to-pipe": "is a named pipe", "zero": "is a device", ".": "is a folder",
		"large": "has more than 4194304 bytes", "none": "no such file",
	} {
		data, err := ReadFile(at(name))
		if want == "" && (err != nil || string(data) != "good") {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

func TestInside(t *testing.T) {
	top, other := t.TempDir(), t.TempDir()
	for name, target := range map[string]string{"in": "file", "out": filepath.Join(other, "file"), "up": "../" + filepath.Base(other) + "/file"} {
		if err := os.Symlink(target, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{top, other} {
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(other, filepath.Join(top, "folder")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"file": true, "in": true, ".": true, "out": false, "folder/file": false, "..": false, "none": false} {
		err := Inside(filepath.Join(top, name), top)
		if name == "none" && (err == nil || !strings.Contains(err.Error(), "follow "+filepath.Join(top, name)+": ")) {
			t.Errorf("%s: %v", name, err)
		}
		if (err == nil) != want {
			t.Errorf("%s: got %v, want inside %v", name, err, want)
		}
	}
}

// TestReadArgument reads what a shell opens for a process, and otherwise rejects named pipes
// and devices like ReadFile.
func TestReadArgument(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("key"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := ReadArgument(fmt.Sprintf("/dev/fd/%d", r.Fd()))
	if err != nil || string(data) != "key" {
		t.Errorf("a pipe of the shell: got %q, %v", data, err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	for name, want := range map[string]string{pipe: "is a named pipe", fmt.Sprintf("/dev/fd/%d", zero.Fd()): "is a device"} {
		if _, err := ReadArgument(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}
