// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/taped-dev/tape/plugins/conformance"
	"github.com/taped-dev/tape/plugins/interpreter"
)

func TestConformance(t *testing.T) {
	if err := conformance.Check(t.Context(), New(), conformance.Options{Cases: os.DirFS("testdata")}); err != nil {
		t.Fatal(err)
	}
}

// TestErrors compares the diagnostics of faulty charts with the `# want: file:line:column:
// summary` lines of testdata/errors.
func TestErrors(t *testing.T) {
	cases, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			c := readCase(t, file)
			resp := c.render(t)
			var got []string
			for _, d := range resp.Diagnostics {
				got = append(got, place(d)+": "+d.Summary)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
			if len(resp.Files) > 0 {
				t.Errorf("%d files beside errors", len(resp.Files))
			}
		})
	}
}

func place(d interpreter.Diagnostic) string {
	at := d.File
	for _, n := range []int{d.Line, d.Column} {
		if n > 0 {
			at += fmt.Sprintf(":%d", n)
		}
	}
	return at
}

// testCase writes a case of the conformance kit to a folder.
type testCase struct {
	root, path string
	options    json.RawMessage
	want       []string
}

func readCase(t *testing.T, file string) testCase {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := testCase{root: t.TempDir(), path: "."}
	for line := range strings.Lines(string(a.Comment)) {
		line = strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(line, "path: "); ok {
			c.path = v
		}
		if v, ok := strings.CutPrefix(line, "options: "); ok {
			c.options = json.RawMessage(v)
		}
		if v, ok := strings.CutPrefix(line, "# want: "); ok {
			c.want = append(c.want, v)
		}
	}
	for _, f := range a.Files {
		if name, ok := strings.CutPrefix(f.Name, "in/"); ok {
			write(t, filepath.Join(c.root, name), string(f.Data))
		}
	}
	return c
}

func (c testCase) render(t *testing.T) *interpreter.RenderResponse {
	t.Helper()
	return rendered(t, &interpreter.RenderRequest{Source: c.root, Path: c.path, Options: c.options})
}

func rendered(t *testing.T, req *interpreter.RenderRequest) *interpreter.RenderResponse {
	t.Helper()
	req.Scratch = t.TempDir()
	resp, err := New().Render(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func write(t *testing.T, file, data string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, []byte(data), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// names returns the paths of files.
func names(files []interpreter.File) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out
}

func summaries(all []interpreter.Diagnostic) string {
	var out []string
	for _, d := range all {
		out = append(out, string(d.Severity)+": "+place(d)+": "+d.Summary)
	}
	return strings.Join(out, "\n")
}

func TestVersionIsThatOfTheModule(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "helm.sh/helm/v3 v" + Version + "\n"; !strings.Contains(string(data), want) {
		t.Errorf("go.mod does not require %s", want)
	}
}

func TestDefaultsOfSchema(t *testing.T) {
	var schema struct {
		Properties map[string]struct{ Default any }
	}
	if err := json.Unmarshal(optionsSchema, &schema); err != nil {
		t.Fatal(err)
	}
	defaults := map[string]any{}
	for name, p := range schema.Properties {
		if p.Default != nil {
			defaults[name] = p.Default
		}
	}
	raw, err := json.Marshal(defaults)
	if err != nil {
		t.Fatal(err)
	}
	stated, err := parseOptions(raw)
	if err != nil {
		t.Fatal(err)
	}
	used, err := parseOptions(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []*[]string{&stated.Values, &stated.Set, &stated.SetString, &stated.SetFile, &stated.APIVersions} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if diff := cmp.Diff(stated, used); diff != "" {
		t.Errorf("defaults (-schema +used):\n%s", diff)
	}
}

func TestInputs(t *testing.T) {
	c := readCase(t, "testdata/local-dependencies.txtar")
	for _, link := range []struct{ name, target string }{
		{"deploy/app/charts/linked", "../../../lib/linked"},
		{"deploy/app/templates/linked.yaml", "../../../lib/linked.yaml"},
		{"deploy/app/out.txt", "../../../outside.txt"},
	} {
		write(t, filepath.Join(c.root, "lib/linked/Chart.yaml"), "apiVersion: v2\nname: linked\nversion: 1.0.0\n")
		write(t, filepath.Join(c.root, "lib/linked.yaml"), "kind: Linked\n")
		write(t, filepath.Join(c.root, "../outside.txt"), "outside\n")
		symlink(t, filepath.Join(c.root, link.name), link.target)
	}
	resp, err := New().Inputs(t.Context(), &interpreter.InputsRequest{Root: c.root, Path: c.path, Options: json.RawMessage(`{"setFile": ["a=deploy/a.txt"]}`)})
	if err != nil {
		t.Fatal(err)
	}
	want := &interpreter.InputsResponse{Paths: []string{"../outside.txt", "deploy/a.txt", "deploy/db", "lib/common", "lib/linked", "lib/linked.yaml"}}
	if diff := cmp.Diff(want, resp); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}

	write(t, filepath.Join(c.root, "deploy/db/Chart.yaml"), "apiVersion: v2\nname: db\nversion: 1.0.0\ndependencies: [{name: x, version: 1.0.0, repository: file://../../../x}]\n")
	resp, err = New().Inputs(t.Context(), &interpreter.InputsRequest{Root: c.root, Path: "deploy/db"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"../x"}; !slices.Equal(resp.Paths, want) {
		t.Errorf("inputs %q, want %q", resp.Paths, want)
	}
}

func symlink(t *testing.T, name, target string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.Symlink(target, name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSymlinks(t *testing.T) {
	const chart = "apiVersion: v2\nname: app\nversion: 0.1.0\n"
	for _, tt := range []struct {
		name, link, target string
		files              []string
		problem            string
	}{
		{"subchart", "app/charts/db", "../../db", []string{"charts/db/templates/db.yaml", "templates/a.yaml"}, ""},
		{"template", "app/templates/b.yaml", "../../db/templates/db.yaml", []string{"templates/a.yaml", "templates/b.yaml"}, ""},
		{"templates of another chart", "app/templates/db", "../../db/templates", []string{"templates/a.yaml", "templates/db/db.yaml"}, ""},
		{"loop", "app/templates/loop", "..", nil, "error: app/templates/loop: the symbolic link leads to a folder that contains it"},
		{"dangling", "app/templates/b.yaml", "../nothing", nil, "error: app/templates/b.yaml: cannot be read: the symbolic link leads nowhere: no such file or directory"},
		{"out of the source", "app/templates/b.yaml", "/etc/passwd", nil, "error: app/templates/b.yaml: cannot be read: the symbolic link leads outside the source"},
		{"ignored", "app/ignored", "/etc", []string{"templates/a.yaml"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "app/Chart.yaml"), chart)
			write(t, filepath.Join(root, "app/.helmignore"), "ignored\n")
			write(t, filepath.Join(root, "app/templates/a.yaml"), "kind: A\n")
			write(t, filepath.Join(root, "db/Chart.yaml"), strings.ReplaceAll(chart, "app", "db"))
			write(t, filepath.Join(root, "db/templates/db.yaml"), "kind: DB\n")
			symlink(t, filepath.Join(root, tt.link), tt.target)
			resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: "app"})
			if diff := cmp.Diff(tt.files, names(resp.Files)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if got := summaries(resp.Diagnostics); got != tt.problem {
				t.Errorf("diagnostics %q, want %q", got, tt.problem)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"deprecated and empty", map[string]string{
			"Chart.yaml": "apiVersion: v2\nname: app\nversion: 0.1.0\ndeprecated: true\n",
		}, "warning: Chart.yaml: the chart is deprecated\nwarning: Chart.yaml: the chart renders no objects"},
		{"unknown hook", map[string]string{
			"Chart.yaml":       "apiVersion: v2\nname: app\nversion: 0.1.0\n",
			"templates/a.yaml": "kind: A\n---\nkind: B\nmetadata:\n  annotations:\n    helm.sh/hook: crd-install\n",
		}, "warning: templates/a.yaml: 1 of its objects left out, as in Helm: unknown helm.sh/hook"},
		{"subchart not whole", map[string]string{
			"Chart.yaml":           "apiVersion: v2\nname: app\nversion: 0.1.0\n",
			"templates/a.yaml":     "kind: A\n",
			"charts/db/Chart.yaml": "apiVersion: v2\nname: db\nversion: 0.1.0\ndependencies: [{name: common, version: 1.0.0, repository: https://charts.invalid}]\n",
		}, `warning: charts/db/Chart.yaml: dependency "common" is not in the chart's charts/ and is left out, as in Helm`},
		{"another version", map[string]string{
			"Chart.yaml":           "apiVersion: v2\nname: app\nversion: 0.1.0\ndependencies: [{name: db, version: ^2.0.0, repository: https://charts.invalid}]\n",
			"templates/a.yaml":     "kind: A\n",
			"charts/db/Chart.yaml": "apiVersion: v2\nname: db\nversion: 0.1.0\n",
		}, "warning: Chart.yaml: charts/ has db 0.1.0, but Chart.yaml requires ^2.0.0"},
		{"schema elsewhere", map[string]string{
			"Chart.yaml":         "apiVersion: v2\nname: app\nversion: 0.1.0\n",
			"templates/a.yaml":   "kind: A\n",
			"values.schema.json": `{"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "https://schemas.invalid/values.json"}`,
		}, "warning: values.schema.json: the schema refers to https://schemas.invalid/values.json, which is not fetched: that part is not checked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, data := range tt.files {
				write(t, filepath.Join(root, name), data)
			}
			resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: "."})
			if diff := cmp.Diff(tt.want, summaries(resp.Diagnostics)); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRenderSideBySide(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, file := range cases {
		c := readCase(t, file)
		want := c.render(t)
		for range 4 {
			wg.Go(func() {
				resp, err := New().Render(t.Context(), &interpreter.RenderRequest{Source: c.root, Path: c.path, Options: c.options})
				if err != nil {
					t.Error(err)
				} else if diff := cmp.Diff(want, resp); diff != "" {
					t.Errorf("%s (-alone +side by side):\n%s", path.Base(file), diff)
				}
			})
		}
	}
	wg.Wait()
}

func TestRenderStopsWithItsContext(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "Chart.yaml"), "apiVersion: v2\nname: app\nversion: 0.1.0\n")
	// Far more steps than can be executed.
	write(t, filepath.Join(root, "templates/a.yaml"), "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}")
	gone := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := New().Render(ctx, &interpreter.RenderRequest{Source: root, Path: "."})
		done <- err
	}()
	cancel(gone)
	if err := <-done; !errors.Is(err, gone) {
		t.Errorf("error %v, want %v", err, gone)
	}
}

// The example shows the output documented in docs/interpreters/helm.md.
func TestExample(t *testing.T) {
	root := "../../examples/helm"
	in, err := New().Inputs(t.Context(), &interpreter.InputsRequest{Root: root, Path: "storefront"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&interpreter.InputsResponse{Paths: []string{"database"}}, in); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		name, options string
		files         []string
		problems      string
	}{
		{"as it is", `{}`, []string{
			"charts/database/templates/database.yaml", "templates/configmap.yaml", "templates/deployment.yaml", "templates/migrate.yaml", "templates/service.yaml",
		}, "info: storefront/templates/tests/greets.yaml: Pod storefront-greets is left out because no installation runs it (helm.sh/hook: test); set option hooks to all to keep it"},
		{"for production", `{"values": ["storefront/values-prod.yaml"], "testHooks": true, "set": ["database.enabled=false", "database.host=db.example"]}`, []string{
			"templates/configmap.yaml", "templates/deployment.yaml", "templates/migrate.yaml", "templates/service.yaml", "templates/tests/greets.yaml",
		}, ""},
		{"without a database", `{"set": ["database.enabled=false"]}`, nil,
			"error: storefront/templates/migrate.yaml:18:37: database.host is needed where database.enabled is false"},
		{"with no replicas", `{"set": ["replicas=0"]}`, nil,
			"error: storefront/values.schema.json: the values of chart storefront do not match its schema: at replicas: minimum: got 0, want 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := rendered(t, &interpreter.RenderRequest{Source: root, Path: "storefront", Options: json.RawMessage(tt.options)})
			for _, f := range resp.Files {
				want := "storefront/" + f.Path
				if strings.HasPrefix(f.Path, "charts/") {
					want = "" // a chart from another source
				}
				if f.Origin != want {
					t.Errorf("%s is of %q, want %q", f.Path, f.Origin, want)
				}
			}
			if diff := cmp.Diff(tt.files, names(resp.Files)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if got := summaries(resp.Diagnostics); got != tt.problems {
				t.Errorf("diagnostics %q, want %q", got, tt.problems)
			}
		})
	}
}
