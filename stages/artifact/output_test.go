// SPDX-License-Identifier: Apache-2.0

//go:build unix

package artifact

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file is unchanged until it is replaced, whether it is a file or a link to one.
func TestOutput(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	holds := func(want string) {
		t.Helper()
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("it holds %q, %v, want %q", got, err, want)
		}
	}
	for _, name := range []string{file, link} {
		out, err := NewOutput(name, []byte("discarded"))
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Discard(); err != nil {
			t.Fatal(err)
		}
		holds("old")
	}
	out, err := NewOutput(link, []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	holds("old")
	if err := out.Place(); err != nil {
		t.Fatal(err)
	}
	holds("new")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[1].Type()&fs.ModeSymlink == 0 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

// A pipe is written to, not replaced by a file: so is /dev/stdout.
func TestOutputPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // so that neither side blocks
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	out, err := NewOutput(pipe, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Place(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Fatalf("the pipe is %v, %v", info, err)
	}
	got := make([]byte, 5)
	if _, err := reader.Read(got); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
}
