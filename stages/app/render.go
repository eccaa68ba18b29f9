// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
)

// RenderResult is the rendered manifests of sources, or those of an application.
type RenderResult struct {
	Files []RenderedFile `json:"files"` // sorted by name
	Nodes []NodeResult   `json:"nodes"` // that ran
}

// RenderedFile is a file of manifests.
type RenderedFile struct {
	Name string `json:"name"`
	Data Text   `json:"data"`
}

// Text is a string in JSON.
type Text []byte

// MarshalText implements [encoding.TextMarshaler].
func (t Text) MarshalText() ([]byte, error) { return t, nil }

// textPiece is how much of a text is encoded at once, in bytes.
const textPiece = 64 << 10

// writeJSON writes what json.Marshal would, piece by piece.
func (t Text) writeJSON(w io.Writer) error {
	if _, err := io.WriteString(w, `"`); err != nil {
		return err
	}
	for len(t) > 0 {
		n := min(textPiece, len(t))
		for i := 1; i < utf8.UTFMax && n < len(t) && !utf8.RuneStart(t[n]); i++ {
			n-- // not within a character
		}
		data, err := engine.MarshalJSON(t[:n])
		if err == nil {
			_, err = w.Write(data[1 : len(data)-1])
		}
		if err != nil {
			return err
		}
		t = t[n:]
	}
	_, err := io.WriteString(w, `"`)
	return err
}

// Render renders the sources without asking registries. Files without Kubernetes objects are
// left out, as in the artifact.
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
			if len(o.Environments) == 1 { // named as pull names them
				f.Name = strings.TrimPrefix(f.Name, o.Environments[0]+"/")
			}
			result.Files = append(result.Files, RenderedFile{Name: f.Name, Data: f.Data})
			kept = append(kept, f)
		}
	}
	if len(kept) == 0 {
		return nil, advice.Add(errors.New("the sources render to no Kubernetes object"), advice.SeeSkipped)
	}
	if o.Out != "" {
		if err := artifact.Extract(ctx, kept, o.Out, o.Force); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// WriteJSON writes the result as [engine.MarshalJSON] encodes it, with only a piece of it in
// memory. Each write ends with a complete character.
func (r *RenderResult) WriteJSON(w io.Writer) error {
	nodes, err := engine.MarshalJSON(r.Nodes)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, `{"files":[`); err != nil {
		return err
	}
	for i, f := range r.Files {
		name, err := engine.MarshalJSON(f.Name)
		if err != nil {
			return err
		}
		comma := ","
		if i == 0 {
			comma = ""
		}
		if _, err := fmt.Fprintf(w, `%s{"name":%s,"data":`, comma, name); err != nil {
			return err
		}
		if err := f.Data.writeJSON(w); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "}"); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(w, `],"nodes":%s}`, nodes)
	return err
}

// WriteStream writes the files as one YAML stream, which begins with Namespaces and
// CustomResourceDefinitions.
func (r *RenderResult) WriteStream(w io.Writer) error {
	all := make([]files.File, len(r.Files))
	for i, f := range r.Files {
		all[i] = files.File{Name: f.Name, Data: f.Data}
	}
	return writeStream(w, all)
}
