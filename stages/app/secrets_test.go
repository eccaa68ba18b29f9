// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/rendering"
)

// vaultToo finds plain, and an interpreter with secrets.
type vaultToo struct{ plainAlone }

func (v vaultToo) Find(ctx context.Context, name string) (rendering.Interpreter, error) {
	if name == "vault" {
		return vault{}, nil
	}
	return v.plainAlone.Find(ctx, name)
}

func (v vaultToo) List(ctx context.Context) ([]rendering.Interpreter, error) {
	all, err := v.plainAlone.List(ctx)
	return append(all, vault{}), err
}

// vault renders its options and variables, and reveals them in diagnostics and errors.
type vault struct{}

func (vault) Name() string { return "vault" }

func (vault) Checksum(context.Context) (digest.Digest, error) { return digest.FromString("vault"), nil }

func (vault) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name: "vault", Version: "1", Environment: []string{"VAULT_TEST_TOKEN"}, References: []string{"https"},
		Options: json.RawMessage(`{"type": "object", "additionalProperties": false, "properties": {
			"password": {"type": "string", "writeOnly": true},
			"pin": {"type": "integer", "writeOnly": true},
			"users": {"type": "object", "writeOnly": true},
			"set": {"type": "array", "items": {"type": "string", "format": "key=value", "pattern": "="}},
			"end": {"type": "string"}, "namespace": {"type": "string"}
		}}`),
	}, nil
}

// told returns diagnostics that contain all secrets.
func told(severity interpreter.Severity, options json.RawMessage) []interpreter.Diagnostic {
	return []interpreter.Diagnostic{{Severity: severity, Summary: "told " + string(options), Detail: os.Getenv("VAULT_TEST_TOKEN")}}
}

func (vault) Inputs(_ context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return &interpreter.InputsResponse{Diagnostics: told(interpreter.Warning, req.Options)}, nil
}

func (vault) Render(_ context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	var options map[string]any
	if err := json.Unmarshal(req.Options, &options); err != nil {
		return nil, err
	}
	switch options["end"] {
	case "error":
		return nil, fmt.Errorf("failed with %s and %s at %s", req.Options, os.Getenv("VAULT_TEST_TOKEN"), req.Reference)
	case "diagnostic":
		return &interpreter.RenderResponse{Diagnostics: told(interpreter.Error, req.Options)}, nil
	case "panic":
		panic(fmt.Sprintf("gone with %v", options["password"]))
	}
	manifest := fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: all}\nstringData:\n  options: %q\n  token: %q\n  reference: %q\n",
		req.Options, os.Getenv("VAULT_TEST_TOKEN"), req.Reference)
	return &interpreter.RenderResponse{
		Files:       []interpreter.File{{Path: "all.yaml", Data: []byte(manifest)}},
		Diagnostics: told(interpreter.Warning, req.Options),
	}, nil
}

// planted is part of every secret value.
const planted = "planted-"

// seen is everything that is written anywhere while an application is packed.
type seen struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *seen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

// TestSecrets checks that a secret is only in the rendered manifests: not in the JSON of a
// node, an event, the store, a log or an error; here, and when every node runs in a separate
// process, which gets the secret from this one by name.
func TestSecrets(t *testing.T) {
	t.Setenv("VAULT_TEST_TOKEN", planted+"token")
	up := registrytest.Serve(t, &registrytest.Upstream{})
	destination := registrytest.Serve(t, registrytest.Distribution(""))
	source := t.TempDir()
	write(t, filepath.Join(source, "vault", "source.txt"), "none of these")
	options := `{password: planted-password, pin: 123456789, users: {planted-user: planted-of-user}, set: ["a.b=planted-value", plain=3]`
	write(t, filepath.Join(source, "literal.yaml"), `apiVersion: tape/v1
kind: Pipeline
sources: [{name: one, path: vault, interpreter: vault, options: `+options+`, end: "${end}"}}]
args: {end: ""}
`)
	write(t, filepath.Join(source, "argument.yaml"), `apiVersion: tape/v1
kind: Pipeline
sources: [{name: one, path: vault, interpreter: vault, options: {password: "${password}", set: ["a.b=${password}"], end: "${end}"}}]
args: {end: "", password: {type: string}}
`)
	write(t, filepath.Join(source, "reference.yaml"), `apiVersion: tape/v1
kind: Pipeline
sources: [{name: one, path: vault, interpreter: vault, options: {password: "secret://team/db", end: "${end}"}}]
args: {end: ""}
`)
	write(t, filepath.Join(source, "remote.yaml"), `apiVersion: tape/v1
kind: Pipeline
sources: [{name: one, path: "https://planted-login:planted-pass@vault.example/app?token=planted-query", interpreter: vault, options: {end: "${end}"}}]
args: {end: ""}
`)
	pin := "123456789"
	for name, o := range map[string]app.Options{
		"settings": {Sources: []app.Source{{Path: filepath.Join(source, "vault"), Interpreter: "vault", Settings: []app.Setting{
			{Name: "password", Value: planted + "password"}, {Name: "pin", Value: pin}, {Name: "set", Value: "a.b=planted-value"},
			{Name: "set", JSON: json.RawMessage(`["c=planted-second"]`)}, {Name: "users", JSON: json.RawMessage(`{"planted-user": "planted-of-user"}`)},
		}}}},
		"literal":   {Pipeline: filepath.Join(source, "literal.yaml")},
		"argument":  {Pipeline: filepath.Join(source, "argument.yaml"), Args: map[string]string{"password": planted + "password"}},
		"reference": {Pipeline: filepath.Join(source, "reference.yaml")},
		"remote":    {Pipeline: filepath.Join(source, "remote.yaml")},
	} {
		roots := map[digest.Digest]bool{}
		for _, away := range []bool{false, true} {
			for _, end := range []string{"", "error", "diagnostic", "panic"} {
				if end != "" && name != "literal" && name != "remote" {
					continue
				}
				// Settings and arguments have become references before a node is sent anywhere, and
				// every end of a render treats them alike: one of each is sent.
				if away && (name == "settings" || name == "argument" || end != "" && name == "remote") {
					continue
				}
				t.Run(fmt.Sprintf("%s/away=%t/%s", name, away, end), func(t *testing.T) {
					out := &seen{}
					dir := t.TempDir()
					env, closeEnv, err := environment(dir, up)
					if err != nil {
						t.Fatal(err)
					}
					defer closeEnv()
					env.Interpreters = vaultToo{}
					env.Secrets = func(_ context.Context, name string) (string, error) {
						if name != "team/db" {
							return "", errors.New("it is not that of the team")
						}
						return planted + "password", nil
					}
					env.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
					env.Events = func(e engine.Event) {
						if err := json.NewEncoder(out).Encode(e); err != nil {
							t.Error(err)
						}
					}
					folder := ""
					if o.Pipeline != "" {
						folder = source
					}
					e := elsewhere(dir, up, folder, env.Store)
					env.Executor = func(here engine.Stages) engine.Executor {
						if e.Stages = here; away {
							return watching{e, out}
						}
						return watching{here, out}
					}
					o := o
					o.Environment, o.Version = env, "test"
					if o.Pipeline != "" {
						args := map[string]string{"end": end}
						for k, v := range o.Args {
							args[k] = v
						}
						o.Args = args
					} else if end != "" {
						s := o.Sources[0]
						s.Settings = append(s.Settings[:len(s.Settings):len(s.Settings)], app.Setting{Name: "end", Value: end})
						o.Sources = []app.Source{s}
					}
					expanded, err := app.Expand(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					out.Write(expanded.YAML)
					if !strings.Contains(string(expanded.YAML), "secret://") {
						t.Errorf("no reference in the pipeline:\n%s", expanded.YAML)
					}
					for _, dry := range []bool{true, false} {
						if dry && (away || end != "") { // the run has its nodes, and others
							continue
						}
						result, err := app.Package(t.Context(), app.PackageOptions{
							Options: o, Repository: destination + "/team/shop", Tags: []string{"v1"}, DryRun: dry,
						})
						if (err == nil) != (end == "") {
							t.Fatal(err)
						}
						fmt.Fprintln(out, err)
						if err == nil {
							if err := json.NewEncoder(out).Encode(result); err != nil {
								t.Fatal(err)
							}
							roots[result.Root.Digest] = true
						}
					}
					if ran, _ := e.Away(); away && len(ran) == 0 {
						t.Error("nothing ran elsewhere")
					}
					out.Write(e.Said())
					for _, secret := range []string{planted, pin} {
						if at := strings.Index(out.all.String(), secret); at >= 0 {
							text := out.all.String()
							t.Errorf("%s is told: …%s…", secret, text[max(0, at-200):min(len(text), at+100)])
						}
					}
					stored(t, filepath.Join(dir, "store"), planted, pin)
				})
			}
		}
		if len(roots) != 1 {
			t.Errorf("%s: %d roots are made of one source", name, len(roots))
		}
	}
}

// watching records the nodes and inputs that are run.
type watching struct {
	engine.Executor
	out *seen
}

func (w watching) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	if err := json.NewEncoder(w.out).Encode(t.Node); err != nil {
		return nil, err
	}
	if desc, ok := t.Inputs["request"]; ok {
		data, err := engine.Get(ctx, t.Store, desc)
		if err != nil {
			return nil, err
		}
		_, _ = w.out.Write(data)
	}
	return w.Executor.Run(ctx, t)
}

// stored searches a store, except manifests, for texts.
func stored(t *testing.T, dir string, texts ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := files.Unpack(data); err == nil {
			return nil // a tar of manifests
		}
		for _, text := range texts {
			if bytes.Contains(data, []byte(text)) {
				t.Errorf("%s has %s: %s", name, text, data)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A secret is rejected where its value would be published, or where it cannot be resolved.
func TestSecretsRefused(t *testing.T) {
	up := registrytest.Serve(t, &registrytest.Upstream{})
	env, closeEnv, err := environment(t.TempDir(), up)
	if err != nil {
		t.Fatal(err)
	}
	defer closeEnv()
	env.Interpreters = vaultToo{}
	source := t.TempDir()
	write(t, filepath.Join(source, "source.txt"), "none of these")
	render := func(setting app.Setting) error {
		_, err := app.Render(t.Context(), app.RenderOptions{Options: app.Options{
			Environment: env, Sources: []app.Source{{Path: source, Interpreter: "vault", Settings: []app.Setting{setting}}},
		}})
		return err
	}
	if err := render(app.Setting{Name: "password", Value: "secret://x"}); err == nil || !strings.Contains(err.Error(), "secret x: no value is known") {
		t.Errorf("a secret that is not there: %v", err)
	}
	env.Secrets = func(context.Context, string) (string, error) { return "prod", nil }
	if err := render(app.Setting{Name: "namespace", Value: "secret://x"}); err == nil || !strings.Contains(err.Error(), "option namespace: its value is published, so it cannot be a secret") {
		t.Errorf("a secret that would be published: %v", err)
	}
}

func write(t *testing.T, file, data string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = os.WriteFile(file, []byte(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
