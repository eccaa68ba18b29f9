// SPDX-License-Identifier: Apache-2.0

package plain

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/plugins/interpreter"
)

func TestRender(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{
		"app/a.yaml":           "a: 1\n",
		"app/sub dir/ü.YML":    "b: 2\r\n",
		"app/c.json":           "{}",
		"app/.github/x.yaml":   "x: 1\n",
		"app/.git/config.yaml": "no: 1\n",
		"app/README.md":        "# no",
		"empty/README.md":      "# no",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path  string
		files map[string]string
		diag  string
	}{
		{path: "app", files: map[string]string{"a.yaml": "a: 1\n", "sub dir/ü.YML": "b: 2\r\n", "c.json": "{}", ".github/x.yaml": "x: 1\n"}},
		{path: "app/c.json", files: map[string]string{"c.json": "{}"}},
		{path: "app/README.md", files: map[string]string{"README.md": "# no"}}, // named explicitly
		{path: "empty", diag: "no manifests: no file has the extension .yaml, .yml or .json"},
		{path: "gone", diag: "no such file or folder"},
	} {
		resp, err := New().Render(context.Background(), &interpreter.RenderRequest{Source: dir, Path: c.path})
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		var got map[string]string
		for _, f := range resp.Files {
			if got == nil {
				got = map[string]string{}
			}
			got[f.Path] = string(f.Data)
		}
		if diff := cmp.Diff(c.files, got); diff != "" {
			t.Errorf("%s: %s", c.path, diff)
		}
		var diag string
		for _, d := range resp.Diagnostics {
			diag += d.Summary
		}
		if diag != c.diag {
			t.Errorf("%s: diagnostic %q, want %q", c.path, diag, c.diag)
		}
	}
}

func TestInputs(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	for name, data := range map[string]string{
		"app/a.yaml":       "",
		"app/built":        "-> " + elsewhere,
		"app/sub/b.JSON":   "",
		"app/README.md":    "",
		"app/.git/c.yaml":  "",
		"app/link.yaml":    "-> ../base/x.yaml",
		"app/gone.yaml":    "-> nowhere",
		"app/gone":         "-> nowhere",
		"app/loop.yml":     "-> loop.yml",
		"app/folder":       "-> ../base",
		"app/sub/up":       "-> ..",
		"app/sub/twice":    "-> ../deeper",
		"app/deeper/d.yml": "",
		"app/notes":        "-> README.md",
		"app/null.yaml":    "-> /dev/null",
		"base/x.yaml":      "",
		"empty/README.md":  "",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		if target, link := strings.CutPrefix(data, "-> "); link {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "app/s.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	warning := func(file, why string) interpreter.Diagnostic {
		return interpreter.Diagnostic{Severity: interpreter.Warning, Summary: "skipped a symbolic link that " + why, File: file}
	}
	for path, want := range map[string]*interpreter.InputsResponse{
		"app": {
			Exact: true, Paths: []string{"app/a.yaml", "app/deeper/d.yml", "app/folder", "app/link.yaml", "app/sub/b.JSON"},
			Diagnostics: []interpreter.Diagnostic{
				warning("app/built", "leads to a folder elsewhere"), warning("app/gone.yaml", "leads nowhere"), warning("app/loop.yml", "leads nowhere"),
				warning("app/null.yaml", "does not lead to a regular file"),
				{Severity: interpreter.Warning, Summary: "skipped, because it is not a regular file", File: "app/s.yaml"},
			},
		},
		"app/a.yaml": {Exact: true, Paths: []string{"app/a.yaml"}},
		"empty":      {Exact: true, Diagnostics: problem("empty", noManifests)},
		"gone":       {Diagnostics: problem("gone", "no such file or folder")},
	} {
		got, err := New().Inputs(t.Context(), &interpreter.InputsRequest{Root: dir, Path: path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}
