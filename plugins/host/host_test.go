// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/plugins/serve"
)

// TestMain makes this test binary every interpreter that the tests start: the
// name it is started by says which.
func TestMain(m *testing.M) {
	if mode, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "tape-interpreter-"); ok {
		serve.Interpreter(fake{mode})
	}
	goleak.VerifyTestMain(m)
}

type fake struct{ mode string }

func (f fake) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{Name: f.mode, Version: "1", Help: "a test"}, nil
}
func (f fake) Inputs(context.Context, *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return &interpreter.InputsResponse{Paths: []string{"."}}, nil
}
func (f fake) Render(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	return &interpreter.RenderResponse{Files: []interpreter.File{{Path: "a.yaml", Data: []byte("x")}}}, nil
}

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	exe, _ := os.Executable()
	os.Symlink(exe, filepath.Join(dir, "tape-interpreter-ok"))
	h := host.New(host.Options{Dirs: []string{dir}, CacheDir: filepath.Join(dir, "cache")})
	defer h.Close()
	for range 3 {
		b := time.Now()
		i, err := h.Find(t.Context(), "ok")
		if err != nil {
			t.Fatal(err)
		}
		t.Log("find", time.Since(b))
		b = time.Now()
		d, err := i.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Log("describe", time.Since(b), d)
		b = time.Now()
		r, err := i.Render(t.Context(), &interpreter.RenderRequest{Path: "."})
		if err != nil {
			t.Fatal(err)
		}
		t.Log("render", time.Since(b), r)
	}
	b := time.Now()
	h.Close()
	t.Log("close", time.Since(b))
}
