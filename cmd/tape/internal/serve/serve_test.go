// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// start serves until stop is called, which returns what Serve did.
func start(t *testing.T, data string) (addr string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- Serve(ctx, Options{Addr: "127.0.0.1:0", Data: data, Ready: func(at string) { ready <- at }})
	}()
	select {
	case addr = <-ready:
	case err := <-done:
		t.Fatalf("stopped before it was ready: %v", err)
	}
	return addr, func() error {
		cancel(errors.New("test is over"))
		return <-done
	}
}

func TestKeepsWhatItIsGiven(t *testing.T) {
	data := filepath.Join(t.TempDir(), "made", "for it")
	addr, stop := start(t, data)
	ref, err := name.ParseReference(addr + "/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, empty.Image); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	addr, stop = start(t, data)
	if ref, err = name.ParseReference(addr + "/team/app:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(ref); err != nil {
		t.Errorf("gone after a restart: %v", err)
	}
	if err := remote.Delete(ref.Context().Digest(mustDigest(t))); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func mustDigest(t *testing.T) string {
	t.Helper()
	d, err := empty.Image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// Without a folder the registry stores its content in a temporary one, which is removed at the
// end.
func TestTemporary(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	addr, stop := start(t, "")
	ref, err := name.ParseReference(addr + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, empty.Image); err != nil {
		t.Error(err)
	}
	kept := filepath.Join(tmp, "tape-registry-*", "docker", "registry", "v2", "repositories", "app")
	if found, err := filepath.Glob(kept); err != nil || len(found) != 1 {
		t.Errorf("what is served is in %v, %v, want in %s", found, err, kept)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		name string
		opts Options
		want string
	}{
		{"address taken", Options{Addr: taken.Addr().String()}, "address already in use; choose another address with --addr"},
		{"no address", Options{Addr: "nowhere"}, "serve a registry at nowhere"},
		{"no folder", Options{Addr: "127.0.0.1:0", Data: "/dev/null/data"}, "make the registry's folder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Serve(t.Context(), tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
