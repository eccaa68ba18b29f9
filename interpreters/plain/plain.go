// SPDX-License-Identifier: Apache-2.0

// Package plain is the interpreter of manifests that need none: the YAML and
// JSON files of a folder, as they are, or one such file. It claims no marker;
// tape takes it where nothing else claims a source.
//
// It tells files by their ending alone (.yaml, .yml and .json, in any case):
// what in them is no Kubernetes object is found, and named, later.
package plain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Interpreter is plain. Its zero value is ready.
type Interpreter struct{}

// New makes the interpreter.
func New() *Interpreter { return &Interpreter{} }

// Describe implements interpreter.Interpreter.
func (*Interpreter) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name:    "plain",
		Version: "1",
		Help:    "Kubernetes manifests in YAML and JSON, as they are",
		Options: json.RawMessage(`{"type":"object","additionalProperties":false}`),
	}, nil
}

// Inputs implements interpreter.Interpreter: the source is all there is.
func (*Interpreter) Inputs(_ context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return &interpreter.InputsResponse{Paths: []string{req.Path}}, nil
}

// Render implements interpreter.Interpreter: file names are relative to the
// source, or the name of the source where that is a file.
func (*Interpreter) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	root, err := os.OpenRoot(req.Source)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	defer root.Close()
	source := root.FS()
	info, err := fs.Stat(source, req.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return problem(req.Path, "no such file or folder"), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	if !info.IsDir() {
		data, err := fs.ReadFile(source, req.Path)
		if err != nil {
			return nil, fmt.Errorf("read source: %w", err)
		}
		return &interpreter.RenderResponse{Files: []interpreter.File{{Path: path.Base(req.Path), Data: data}}}, nil
	}

	var files []interpreter.File
	err = fs.WalkDir(source, req.Path, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case !d.Type().IsRegular() || !isManifest(name):
			return nil
		}
		data, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(filepath.FromSlash(req.Path), filepath.FromSlash(name))
		if err != nil {
			return err
		}
		files = append(files, interpreter.File{Path: filepath.ToSlash(below), Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	if len(files) == 0 {
		return problem(req.Path, "no manifests here: no file ends in .yaml, .yml or .json"), nil
	}
	return &interpreter.RenderResponse{Files: files}, nil
}

// isManifest says whether a file may hold manifests.
func isManifest(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func problem(file, summary string) *interpreter.RenderResponse {
	return &interpreter.RenderResponse{Diagnostics: []interpreter.Diagnostic{
		{Severity: interpreter.Error, Summary: summary, File: file},
	}}
}

var _ interpreter.Interpreter = (*Interpreter)(nil)
