// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/rendering"
)

// fetching is an interpreter that fetched one URI twice.
type fetching struct{}

func (fetching) Find(_ context.Context, name string) (rendering.Interpreter, error) {
	if name != "fetching" {
		return nil, &host.NotFoundError{Name: name}
	}
	return fetching{}, nil
}

func (fetching) List(context.Context) ([]rendering.Interpreter, error) {
	return []rendering.Interpreter{fetching{}}, nil
}

func (fetching) Name() string { return "fetching" }

func (fetching) Checksum(context.Context) (digest.Digest, error) {
	return digest.FromString("fetching"), nil
}

func (fetching) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{Name: "fetching", Version: "1", Help: "fetches"}, nil
}

func (fetching) Inputs(context.Context, *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return &interpreter.InputsResponse{}, nil
}

func (fetching) Render(context.Context, *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	return &interpreter.RenderResponse{
		Files: []interpreter.File{{Path: "a.yaml", Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")}},
		Materials: []interpreter.Material{
			{URI: "https://example.com/chart.tgz", Digest: "sha256:aa"}, {URI: "https://example.com/chart.tgz", Digest: "sha256:bb"},
		},
	}, nil
}

// A lock has one digest for a URI: with the wrong one, every locked run would fail.
func TestMaterialWithTwoDigestsIsNotLocked(t *testing.T) {
	p := newPlace()
	defer p.close()
	p.env.Interpreters = fetching{}
	dir := t.TempDir()
	pipeline := filepath.Join(dir, app.PipelineFile)
	text := "apiVersion: tape/v1\nkind: Pipeline\nsources: [{path: src, interpreter: fetching}]\n"
	if err := os.Mkdir(filepath.Join(dir, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string]string{pipeline: text, filepath.Join(dir, "src", "a.txt"): "a"} {
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := app.Package(t.Context(), app.PackageOptions{
		Options:    app.Options{Environment: p.env, Pipeline: pipeline, Update: "all"},
		Repository: p.repository, Save: filepath.Join(t.TempDir(), "a.tar"),
	})
	const want = "https://example.com/chart.tgz was fetched with two digests, sha256:aa and sha256:bb"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "tape.lock")); err == nil {
		t.Error("a lock was written")
	}
}
