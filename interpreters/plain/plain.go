// SPDX-License-Identifier: Apache-2.0

// Package plain passes on manifests that need no interpretation: the YAML and JSON files of
// a folder, or one such file. It has no markers; tape uses it for sources that no other
// interpreter claims.
//
// Files are selected by their extension alone (.yaml, .yml and .json, in any case). Content
// that is not a Kubernetes object is reported later.
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

// Interpreter passes on manifests. The zero value is ready to use.
type Interpreter struct{}

// New returns the interpreter.
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

// Inputs implements interpreter.Interpreter. The inputs are the manifests in the folder, and no
// other files. A symbolic link to a file counts as a file with the link's name; a link to a
// folder counts, unless that folder is in the source anyway. Dangling links, and absolute links
// to folders outside the root, which build tools leave behind, are skipped with a warning.
func (*Interpreter) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(req.Root, filepath.FromSlash(req.Path)))
	var info fs.FileInfo
	if err == nil {
		info, err = os.Stat(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &interpreter.InputsResponse{Diagnostics: problem(req.Path, "no such file or folder")}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	resp := &interpreter.InputsResponse{Exact: true}
	if !info.IsDir() {
		resp.Paths = []string{req.Path}
		return resp, nil
	}
	err = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err := enter(ctx, d, err); err != nil {
			return err
		}
		below, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		name := path.Join(req.Path, filepath.ToSlash(below))
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := filepath.EvalSymlinks(at)
			if err != nil {
				if isManifest(name) {
					resp.Diagnostics = append(resp.Diagnostics, leftOut(name, "leads nowhere"))
				}
				return nil
			}
			info, err := os.Stat(target)
			if err != nil {
				return err
			}
			text, err := os.Readlink(at)
			switch {
			case err != nil:
				return err
			case info.IsDir() && filepath.IsAbs(text) && apart(req.Root, target):
				resp.Diagnostics = append(resp.Diagnostics, leftOut(name, "leads to a folder elsewhere"))
			case info.IsDir() && apart(dir, target), info.Mode().IsRegular() && isManifest(name):
				resp.Paths = append(resp.Paths, name)
			case !info.IsDir() && isManifest(name):
				resp.Diagnostics = append(resp.Diagnostics, leftOut(name, "does not lead to a regular file"))
			}
		case d.Type().IsRegular() && isManifest(name):
			resp.Paths = append(resp.Paths, name)
		case !d.IsDir() && isManifest(name):
			resp.Diagnostics = append(resp.Diagnostics, interpreter.Diagnostic{
				Severity: interpreter.Warning, Summary: "skipped, because it is not a regular file", File: name,
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	if len(resp.Paths) == 0 {
		resp.Diagnostics = append(resp.Diagnostics, problem(req.Path, noManifests)...)
	}
	return resp, nil
}

// enter ends a walk that failed or was canceled, and skips the .git folder.
func enter(ctx context.Context, d fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case d.IsDir() && d.Name() == gitDir:
		return fs.SkipDir
	}
	return nil
}

func leftOut(file, why string) interpreter.Diagnostic {
	return interpreter.Diagnostic{Severity: interpreter.Warning, Summary: "skipped a symbolic link that " + why, File: file}
}

const (
	gitDir      = ".git"
	noManifests = "no manifests: no file has the extension .yaml, .yml or .json"
)

// apart reports whether neither folder contains the other.
func apart(a, b string) bool {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		if rel, err := filepath.Rel(pair[0], pair[1]); err != nil || filepath.IsLocal(rel) {
			return false
		}
	}
	return true
}

// Render implements interpreter.Interpreter.
func (i *Interpreter) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	root, err := os.OpenRoot(req.Source)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	defer func() { _ = root.Close() }()
	if _, err := root.Stat(filepath.FromSlash(req.Path)); errors.Is(err, fs.ErrNotExist) {
		return &interpreter.RenderResponse{Diagnostics: problem(req.Path, "no such file or folder")}, nil
	}
	var source []interpreter.File
	err = fs.WalkDir(root.FS(), req.Path, func(name string, d fs.DirEntry, err error) error {
		if err := enter(ctx, d, err); err != nil || !d.Type().IsRegular() || name != req.Path && !isManifest(name) {
			return err
		}
		data, err := fs.ReadFile(root.FS(), name)
		if err != nil {
			return err
		}
		source = append(source, interpreter.File{Path: name, Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	return i.RenderFiles(ctx, req, source)
}

// RenderFiles is like Render, for a source in memory: files by their paths below what would be
// Source. Paths in the response are relative to the source. If the source is a file, the path is
// its name.
func (*Interpreter) RenderFiles(_ context.Context, req *interpreter.RenderRequest, source []interpreter.File) (*interpreter.RenderResponse, error) {
	resp := &interpreter.RenderResponse{}
	for _, f := range source {
		below, inside := f.Path, true
		switch {
		case f.Path == req.Path:
			below = path.Base(f.Path)
		case req.Path != ".":
			below, inside = strings.CutPrefix(f.Path, req.Path+"/")
		}
		if inside && (f.Path == req.Path || isManifest(f.Path)) {
			resp.Files = append(resp.Files, interpreter.File{Path: below, Origin: f.Path, Data: f.Data})
		}
	}
	if len(resp.Files) == 0 {
		return &interpreter.RenderResponse{Diagnostics: problem(req.Path, noManifests)}, nil
	}
	return resp, nil
}

// isManifest reports whether a file has the extension of a manifest.
func isManifest(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func problem(file, summary string) []interpreter.Diagnostic {
	return []interpreter.Diagnostic{{Severity: interpreter.Error, Summary: summary, File: file}}
}

var _ interpreter.Interpreter = (*Interpreter)(nil)
