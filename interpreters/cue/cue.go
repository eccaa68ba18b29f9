// SPDX-License-Identifier: Apache-2.0

// Package cue renders CUE: packages and modules whose values are Kubernetes objects.
//
// The output is every object in the value of a package: the value itself, or values in its lists
// and structs at any depth, except in definitions and hidden fields. With an expression, the
// output is the objects in the value of that expression, which may also be a string with a YAML
// stream. A Timoni module is rendered from its timoni.apply, with values from files merged over
// its own, and a Timoni bundle from its modules.
//
// If a package itself contains no objects, its _tool.cue files are searched as data: what a
// command would print or pass on is used if it is a stream of objects. Commands are never
// run.
//
// Modules come from cue.mod, or from the registries in $CUE_REGISTRY. What is fetched from
// there is a material.
package cue

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Version is the version of the CUE packages that render.
const Version = "0.17.1"

//go:embed options.schema.json
var optionsSchema []byte

// Interpreter renders CUE. It is stateless.
type Interpreter struct{}

// New returns the interpreter.
func New() *Interpreter { return &Interpreter{} }

// Describe implements interpreter.Interpreter.
func (*Interpreter) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name:    "cue",
		Version: Version,
		Help:    "CUE packages and modules, including those of Timoni",
		Markers: []interpreter.Marker{{Name: "cue.mod/"}, {Name: "cue.mod/", Above: true, With: "*.cue"}, {Name: "*.cue"}},
		Options: bytes.Clone(optionsSchema),
		Environment: []string{
			"CUE_REGISTRY", "CUE_CONFIG_DIR", "DOCKER_CONFIG", "XDG_CONFIG_HOME",
		},
		Network: true,
	}, nil
}

// options are the options in the schema.
type options struct {
	Packages   []string `json:"packages"`
	Expression string   `json:"expression"`
	Tags       []string `json:"tags"`
	Values     []string `json:"values"`
}

// Inputs implements interpreter.Interpreter. The inputs are the files of the packages and
// of their imports inside the module.
func (*Interpreter) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return interpreter.AnswerInputs(ctx, func() (*interpreter.InputsResponse, error) {
		s, err := locate(req.Root, req.Path, req.Options)
		if err != nil {
			return nil, err
		}
		paths, err := interpreter.Await(ctx, s.inputs)
		return &interpreter.InputsResponse{Paths: paths, Exact: true}, err
	})
}

// Render implements interpreter.Interpreter by evaluating the packages.
func (*Interpreter) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	return interpreter.AnswerRender(ctx, func() (*interpreter.RenderResponse, error) {
		s, err := locate(req.Source, req.Path, req.Options)
		if err != nil {
			return nil, err
		}
		s.registry = newModules(ctx, req)
		return interpreter.Await(ctx, func() (*interpreter.RenderResponse, error) {
			defer s.registry.close()
			files, remarks, err := s.render()
			return &interpreter.RenderResponse{Files: files, Diagnostics: remarks, Materials: s.registry.Materials()}, err
		})
	})
}

// source is a folder or file with CUE, and the tree that contains it.
type source struct {
	options
	root   string // absolute path of the tree
	module string // absolute path of the top of the module, or dir if there is no module
	dir    string // absolute path of the folder of the source
	// packages are the packages to load, as arguments of the cue command.
	packages []string
	registry *modules
	// given are the values that a bundle sets for a Timoni module; nil if there are none.
	given any
	// unset are the tags of the packages that need a value but have none.
	unset []string
}

// locate finds the module of a source.
func locate(root, name string, given json.RawMessage) (*source, error) {
	var o options
	if err := interpreter.DecodeOptions(given, &o); err != nil {
		return nil, err
	}
	abs := filepath.Join(root, filepath.FromSlash(name))
	s := &source{options: o, root: root, dir: abs, packages: o.Packages}
	folder, err := isFolder(abs)
	if err != nil {
		return nil, problem("open %s: %v", name, regular.Cause(err))
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
			return nil, problem("there is no CUE package in %s itself: name others with 'packages', such as ./... for all below", name)
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
