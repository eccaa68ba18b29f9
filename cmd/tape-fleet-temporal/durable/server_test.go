// SPDX-License-Identifier: Apache-2.0

//go:build fleet || bench

package durable

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// program returns the path of a file that make built.
func program(t *testing.T, name string) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("../../../bin", name))
	if err == nil {
		_, err = os.Stat(file)
	}
	if err != nil {
		t.Fatalf("%v: make test-fleet builds it", err)
	}
	return file
}

// server is Temporal's, on loopback.
type server struct {
	database, port string
	cmd            *exec.Cmd
	cpu            time.Duration // processor time of servers that were killed
}

func startServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{database: filepath.Join(t.TempDir(), "temporal.db"), port: strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	t.Cleanup(s.kill)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.address()); err == nil {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			return s
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (s *server) address() string { return "127.0.0.1:" + s.port }

func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(program(t, "temporal-server"), "-database", s.database, "-port", s.port)
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill sends SIGKILL.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended already
	_ = s.cmd.Wait()
	s.cpu += s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime()
}

// bytes returns the size of the database.
func (s *server) bytes(t *testing.T) int64 {
	t.Helper()
	var n int64
	files, err := filepath.Glob(s.database + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}
