// SPDX-License-Identifier: Apache-2.0

// Package cue is the interpreter of CUE: packages and modules whose values are
// Kubernetes objects.
//
// What is rendered is every object that a package's value holds: the value
// itself, or what lies in its lists and structs at any depth, definitions and
// hidden fields aside. With an expression it is what that holds, a string with a
// YAML stream included. A module of Timoni is rendered from its timoni.apply, with
// the values of files over its own, and a bundle of Timoni from its modules.
//
// Where a package itself holds no objects its _tool.cue files are looked at, as
// data: what a command would print or pass on is taken if it is a stream of
// objects. No task of a command is ever run.
//
// Modules come from cue.mod, or from the registries that $CUE_REGISTRY names;
// what is fetched from there is a material.
package cue

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// Version is that of the CUE packages which render.
const Version = "0.17.1"

//go:embed options.schema.json
var optionsSchema []byte

// Interpreter renders CUE. It holds no state.
type Interpreter struct{}

// New returns the interpreter.
func New() *Interpreter { return &Interpreter{} }

// Describe says what the interpreter is.
func (*Interpreter) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name:    "cue",
		Version: Version,
		Help:    "CUE packages and modules, Timoni's among them",
		Markers: []interpreter.Marker{{Name: "cue.mod/"}, {Name: "cue.mod/", Above: true, With: "*.cue"}, {Name: "*.cue"}},
		Options: bytes.Clone(optionsSchema),
		Environment: []string{
			"CUE_REGISTRY", "CUE_CONFIG_DIR", "DOCKER_CONFIG", "XDG_CONFIG_HOME",
		},
		Network: true,
	}, nil
}

// options are those of the schema.
type options struct {
	Packages   []string `json:"packages"`
	Expression string   `json:"expression"`
	Tags       []string `json:"tags"`
	Values     []string `json:"values"`
}

func parseOptions(raw json.RawMessage) (options, error) {
	var o options
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &o); err != nil {
			return options{}, problem("options: %v", err)
		}
	}
	return o, nil
}

// Inputs names the files of the packages and of what they import, inside the
// module.
func (*Interpreter) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	resp, err := guard(ctx, func() (*interpreter.InputsResponse, error) {
		o, err := parseOptions(req.Options)
		if err != nil {
			return nil, err
		}
		s, err := locate(req.Root, req.Path, o)
		if err != nil {
			return nil, err
		}
		paths, err := s.inputs()
		return &interpreter.InputsResponse{Paths: paths, Exact: true}, err
	})
	if found, ok := errors.AsType[problems](err); ok {
		return &interpreter.InputsResponse{Diagnostics: found}, nil
	}
	return resp, err
}

// Render evaluates the packages.
func (*Interpreter) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	resp, err := guard(ctx, func() (*interpreter.RenderResponse, error) {
		o, err := parseOptions(req.Options)
		if err != nil {
			return nil, err
		}
		s, err := locate(req.Source, req.Path, o)
		if err != nil {
			return nil, err
		}
		m := newModules(ctx, req)
		defer m.close()
		s.registry = m
		files, remarks, err := s.render()
		return &interpreter.RenderResponse{Files: files, Diagnostics: remarks, Materials: m.materials()}, err
	})
	if found, ok := errors.AsType[problems](err); ok {
		return &interpreter.RenderResponse{Diagnostics: found}, nil
	}
	return resp, err
}

// guard calls f and returns when it does, or when ctx ends: an evaluation cannot
// be stopped, and dies with the process. A panic of CUE's is a problem of the
// source that led to it.
func guard[T any](ctx context.Context, f func() (*T, error)) (*T, error) {
	type result struct {
		out *T
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if v := recover(); v != nil {
				r = result{err: problem("CUE does not survive this source: %v", v)}
			}
			done <- r
		}()
		r.out, r.err = f()
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case r := <-done:
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if r.err != nil {
			return nil, r.err
		}
		return r.out, nil
	}
}

// source is a folder or file with CUE, in the tree that holds it.
type source struct {
	options
	root   string // of the tree, absolute
	module string // top of the module, absolute; dir where there is none
	dir    string // the source's folder, absolute
	// packages to load, as the cue command takes them.
	packages []string
	registry *modules
	// given are values of a Timoni module that a bundle has; nil for none.
	given any
	// unset are the tags that the packages have and nobody sets.
	unset []string
}

// locate finds the module that a source belongs to.
func locate(root, name string, o options) (*source, error) {
	abs := filepath.Join(root, filepath.FromSlash(name))
	s := &source{options: o, root: root, dir: abs, packages: o.Packages}
	folder, err := isFolder(abs)
	if err != nil {
		return nil, problem("open %s: %v", name, cause(err))
	}
	if !folder {
		s.dir = filepath.Dir(abs)
		if len(s.packages) == 0 {
			s.packages = []string{"./" + path.Base(name)}
		}
	}
	if len(s.packages) == 0 {
		s.packages = []string{"."}
		if found, err := fs.Glob(os.DirFS(s.dir), "*"+cueExt); err == nil && len(found) == 0 {
			return nil, problem("there is no CUE package in %s itself: 'packages' names others, such as ./... for all below", name)
		}
	}
	s.module = s.dir
	for dir := s.dir; ; dir = filepath.Dir(dir) {
		if folder, err := isFolder(filepath.Join(dir, moduleDir)); err == nil && folder {
			s.module = dir
			break
		}
		if dir == root || filepath.Dir(dir) == dir {
			break
		}
	}
	return s, nil
}

var _ interpreter.Interpreter = (*Interpreter)(nil)
