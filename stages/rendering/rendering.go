// SPDX-License-Identifier: Apache-2.0

// Package rendering holds what the stages source, render and attest exchange
// about how a source becomes manifests, and what source and render need to know
// of interpreters.
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

// Interpreter is one that was found. A process of it, where it has one, is the
// affair of whoever found it.
type Interpreter interface {
	interpreter.Interpreter
	Name() string
	// Checksum identifies the very program; it may have to be read for that. From
	// then on Describe always answers the same. Before, the answer may be one that
	// was written down of another program.
	Checksum(ctx context.Context) (digest.Digest, error)
}

// Interpreters finds interpreters.
type Interpreters interface {
	// Find is by name; the error says where it was looked for.
	Find(ctx context.Context, name string) (Interpreter, error)
	// List has every interpreter there is, by name. What must not be used is in
	// the error, which may come with interpreters.
	List(ctx context.Context) ([]Interpreter, error)
}

// Request is what render needs to know of a source. It holds references in the place
// of secrets, as the configuration of the source does.
type Request struct {
	// Source is the name of the source in the pipeline.
	Source string `json:"source"`
	// Path of the source in the tar of files, "." for all of it; "" where there
	// is a Reference.
	Path string `json:"path,omitempty"`
	// Reference is a remote source: oci://…, https://…; one with credentials is a
	// secret.
	Reference   string      `json:"reference,omitempty"`
	Interpreter Interpreted `json:"interpreter"`
	// Checksum of the interpreter.
	Checksum digest.Digest `json:"checksum"`
	// Options are valid against the interpreter's schema; paths in them are in
	// the tar.
	Options json.RawMessage `json:"options"`
	// Secrets is a digest of what the references in Reference and Options stand for:
	// what is rendered depends on that. "" where there are none.
	Secrets digest.Digest `json:"secrets,omitempty"`
	// Shown are the options without those that the schema calls writeOnly.
	Shown json.RawMessage `json:"shown"`
	// Environment is a digest of the variables that the interpreter asks for:
	// what it renders may depend on them.
	Environment digest.Digest `json:"environment,omitempty"`
	// Diagnostics of looking at the source, none of them errors.
	Diagnostics []interpreter.Diagnostic `json:"diagnostics,omitempty"`
}

// Conceal sets Reference and Options, with the references of the task's node in the
// place of secrets.
func (r *Request) Conceal(ctx context.Context, t *engine.Task, reference string, options json.RawMessage) error {
	open, err := engine.MarshalJSON(requested{reference, options})
	if err != nil {
		return err
	}
	told, err := t.Conceal(ctx, open)
	if err != nil {
		return err
	}
	if string(told) != string(open) {
		r.Secrets = digest.FromBytes(open)
	}
	var out requested
	err = json.Unmarshal(told, &out)
	r.Reference, r.Options = out.Reference, out.Options
	return err
}

// Reveal replaces the references by what they stand for where the task runs.
func (r *Request) Reveal(ctx context.Context, t *engine.Task) error {
	told, err := engine.MarshalJSON(requested{r.Reference, r.Options})
	if err != nil {
		return err
	}
	open, err := t.Reveal(ctx, told)
	if err != nil {
		return err
	}
	var out requested
	if err := json.Unmarshal(open, &out); err != nil {
		return err
	}
	r.Reference, r.Options = out.Reference, out.Options
	return nil
}

// requested is the part of a request that may hold secrets.
type requested struct {
	Reference string          `json:"reference"`
	Options   json.RawMessage `json:"options"`
}

// Interpreted says what interpreted a source.
type Interpreted struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Rendering is how a source became manifests. It holds no secret.
type Rendering struct {
	Source    string `json:"source"`
	Path      string `json:"path,omitempty"`      // as in Request
	Reference string `json:"reference,omitempty"` // without credentials
	// Folder is where the manifests stand among those of other sources; "" for
	// the top.
	Folder      string          `json:"folder,omitempty"`
	Interpreter Interpreted     `json:"interpreter"`
	Options     json.RawMessage `json:"options"`
	// Materials are the remote things that were fetched, sorted by URI and digest.
	Materials []interpreter.Material `json:"materials"`
	// Diagnostics are warnings and remarks, in the interpreter's order.
	Diagnostics []interpreter.Diagnostic `json:"diagnostics"`
	// Files that were rendered, sorted by path.
	Files []File `json:"files"`
	// Checksum of the interpreter on this machine. It differs from platform to
	// platform: it belongs in a lock, not in what is published.
	Checksum digest.Digest `json:"checksum"`
}

// File is one rendered file.
type File struct {
	Path   string        `json:"path"` // in the manifests, with Folder
	Digest digest.Digest `json:"digest"`
	// Origin is the file of the source that this one was made of, named as in the
	// tar of files; "" where that is unknown. It is not published.
	Origin string `json:"origin,omitempty"`
	// Same reports that Origin has the very same bytes, and so the same lines.
	Same bool `json:"same,omitempty"`
}

// OnDisk is where a file of a source lies, as seen from where place is: place is the
// source, path its name in the tar of files, and name that of the file.
func OnDisk(place, path, name string) string {
	rel, err := filepath.Rel(filepath.FromSlash(path), filepath.FromSlash(name))
	if err != nil { // nothing in a tar is absolute
		return name
	}
	return filepath.ToSlash(filepath.Join(place, rel))
}

// FromMemory is an [Interpreter] in tape's own process that can render files
// which are nowhere on disk. Source and Scratch of the request are empty.
type FromMemory interface {
	RenderFiles(ctx context.Context, req *interpreter.RenderRequest, source []interpreter.File) (*interpreter.RenderResponse, error)
}
