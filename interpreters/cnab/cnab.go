// SPDX-License-Identifier: Apache-2.0

// Package cnab renders Cloud Native Application Bundles: it puts a bundle.json into a ConfigMap,
// byte for byte. So the bundle, including its parameters and credentials, becomes content of the
// application, and its images and invocation images are found as in any other ConfigMap. Nothing
// is executed.
package cnab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/plugins/interpreter"
)

const (
	fileName = "bundle.json"    // the file name of a bundle, and its key in the ConfigMap
	output   = "configmap.yaml" // the rendered file
	// maxConfigMap is the maximum size of the data in a ConfigMap: MaxSecretSize of Kubernetes.
	maxConfigMap = 1 << 20
	maxName      = 253 // maximum length of an object's name
)

// Interpreter renders CNAB bundles. The zero value is ready to use.
type Interpreter struct{}

// New returns the interpreter.
func New() *Interpreter { return &Interpreter{} }

// Describe implements interpreter.Interpreter.
func (*Interpreter) Describe(context.Context) (interpreter.Description, error) {
	return interpreter.Description{
		Name:    "cnab",
		Version: "1",
		Help:    "CNAB bundles, as a ConfigMap",
		Markers: []interpreter.Marker{{Name: fileName}},
		Options: json.RawMessage(`{"type":"object","additionalProperties":false}`),
	}, nil
}

// Inputs implements interpreter.Interpreter. The only input is the bundle.
func (*Interpreter) Inputs(_ context.Context, req *interpreter.InputsRequest) (*interpreter.InputsResponse, error) {
	name, err := bundleFile(req.Root, req.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return &interpreter.InputsResponse{Diagnostics: problem(req.Path, "no such file or folder", "")}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	return &interpreter.InputsResponse{Exact: true, Paths: []string{name}}, nil
}

// bundleFile returns the path of the bundle: source itself or, if that is a folder, the
// bundle.json in it.
func bundleFile(root, source string) (string, error) {
	info, err := os.Stat(filepath.Join(root, filepath.FromSlash(source)))
	if err == nil && info.IsDir() {
		source = path.Join(source, fileName)
	}
	return source, err
}

// Render implements interpreter.Interpreter.
func (*Interpreter) Render(_ context.Context, req *interpreter.RenderRequest) (*interpreter.RenderResponse, error) {
	name, err := bundleFile(req.Source, req.Path)
	var data []byte
	if err == nil {
		data, err = os.ReadFile(filepath.Join(req.Source, filepath.FromSlash(name)))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &interpreter.RenderResponse{Diagnostics: problem(req.Path, "no bundle.json here", "")}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	b, diagnostics := read(name, data)
	if len(diagnostics) > 0 {
		return &interpreter.RenderResponse{Diagnostics: diagnostics}, nil
	}
	manifest, err := configMap(objectName(b.Name), string(data))
	if err != nil {
		return nil, err
	}
	resp := &interpreter.RenderResponse{Files: []interpreter.File{{Path: output, Data: manifest}}}
	if len(data) > maxConfigMap {
		resp.Diagnostics = []interpreter.Diagnostic{{
			Severity: interpreter.Warning, File: name,
			Summary: fmt.Sprintf("the bundle has %d bytes; Kubernetes limits a ConfigMap to %d", len(data), maxConfigMap),
		}}
	}
	return resp, nil
}

// bundle holds the fields of a bundle that are checked.
type bundle struct {
	Name             string           `json:"name"`
	InvocationImages []image          `json:"invocationImages"`
	Images           map[string]image `json:"images"`
}

type image struct {
	Image string `json:"image"`
	Type  string `json:"imageType"`
}

// read parses and checks a bundle.
func read(name string, data []byte) (b bundle, problems []interpreter.Diagnostic) {
	if !utf8.Valid(data) {
		return b, problem(name, "the bundle is not UTF-8", "")
	}
	if err := json.Unmarshal(data, &b); err != nil {
		d := problem(name, "the bundle cannot be read", err.Error())
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			d[0].Line = 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
		}
		return b, d
	}
	if len(b.InvocationImages) == 0 {
		return b, problem(name, "the bundle has no invocation image", "is it a CNAB bundle?")
	}
	check := func(what string, i image) {
		switch {
		case i.Type != "" && i.Type != "docker" && i.Type != "oci":
			problems = append(problems, problem(name, fmt.Sprintf("%s has type %q; want docker or oci", what, i.Type), "")...)
		case i.Image == "":
			problems = append(problems, problem(name, what+" names no image", "")...)
		}
	}
	for n, i := range b.InvocationImages {
		check(fmt.Sprintf("invocation image %d", n+1), i)
	}
	for component, i := range b.Images {
		check("image "+component, i)
	}
	slices.SortFunc(problems, func(a, b interpreter.Diagnostic) int { return strings.Compare(a.Summary, b.Summary) })
	return b, problems
}

// configMap returns a ConfigMap with the bundle as a YAML literal block, which people can
// read, or as a quoted string if a block cannot represent it.
func configMap(name, data string) ([]byte, error) {
	value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: data, Style: yaml.LiteralStyle}
	object := struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
		Metadata   struct {
			Name string `yaml:"name"`
		} `yaml:"metadata"`
		Data map[string]*yaml.Node `yaml:"data"`
	}{APIVersion: "v1", Kind: "ConfigMap", Data: map[string]*yaml.Node{fileName: value}}
	object.Metadata.Name = name
	for {
		var buf bytes.Buffer
		enc := yaml.NewEncoder(&buf)
		enc.SetIndent(2)
		if err := errors.Join(enc.Encode(object), enc.Close()); err != nil {
			return nil, fmt.Errorf("write ConfigMap: %w", err)
		}
		var back struct{ Data map[string]string }
		if err := yaml.Unmarshal(buf.Bytes(), &back); err == nil && back.Data[fileName] == data {
			return buf.Bytes(), nil
		}
		if value.Style == yaml.DoubleQuotedStyle {
			return nil, errors.New("write ConfigMap: YAML cannot represent the bundle")
		}
		value.Style = yaml.DoubleQuotedStyle
	}
}

// objectName turns the name of a bundle into a valid name for an object.
func objectName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	var labels []string
	for label := range strings.SplitSeq(name[:min(len(name), maxName)], ".") {
		if label = strings.Trim(label, "-"); label != "" {
			labels = append(labels, label)
		}
	}
	if labels == nil {
		return "bundle"
	}
	return strings.Join(labels, ".")
}

func problem(file, summary, detail string) []interpreter.Diagnostic {
	return []interpreter.Diagnostic{{Severity: interpreter.Error, Summary: summary, Detail: detail, File: file}}
}

var _ interpreter.Interpreter = (*Interpreter)(nil)
