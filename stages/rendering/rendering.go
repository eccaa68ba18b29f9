// SPDX-License-Identifier: Apache-2.0

// Package rendering defines the documents that the source, render and attest stages
// exchange about how a source becomes manifests, and the interface through which
// source and render use interpreters.
package rendering

import (
	"context"
	"encoding/json"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/plugins/interpreter"
)

// Media types of the documents.
const (
	MediaTypeRequest   = "application/vnd.tape.request.v1+json"   // Request: source → render
	MediaTypeRendering = "application/vnd.tape.rendering.v1+json" // Rendering: render → attest
)

// Interpreter is an installed interpreter. If it runs as a process, the implementation of
// Interpreters starts and stops that process.
type Interpreter interface {
	interpreter.Interpreter
	Name() string
	// Checksum identifies the program, and may read the whole executable. After Checksum,
	// Describe always returns the description of this program. Before, it may return one that was
	// recorded for another program.
	Checksum(ctx context.Context) (digest.Digest, error)
}

// Interpreters finds interpreters.
type Interpreters interface {
	// Find returns the interpreter with the given name. The error lists the places that were
	// searched.
	Find(ctx context.Context, name string) (Interpreter, error)
	// List returns all interpreters, sorted by name. The error names interpreters that must not
	// be used. It may be returned together with a list.
	List(ctx context.Context) ([]Interpreter, error)
}

// Request describes a source to render. It contains references instead of secrets, like
// the configuration of the source.
type Request struct {
	// Source is the name of the source in the pipeline.
	Source string `json:"source"`
	// Path is the path of the source in the tar of files: "." for all of it, or "" if there is a
	// Reference.
	Path string `json:"path,omitempty"`
	// Reference is a remote source: oci://…, https://…. If it contains credentials,
	// it is a secret.
	Reference   string      `json:"reference,omitempty"`
	Interpreter Interpreted `json:"interpreter"`
	// Checksum is the checksum of the interpreter.
	Checksum digest.Digest `json:"checksum"`
	// Options are valid according to the schema of the interpreter. Paths in them are relative to
	// the root of the tar.
	Options json.RawMessage `json:"options"`
	// Secrets is a digest of the secrets that Reference and Options refer to, because the result
	// depends on them; "" if there are none.
	Secrets digest.Digest `json:"secrets,omitempty"`
	// Shown are the options except for those that are writeOnly in the schema.
	Shown json.RawMessage `json:"shown"`
	// Environment is a digest of the environment variables that the interpreter asks
	// for, because the result may depend on them.
	Environment digest.Digest `json:"environment,omitempty"`
	// Diagnostics are what was found while inspecting the source, without errors.
	Diagnostics []interpreter.Diagnostic `json:"diagnostics,omitempty"`
}

// Conceal sets Reference and Options, in which secrets are replaced by the references to them in
// the node of the task.
func (r *Request) Conceal(ctx context.Context, t *engine.Task, reference string, options json.RawMessage) error {
	r.Reference, r.Options = reference, options
	open, told, err := r.replace(ctx, t.Conceal)
	if string(told) != string(open) {
		r.Secrets = digest.FromBytes(open)
	}
	return err
}

// Reveal replaces the references to secrets by the secrets, which must be available where the
// task runs.
func (r *Request) Reveal(ctx context.Context, t *engine.Task) error {
	_, _, err := r.replace(ctx, t.Reveal)
	return err
}

// replace applies by to the part of a request that may contain secrets, and returns that part
// before and after.
func (r *Request) replace(ctx context.Context, by func(context.Context, json.RawMessage) (json.RawMessage, error)) (before, after json.RawMessage, err error) {
	type part struct {
		Reference string          `json:"reference"`
		Options   json.RawMessage `json:"options"`
	}
	if before, err = engine.MarshalJSON(part{r.Reference, r.Options}); err != nil {
		return nil, nil, err
	}
	if after, err = by(ctx, before); err != nil {
		return nil, nil, err
	}
	var out part
	err = json.Unmarshal(after, &out)
	r.Reference, r.Options = out.Reference, out.Options
	return before, after, err
}

// Interpreted names the interpreter of a source.
type Interpreted struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Rendering describes how a source was rendered. It contains no secrets.
type Rendering struct {
	Source    string `json:"source"`
	Path      string `json:"path,omitempty"`      // the same as in Request
	Reference string `json:"reference,omitempty"` // without credentials
	// Folder is the folder of the manifests, which separates them from those of other sources; ""
	// is the top.
	Folder      string          `json:"folder,omitempty"`
	Interpreter Interpreted     `json:"interpreter"`
	Options     json.RawMessage `json:"options"`
	// Materials are the remote inputs that were fetched, sorted by URI and digest.
	Materials []interpreter.Material `json:"materials"`
	// Diagnostics are warnings and notes, in the order of the interpreter.
	Diagnostics []interpreter.Diagnostic `json:"diagnostics"`
	// Files are the rendered files, sorted by path.
	Files []File `json:"files"`
	// Checksum is the checksum of the interpreter on this machine. It is recorded in a lock but
	// not published, because it differs between platforms.
	Checksum digest.Digest `json:"checksum"`
}

// File is one rendered file.
type File struct {
	Path   string        `json:"path"` // in the manifests, with Folder
	Digest digest.Digest `json:"digest"`
	// Origin is the source file that this file was made from, named as in the tar of
	// files; "" if unknown. It is not published.
	Origin string `json:"origin,omitempty"`
	// Same reports that Origin has the same bytes, and therefore the same lines.
	Same bool `json:"same,omitempty"`
}

// OnDisk returns the path on disk of a file of a source. place is the path of the source on disk,
// path its path in the tar of files, and name the path of the file in the tar. The result is
// relative to the same folder as place.
func OnDisk(place, path, name string) string {
	rel, err := filepath.Rel(filepath.FromSlash(path), filepath.FromSlash(name))
	if err != nil { // cannot happen: paths in the tar are relative
		return name
	}
	return filepath.ToSlash(filepath.Join(place, rel))
}

// Preparer is implemented by an [Interpreter] whose process can be started while its checksum is
// computed. Prepare is for callers that accept any program with the name of the interpreter.
type Preparer interface {
	Prepare(ctx context.Context)
}

// FromMemory is implemented by an [Interpreter] in the process of tape that can render files that
// are not on disk. Source and Scratch of the request are empty.
type FromMemory interface {
	RenderFiles(ctx context.Context, req *interpreter.RenderRequest, source []interpreter.File) (*interpreter.RenderResponse, error)
}
