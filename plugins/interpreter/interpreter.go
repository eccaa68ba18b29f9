// SPDX-License-Identifier: Apache-2.0

// Package interpreter is the contract between tape and an interpreter: the
// program that turns a source (a folder of YAML, a Kustomize overlay, a Helm
// chart, a CUE module, or what a third party teaches it) into Kubernetes
// manifests.
//
// An author implements [Interpreter] and serves it in one line with package
// plugins/serve; tape finds the binary, starts it and calls it through
// plugins/host. This package imports the standard library only, so that who
// implements or calls an interpreter compiles no gRPC.
//
// A mistake of the user (a template that fails, an unknown field, a missing
// dependency) is a [Diagnostic] of severity [Error], never a Go error and never
// a panic. A Go error says that the interpreter itself could not do its work.
package interpreter

import (
	"context"
	"encoding/json"
)

// Interpreter renders sources. Methods may be called concurrently.
type Interpreter interface {
	// Describe says what the interpreter is. It is called before anything
	// else, reads no source, and always answers the same.
	Describe(ctx context.Context) (Description, error)

	// Inputs looks at the live tree and answers with every file and folder
	// that Render will read. The answer may depend on nothing but the request,
	// the contents of what it names, the names of what lies beside a file that
	// it names, and, where it is Exact, the names of what lies below Path: tape
	// keeps it for as long as those stay the same.
	Inputs(ctx context.Context, req *InputsRequest) (*InputsResponse, error)

	// Render turns the source into manifests. Same request, same bytes. It
	// writes nowhere but below Scratch, and stops when ctx ends.
	Render(ctx context.Context, req *RenderRequest) (*RenderResponse, error)
}

// Description is what `tape interpreter describe` prints.
type Description struct {
	// Name is the <name> of the binary tape-interpreter-<name>: lower-case
	// letters, digits and dashes.
	Name string `json:"name"`
	// Version of the interpreter; it enters the provenance of what it renders.
	Version string `json:"version"`
	// Help is one line.
	Help string `json:"help"`
	// Markers say which folders and files are this interpreter's.
	Markers []Marker `json:"markers,omitempty"`
	// Options is a JSON Schema (draft 2020-12) of type object, with false for
	// additionalProperties; empty where there are none. A string property with
	// "format": "path" is resolved by tape and becomes an input ("key=path": what
	// follows the first = is); one with "writeOnly": true is never written
	// anywhere, and of one with "format": "key=value" only the key and the digest
	// of the value are. Defaults are the interpreter's to apply.
	Options json.RawMessage `json:"options,omitempty"`
	// Environment names the variables the interpreter wants from tape's
	// environment. It gets those, and PATH, HOME, TMPDIR, locale and proxy
	// settings, and nothing else.
	Environment []string `json:"environment,omitempty"`
	// Network says that rendering may fetch remote material.
	Network bool `json:"network,omitempty"`
	// References says which remote sources it renders: schemes such as "oci"
	// and "https". For these Inputs is not called and Source is empty.
	References []string `json:"references,omitempty"`
}

// Marker is a file name that claims a source.
type Marker struct {
	// Name is matched as path.Match matches, against the names of the files
	// directly in the folder (or of the source itself where it is a file). A
	// name that ends in a slash is matched against the folders there instead.
	Name string `json:"name"`
	// File: the marker counts only where the source itself is the file.
	File bool `json:"file,omitempty"`
	// Above: the marker also counts when it lies in a folder above the source,
	// inside the repository (CUE's cue.mod), provided that a file matching With
	// lies in the source.
	Above bool `json:"above,omitempty"`
	// With narrows the marker to sources that also hold a matching file.
	With string `json:"with,omitempty"`
}

// InputsRequest asks which files a render of Path would read.
type InputsRequest struct {
	// Root is the absolute folder that nothing may lie outside of: the
	// repository's top, or the pipeline file's folder.
	Root string
	// Path is the source below Root, slash-separated, "." for Root itself. It
	// is a folder or a file.
	Path string
	// Options are valid against the schema; paths in them are relative to Root
	// and slash-separated.
	Options json.RawMessage
}

// InputsResponse names inputs.
type InputsResponse struct {
	// Paths are files and folders (taken with all that is in them), relative
	// to Root, slash-separated. Path itself is always taken, unless Exact. A
	// path that leads outside Root is given as it is ("../base"); tape refuses
	// it by name.
	Paths []string
	// Exact says that Paths are all that Render reads: of a folder Path nothing
	// else is taken.
	Exact bool
	// Diagnostics: with one of severity Error the source is not rendered.
	Diagnostics []Diagnostic
}

// RenderRequest asks for the manifests of a source.
type RenderRequest struct {
	// Source is an absolute folder that holds exactly the inputs, laid out as
	// below Root. It is read-only. It is empty where Reference is set.
	Source string
	// Path is the source below Source, "." for Source itself.
	Path string
	// Reference is a remote source (oci://…, https://…), else empty.
	Reference string
	// Options are valid against the schema; paths in them are relative to
	// Source and slash-separated.
	Options json.RawMessage
	// Materials are the locked digests: what is fetched under one of these
	// names must have its digest.
	Materials []Material
	// Registries says how registries are reached; nil means as usual.
	Registries *Registries
	// Scratch is an absolute, empty, writable folder, removed afterwards.
	Scratch string
}

// Registries carries tape's registry flags to interpreters that fetch from
// registries. Credentials come from the docker CLI's configuration.
type Registries struct {
	HostsDir  string   `json:"hostsDir,omitempty"`  // containerd hosts.toml folder
	PlainHTTP []string `json:"plainHTTP,omitempty"` // hosts spoken to without TLS
	CAFile    string   `json:"caFile,omitempty"`    // PEM bundle
}

// RenderResponse is what a source renders to.
type RenderResponse struct {
	// Files are the manifests, in any order; tape sorts them.
	Files []File
	// Diagnostics: with one of severity Error there are no Files.
	Diagnostics []Diagnostic
	// Materials are every remote thing that was fetched, with its digest.
	Materials []Material
}

// File is one rendered file.
type File struct {
	// Path is relative, clean and slash-separated.
	Path string
	// Mode is 0644 where zero.
	Mode uint32
	// Origin is the file of the source that this one was made of, relative to
	// Root and slash-separated; "" where it is unknown or not in the source.
	Origin string
	Data   []byte
}

// Material is a remote thing that was fetched for a render.
type Material struct {
	// URI names it: oci://host/repo:tag, https://host/file.tgz,
	// git+https://host/repo@ref.
	URI string `json:"uri"`
	// Digest is algorithm:hex, such as sha256:… or gitCommit:….
	Digest string `json:"digest"`
}

// Severity of a diagnostic.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Diagnostic is something a person should know about a source.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	// Summary is one line, lower case, without a final stop.
	Summary string `json:"summary"`
	// Detail may have several lines.
	Detail string `json:"detail,omitempty"`
	// File is relative to Root; Line and Column count from 1, 0 is unknown.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}
