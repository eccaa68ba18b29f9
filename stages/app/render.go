// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// RenderResult holds the manifests that sources render to, or those of an application.
type RenderResult struct {
	Files []RenderedFile `json:"files"` // sorted by name
	Nodes []NodeResult   `json:"nodes"` // the nodes that ran
}

// RenderedFile is a file of manifests.
type RenderedFile struct {
	Name string `json:"name"`
	Data Text   `json:"data"`
}

// Text is bytes that JSON encodes as a string.
type Text []byte

// MarshalText implements [encoding.TextMarshaler].
func (t Text) MarshalText() ([]byte, error) { return t, nil }

// Render renders the sources without asking registries. Like the artifact, the result leaves out
// files without Kubernetes objects.
func Render(ctx context.Context, o RenderOptions) (*RenderResult, error) {
	p, err := o.prepare(ctx)
	if err != nil {
		return nil, err
	}
	run, err := o.run(ctx, p, "scan")
	if err != nil {
		return nil, err
	}
	var report images.Report
	if err := run.read(ctx, references.into(&report)); err != nil {
		return nil, err
	}
	all, err := run.manifests(ctx, scannedFiles)
	if err != nil {
		return nil, err
	}
	holdsObjects := map[string]bool{}
	for _, object := range report.Objects {
		holdsObjects[object.File] = true
	}
	result := &RenderResult{Files: []RenderedFile{}, Nodes: run.nodes()}
	var kept []files.File
	for _, f := range all {
		if holdsObjects[f.Name] {
			if len(o.Environments) == 1 { // as pull names them
				f.Name = strings.TrimPrefix(f.Name, o.Environments[0]+"/")
			}
			result.Files = append(result.Files, RenderedFile{Name: f.Name, Data: f.Data})
			kept = append(kept, f)
		}
	}
	if len(kept) == 0 {
		return nil, advice.Add(errors.New("the sources do not render to any Kubernetes object"), advice.SeeSkipped)
	}
	if o.Out != "" {
		if err := artifact.Extract(ctx, kept, o.Out, o.Force); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// WriteJSON writes the result as [engine.MarshalJSON] encodes it, but holds only one file of it
// in memory. Each write ends with a complete character.
func (r *RenderResult) WriteJSON(w io.Writer) error {
	before := `{"files":[`
	for _, f := range r.Files {
		data, err := engine.MarshalJSON(f)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s%s", before, data)
		}
		if err != nil {
			return err
		}
		before = ","
	}
	nodes, err := engine.MarshalJSON(r.Nodes)
	if err == nil {
		_, err = fmt.Fprintf(w, `%s],"nodes":%s}`, strings.TrimSuffix(before, ","), nodes)
	}
	return err
}

// WriteStream writes the files as one YAML stream that begins with Namespaces and
// CustomResourceDefinitions.
func (r *RenderResult) WriteStream(w io.Writer) error {
	all := make([]files.File, len(r.Files))
	for i, f := range r.Files {
		all[i] = files.File{Name: f.Name, Data: f.Data}
	}
	return writeStream(w, all)
}
