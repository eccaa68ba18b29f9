// SPDX-License-Identifier: Apache-2.0

// Package interpreter defines the contract between tape and an interpreter: a program that
// turns a source (a folder of YAML, a Kustomize overlay, a Helm chart, a CUE module, or a
// format that a third party supports) into Kubernetes manifests.
//
// An author implements [Interpreter] and serves it with one line of package plugins/serve;
// tape finds the binary, starts it and calls it through plugins/host. This package imports
// only the standard library, so implementing or calling an interpreter does not compile
// gRPC.
//
// A mistake in the source (a failing template, an unknown field, a missing dependency) is a
// [Diagnostic] of severity [Error], never a Go error and never a panic. A Go error means
// that the interpreter itself failed.
package interpreter

import (
	"context"
	"encoding/json"
)

// Interpreter renders sources. Its methods may be called concurrently.
type Interpreter interface {
	// Describe returns the description of the interpreter. It is called before any other
	// method, reads no source, and always returns the same value.
	Describe(ctx context.Context) (Description, error)

	// Inputs returns every file and folder of the live tree that Render will read. tape
	// caches the answer, so it may depend only on the request, the contents of the files
	// that it names, the names of their siblings and, if Exact is set, the names of the
	// files below Path.
	Inputs(ctx context.Context, req *InputsRequest) (*InputsResponse, error)

	// Render turns the source into manifests. The same request yields the same bytes.
	// Render writes only below Scratch and stops when ctx ends.
	Render(ctx context.Context, req *RenderRequest) (*RenderResponse, error)
}

// Description describes an interpreter; `tape interpreter describe` prints it.
type Description struct {
	// Name is the <name> in tape-interpreter-<name>, the file name of the binary:
	// lower-case letters, digits and dashes.
	Name string `json:"name"`
	// Version is the interpreter's version, recorded in the provenance of what it renders.
	Version string `json:"version"`
	// Help is a one-line summary.
	Help string `json:"help"`
	// Markers identify the folders and files that the interpreter renders.
	Markers []Marker `json:"markers,omitempty"`
	// Options is a JSON Schema (draft 2020-12) of type object with additionalProperties
	// false; it is empty if the interpreter has no options. The interpreter applies the
	// defaults. tape handles these string properties specially: the value of "format":
	// "path" is resolved and becomes an input (in "key=path", the part after the first
	// "="); the value of "writeOnly": true is a secret and never stored; of "format":
	// "key=value", only the key and a digest of the value are recorded.
	Options json.RawMessage `json:"options,omitempty"`
	// Environment names the environment variables of tape that the interpreter needs. The
	// process gets these, PATH, HOME, TMPDIR, the locale and the proxy settings, and no
	// others.
	Environment []string `json:"environment,omitempty"`
	// Network reports whether rendering may fetch remote content.
	Network bool `json:"network,omitempty"`
	// References lists the URL schemes of remote sources that the interpreter renders, such
	// as "oci" and "https". For a remote source Inputs is not called and
	// RenderRequest.Source is empty.
	References []string `json:"references,omitempty"`
}

// Marker is a file name pattern that identifies a source.
type Marker struct {
	// Name is a pattern as for path.Match. It is matched against the names of the files
	// directly in the source folder, or the name of the source itself if that is a file. A
	// pattern that ends in a slash matches folders instead.
	Name string `json:"name"`
	// File restricts the marker to sources that are themselves a file.
	File bool `json:"file,omitempty"`
	// Above lets the marker also match in a folder above the source, within the repository
	// (CUE's cue.mod), provided that the source holds a file matching With.
	Above bool `json:"above,omitempty"`
	// With restricts the marker to sources that also hold a file matching this pattern.
	With string `json:"with,omitempty"`
}

// InputsRequest asks which files a render of Path would read.
type InputsRequest struct {
	// Root is an absolute folder that contains all inputs: the top of the repository, or
	// the folder of the pipeline file.
	Root string
	// Path is the source, a folder or a file: slash-separated and relative to Root, "." for
	// Root itself.
	Path string
	// Options are valid against the schema of the description. Paths in them are
	// slash-separated and relative to Root.
	Options json.RawMessage
}

// InputsResponse lists the inputs of a render.
type InputsResponse struct {
	// Paths are files and folders (with everything in them), slash-separated and relative
	// to Root. Path itself is always included unless Exact is set. A path outside Root is
	// returned as it is ("../base"); tape rejects it by name.
	Paths []string
	// Exact reports whether Paths is complete: nothing else below Path is an input.
	Exact bool
	// Diagnostics are problems of the source. If one has severity Error, the source is not
	// rendered.
	Diagnostics []Diagnostic
}

// RenderRequest asks for the manifests of a source.
type RenderRequest struct {
	// Source is an absolute, read-only folder that holds exactly the inputs, laid out as
	// below Root. It is empty if Reference is set.
	Source string
	// Path is the source relative to Source, "." for Source itself.
	Path string
	// Reference is a remote source (oci://…, https://…), or empty.
	Reference string
	// Options are valid against the schema of the description. Paths in them are
	// slash-separated and relative to Source.
	Options json.RawMessage
	// Materials are the locked digests: content fetched under one of these URIs must have
	// the digest given here.
	Materials []Material
	// Registries configures access to registries; nil means the defaults.
	Registries *Registries
	// Scratch is an absolute, empty, writable folder. tape removes it after the call.
	Scratch string
}

// Registries is the registry configuration of tape, for interpreters that fetch from
// registries. Credentials come from the Docker CLI's configuration.
type Registries struct {
	HostsDir  string   `json:"hostsDir,omitempty"`  // folder with containerd hosts.toml files
	PlainHTTP []string `json:"plainHTTP,omitempty"` // hosts to access without TLS
	CAFile    string   `json:"caFile,omitempty"`    // PEM bundle of additional CAs
}

// RenderResponse is the result of a render.
type RenderResponse struct {
	// Files are the manifests, in any order; tape sorts them.
	Files []File
	// Diagnostics are problems of the source. If one has severity Error, Files is empty.
	Diagnostics []Diagnostic
	// Materials lists all remote content that was fetched, with digests.
	Materials []Material
}

// File is one rendered file.
type File struct {
	// Path is relative, clean and slash-separated.
	Path string
	// Mode is the permission bits; zero means 0644.
	Mode uint32
	// Origin is the source file that this file was made from, slash-separated and relative
	// to Root; empty if it is unknown or not part of the source.
	Origin string
	Data   []byte
}

// Material is remote content that was fetched for a render.
type Material struct {
	// URI identifies the content: oci://host/repo:tag, https://host/file.tgz,
	// git+https://host/repo@ref.
	URI string `json:"uri"`
	// Digest is algorithm:hex, such as sha256:… or gitCommit:….
	Digest string `json:"digest"`
}

// Severity is the severity of a diagnostic.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Diagnostic is a message for the user about a source.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	// Summary is one line, in lower case and without a final period.
	Summary string `json:"summary"`
	// Detail may have several lines.
	Detail string `json:"detail,omitempty"`
	// File is relative to Root. Line and Column count from 1; 0 means unknown.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}
