// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	jsonnet "github.com/google/go-jsonnet"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// entry is the file that is evaluated if the source is a folder.
const entry = "main.jsonnet"

const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "extVar": {
      "description": "external variables, strings",
      "type": "object",
      "additionalProperties": {"type": "string"}
    },
    "tla": {
      "description": "top-level arguments, strings",
      "type": "object",
      "additionalProperties": {"type": "string"}
    },
    "libraries": {
      "description": "folders searched for imports, the last first",
      "type": "array",
      "items": {"type": "string", "format": "path"}
    }
  }
}`

// Options are the options in the schema.
type Options struct {
	ExtVar    map[string]string `json:"extVar"`
	TLA       map[string]string `json:"tla"`
	Libraries []string          `json:"libraries"`
}

// Jsonnet evaluates a file, or main.jsonnet in a folder. A Kubernetes object or a list of
// objects becomes one file, manifests.json. In any other object, each field, an object or a
// list, becomes a file with the field's name (and .json if that has no extension).
type Jsonnet struct{}

// Describe implements [interpreter.Interpreter].
func (Jsonnet) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name:    "jsonnet",
		Version: strings.TrimPrefix(jsonnet.Version(), "v"),
		Help:    "evaluates Jsonnet",
		Markers: []interpreter.Marker{{Name: entry}},
		Options: json.RawMessage(schema),
	}, nil
}

// Inputs implements [interpreter.Interpreter]. The inputs are the file and its imports.
func (Jsonnet) Inputs(ctx context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	return interpreter.AnswerInputs(ctx, func() (*interpreter.InputsResponse, error) {
		s, err := open(req.Root, req.Path, req.Options)
		if err != nil {
			return nil, err
		}
		found, err := interpreter.Await(ctx, func() ([]string, error) { return s.vm.FindDependencies("", []string{s.file}) })
		if err != nil {
			return nil, s.problem(err)
		}
		resp := &interpreter.InputsResponse{Exact: true}
		for _, file := range append(found, s.file) {
			rel, err := filepath.Rel(s.root, file)
			if err != nil {
				return nil, err
			}
			resp.Paths = append(resp.Paths, filepath.ToSlash(rel))
		}
		slices.Sort(resp.Paths)
		return resp, nil
	})
}

// Render implements [interpreter.Interpreter].
func (Jsonnet) Render(ctx context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	return interpreter.AnswerRender(ctx, func() (*interpreter.RenderResponse, error) {
		s, err := open(req.Source, req.Path, req.Options)
		if err != nil {
			return nil, err
		}
		out, err := interpreter.Await(ctx, func() (string, error) { return s.vm.EvaluateFile(s.file) })
		if err != nil {
			return nil, s.problem(err)
		}
		files, err := manifests([]byte(out))
		if err != nil {
			return nil, s.problem(err)
		}
		return &interpreter.RenderResponse{Files: files}, nil
	})
}

// source is a file to evaluate.
type source struct {
	root, file string
	vm         *jsonnet.VM
}

func open(root, at string, options json.RawMessage) (*source, error) {
	// The evaluator reports real paths, so the root must be one too.
	if real, err := filepath.EvalSymlinks(root); err == nil {
		root = real
	}
	s := &source{root: root, file: filepath.Join(root, filepath.FromSlash(at)), vm: jsonnet.MakeVM()}
	var opts Options
	if err := interpreter.DecodeOptions(options, &opts); err != nil {
		return nil, err
	}
	info, err := os.Stat(s.file)
	if err != nil {
		return nil, s.problem(err)
	}
	if info.IsDir() {
		s.file = filepath.Join(s.file, entry)
	}
	importer := &jsonnet.FileImporter{}
	for _, dir := range opts.Libraries {
		importer.JPaths = append(importer.JPaths, filepath.Join(root, filepath.FromSlash(dir)))
	}
	s.vm.Importer(&inside{root: root, files: importer})
	for _, name := range slices.Sorted(maps.Keys(opts.ExtVar)) {
		s.vm.ExtVar(name, opts.ExtVar[name])
	}
	for _, name := range slices.Sorted(maps.Keys(opts.TLA)) {
		s.vm.TLAVar(name, opts.TLA[name])
	}
	return s, nil
}

// inside is an importer that only reads from the source. Jsonnet itself would import any
// file on the machine.
type inside struct {
	root  string
	files *jsonnet.FileImporter
}

func (i *inside) Import(from, imported string) (jsonnet.Contents, string, error) {
	contents, at, err := i.files.Import(from, imported)
	if err != nil {
		return contents, at, err
	}
	if rel, err := filepath.Rel(i.root, at); err != nil || !filepath.IsLocal(rel) {
		return jsonnet.Contents{}, "", fmt.Errorf("import %q leads outside the source", imported)
	}
	return contents, at, nil
}

// manifests converts the result of an evaluation to files.
func manifests(doc []byte) ([]interpreter.File, error) {
	var list []json.RawMessage
	if json.Unmarshal(doc, &list) == nil {
		return file("manifests.json", list)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(doc, &fields); err != nil {
		return nil, errors.New("evaluates to neither an object nor a list of objects")
	}
	if _, ok := fields["kind"]; ok {
		return file("manifests.json", []json.RawMessage{doc})
	}
	var files []interpreter.File
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !fs.ValidPath(name) || name == "." {
			return nil, fmt.Errorf("field %q is not a valid file name", name)
		}
		if json.Unmarshal(fields[name], &list) != nil {
			list = []json.RawMessage{fields[name]}
		}
		if path.Ext(name) == "" {
			name += ".json"
		}
		f, err := file(name, list)
		if err != nil {
			return nil, err
		}
		files = append(files, f...)
	}
	return files, nil
}

// file returns a file with objects: YAML documents or, if the file is JSON, a List.
func file(name string, objects []json.RawMessage) ([]interpreter.File, error) {
	for _, o := range objects {
		if !bytes.HasPrefix(bytes.TrimSpace(o), []byte("{")) {
			return nil, fmt.Errorf("%s contains %.40s, which is not an object", name, o)
		}
	}
	if path.Ext(name) == ".json" && len(objects) > 1 {
		list, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
		if err != nil {
			return nil, err
		}
		objects = []json.RawMessage{list}
	}
	var buf bytes.Buffer
	for n, o := range objects {
		if n > 0 {
			buf.WriteString("---\n")
		}
		if err := json.Indent(&buf, bytes.TrimSpace(o), "", "  "); err != nil {
			return nil, err
		}
		buf.WriteByte('\n')
	}
	return []interpreter.File{{Path: name, Data: buf.Bytes()}}, nil
}

// position matches go-jsonnet's positions: FILE:LINE:COLUMN-… or FILE:(LINE:COLUMN)-….
var position = regexp.MustCompile(`(?m)^\s*(?:RUNTIME ERROR: )?(\S.*?):\(?(\d+):(\d+)`)

// problem converts an error of the evaluator, whose first line is the summary.
func (s *source) problem(err error) error {
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), s.root+string(filepath.Separator), "")
	found := interpreter.Problem("", 0, "%s", strings.TrimPrefix(text, "RUNTIME ERROR: "))
	if m := position.FindStringSubmatch(text); m != nil {
		found[0].File = filepath.ToSlash(m[1])
		found[0].Line, _ = strconv.Atoi(m[2])
		found[0].Column, _ = strconv.Atoi(m[3])
	}
	return found
}
