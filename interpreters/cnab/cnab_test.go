// SPDX-License-Identifier: Apache-2.0

package cnab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/plugins/interpreter"
)

const invocation = `"invocationImages":[{"image":"a"}]`

// TestBytes checks that the ConfigMap contains the same bytes, whatever the bundle contains.
func TestBytes(t *testing.T) {
	for _, data := range []string{
		`{` + invocation + `}`,
		"{\r\n\t" + invocation + "\r\n}\r\n",
		"\n\n  {" + invocation + "}\n\n",
		`{"name":"ü \u2028 # x: y` + "\u2028\u0085\ufeff" + `",` + invocation + `}`,
		"{" + strings.Repeat(" ", 1<<20) + invocation + "}",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "bundle.json"), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		resp, err := New().Render(t.Context(), &interpreter.RenderRequest{Source: dir, Path: "."})
		if err != nil || len(resp.Files) != 1 {
			t.Fatalf("%.40q: %+v, %v", data, resp, err)
		}
		var object struct{ Data map[string]string }
		if err := yaml.Unmarshal(resp.Files[0].Data, &object); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"bundle.json": data}, object.Data); diff != "" {
			t.Errorf("%.40q: %.300s", data, diff)
		}
		if warned, want := len(resp.Diagnostics) == 1, len(data) > 1<<20; warned != want {
			t.Errorf("%.40q: diagnostics %+v", data, resp.Diagnostics)
		}
	}
}

func TestProblems(t *testing.T) {
	for data, want := range map[string][]interpreter.Diagnostic{
		"{\n\"name\": \"x\",\n}": {{Summary: "the bundle cannot be read", Line: 3, Detail: "invalid character '}' looking for beginning of object key string"}},
		"{}":                     {{Summary: "the bundle has no invocation image", Detail: "is it a CNAB bundle?"}},
		"\xff":                   {{Summary: "the bundle is not UTF-8"}},
		`{"invocationImages":[{"imageType":"vm"}],"images":{"b":{},"a":{"imageType":"vm"}}}`: {
			{Summary: `image a has type "vm"; want docker or oci`},
			{Summary: "image b names no image"},
			{Summary: `invocation image 1 has type "vm"; want docker or oci`},
		},
	} {
		_, got := read("bundle.json", []byte(data))
		for i := range want {
			want[i].Severity, want[i].File = interpreter.Error, "bundle.json"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", data, diff)
		}
	}
}

func TestObjectName(t *testing.T) {
	for name, want := range map[string]string{
		"": "bundle", "shop": "shop", "My Shop": "my-shop", "github.com/Org/app": "github.com-org-app", "-.-": "bundle", "a..b-": "a.b",
		strings.Repeat("x", 300): strings.Repeat("x", 253),
	} {
		if got := objectName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestInputs(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "app", "other.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]*interpreter.InputsResponse{
		"app":            {Exact: true, Paths: []string{"app/bundle.json"}},
		"app/other.json": {Exact: true, Paths: []string{"app/other.json"}},
		"gone":           {Diagnostics: problem("gone", "no such file or folder", "")},
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
