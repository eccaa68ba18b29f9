// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/plugins/interpreter"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/rendering"
)

// StatementType of what is written. Statements v0.1 are read too.
const StatementType = statementTypePrefix + "v1"

const statementTypePrefix = "https://in-toto.io/Statement/"

// Statement is an in-toto Statement.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Resource      `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`

	raw []byte // as read, else nil
}

// Resource is an in-toto ResourceDescriptor.
type Resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// NewStatement says the predicate of the subjects.
func NewStatement(predicateType string, predicate any, subject ...Resource) (Statement, error) {
	data, err := engine.MarshalJSON(predicate)
	return Statement{Type: StatementType, Subject: subject, PredicateType: predicateType, Predicate: data}, err
}

// predicates returns the predicates of a type in statements; one that cannot be read is left
// out.
func predicates[T any](statements []Statement, predicateType string) []T {
	var out []T
	for _, s := range statements {
		var predicate T
		if s.PredicateType == predicateType && json.Unmarshal(s.Predicate, &predicate) == nil {
			out = append(out, predicate)
		}
	}
	return out
}

// Blob returns the statement as a layer of the attestation manifest.
func (s Statement) Blob() (Blob, error) {
	data, err := engine.MarshalJSON(s)
	if err != nil {
		return Blob{}, err
	}
	b := NewBlob(MediaTypeStatement, data)
	b.Desc.Annotations = map[string]string{annotationPredicateType: s.PredicateType}
	return b, nil
}

// DigestSet returns a digest as in-toto writes it.
func DigestSet(d digest.Digest) map[string]string {
	return map[string]string{d.Algorithm().String(): d.Encoded()}
}

// Provenance is the predicate of PredicateProvenance: SLSA provenance v1 without
// what differs from run to run (https://slsa.dev/spec/v1.1/provenance).
type Provenance struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

// BuildDefinition describes the inputs of the build.
type BuildDefinition struct {
	BuildType            string     `json:"buildType"`
	ExternalParameters   Parameters `json:"externalParameters"`
	ResolvedDependencies []Resource `json:"resolvedDependencies"`
}

// Parameters are what a person decided.
type Parameters struct {
	Repository string             `json:"repository"`
	Prefix     string             `json:"prefix,omitempty"`   // of the images' names, where they are not the repository's
	Naming     string             `json:"naming,omitempty"`   // OneToOne, or ""
	Platform   string             `json:"platform,omitempty"` // the one platform that was taken of every image
	Sources    []SourceParameters `json:"sources"`
}

// SourceParameters are those of one source.
type SourceParameters struct {
	Name        string          `json:"name,omitempty"` // where there are several
	Environment string          `json:"environment,omitempty"`
	Path        string          `json:"path,omitempty"`      // below the repository's top
	Reference   string          `json:"reference,omitempty"` // of a remote source
	Folder      string          `json:"folder,omitempty"`    // of its files in the content, where there are several sources
	Interpreter string          `json:"interpreter,omitempty"`
	Options     json.RawMessage `json:"options,omitempty"` // without secret ones
}

// RunDetails say who did it.
type RunDetails struct {
	Builder Builder `json:"builder"`
}

// Builder is tape.
type Builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

// BuilderID is tape's.
const BuilderID = "https://github.com/taped-dev/tape"

// Kinds of transforms, in their order.
const (
	TransformRender   = "render"    // source files to manifests, by an interpreter
	TransformImageRef = "image-ref" // manifests to content, by edits alone
	transformRelocate = "relocate"  // content to content with images elsewhere, by edits alone
)

// Transform is the predicate of PredicateTransform: how the subjects were made of
// the inputs. A render says what did it. An image-ref says every byte: with its
// edits undone, each subject is the input of its Output.
type Transform struct {
	Kind  string `json:"kind"`
	Order int    `json:"order"` // transforms of a lower order come before
	// Inputs are the files that were read, sorted by name.
	Inputs []Input `json:"inputs"`

	// Of a render.
	Source      string                 `json:"source,omitempty"`
	Environment string                 `json:"environment,omitempty"`
	Reference   string                 `json:"reference,omitempty"`
	Interpreter *rendering.Interpreted `json:"interpreter,omitempty"`
	Options     json.RawMessage        `json:"options,omitempty"`
	Materials   []interpreter.Material `json:"materials,omitempty"`

	// Of an image-ref or a relocate. File names in these are those of the subjects.
	Repository string             `json:"repository,omitempty"` // that references point to now
	Naming     string             `json:"naming,omitempty"`     // OneToOne: Repository is the prefix of many; else ""
	Edits      []images.Edit      `json:"edits,omitempty"`      // sorted by file and offset
	Unpinned   []images.Unpinned  `json:"unpinned,omitempty"`   // left as written
	Excluded   []images.Reference `json:"excluded,omitempty"`   // left as written, by the pipeline's wish
	Fields     json.RawMessage    `json:"fields,omitempty"`     // image fields that the pipeline added
}

// Secrets is the predicate of PredicateSecrets: what the subjects hold in plain text, and why
// the pipeline accepts that. It has no values.
type Secrets struct {
	Accepted []images.Credential `json:"accepted"` // sorted by file
}

// Input is a file that a transform read.
type Input struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
	// Output names the subject that the file became, where it became one.
	Output string `json:"output,omitempty"`
}
