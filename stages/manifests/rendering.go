// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/plugins/interpreter"
)

// MediaTypeRendering is of a Rendering document: render → attest.
const MediaTypeRendering = "application/vnd.tape.rendering.v1+json"

// Rendering says how one source became manifests.
type Rendering struct {
	// Source is the name of the source in the pipeline, Folder the folder that
	// its manifests have among those of other sources, "" where it is alone.
	Source string `json:"source"`
	Folder string `json:"folder,omitempty"`
	// Reference is set for a remote source.
	Reference   string `json:"reference,omitempty"`
	Interpreter string `json:"interpreter"`
	Version     string `json:"version"`
	// Options that were given, without the writeOnly ones; paths in them are
	// below the repository's top.
	Options json.RawMessage `json:"options,omitempty"`
	// Materials that were fetched, sorted by URI.
	Materials   []interpreter.Material   `json:"materials,omitempty"`
	Diagnostics []interpreter.Diagnostic `json:"diagnostics,omitempty"`
	// Files that came out, sorted by Name, with the Folder in it.
	Files []RenderedFile `json:"files"`
}

// RenderedFile is one manifest file.
type RenderedFile struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
}
