// SPDX-License-Identifier: Apache-2.0

package scan

import (
	_ "embed"
	"encoding/json"

	"github.com/taped-dev/tape/engine/pipeline"
)

// Config of the stage: `images` in a pipeline file.
type Config struct {
	// Fields are image fields of custom resources, looked at before those of
	// the catalogue.
	Fields []Field `json:"fields,omitempty"`
	// Exclude leaves references out: they are neither copied nor pinned. A
	// pattern is matched against the reference as written and as normalised;
	// * stands for any characters.
	Exclude []string `json:"exclude,omitempty"`
	// SkipInvalid leaves out files that do not parse, instead of failing.
	SkipInvalid bool `json:"skipInvalid,omitempty"`
	// SkipSealed accepts that images stay as they are written in objects that sops
	// or a signature seals, without a warning.
	SkipSealed bool `json:"skipSealed,omitempty"`
}

// Field says that places in objects hold image references, or that they do not.
type Field struct {
	// Groups and Kinds of the objects. "" is the core group, "*" stands for any
	// characters. No groups: any but the core group's and Kubernetes' own.
	Groups []string `json:"groups,omitempty"`
	Kinds  []string `json:"kinds"`
	// Paths are JSON pointers (RFC 6901) from the object's top, in which * is
	// any one key or index and ** any number of them, none included. A # behind a
	// key leads into the YAML or JSON document that its string holds:
	// /data/config.yaml#/proxy/image.
	Paths []string `json:"paths"`
	// Parts is set where the reference is split over several fields: Paths then
	// name the object that holds them, and Parts which of its keys holds what.
	Parts *Parts `json:"parts,omitempty"`
	// When narrows it to places beside which keys have these values. A key that
	// begins with a slash is a JSON pointer from the object's top. A value may be
	// several, separated by |, in which * stands for any characters.
	When map[string]string `json:"when,omitempty"`
	// Unless leaves out places beside which one of these keys stands, separated by |.
	Unless string `json:"unless,omitempty"`
	// Scheme narrows it to values that begin with it and ://.
	Scheme string `json:"scheme,omitempty"`
	// Behind narrows it to values that hold this text; the reference stands behind it.
	Behind string `json:"behind,omitempty"`
	// Ignore says that this is no image, nor anything in it.
	Ignore bool `json:"ignore,omitempty"`
	// Optional says that what the field names need not exist as it stands there,
	// because its reader changes it.
	Optional bool `json:"optional,omitempty"`
	// Pin says how: "" and "digest" by the tag as written and the digest, "never"
	// not at all.
	Pin string `json:"pin,omitempty"`
	// Reason why it is never pinned or no image.
	Reason string `json:"reason,omitempty"`
}

// Parts are the keys that hold the parts of a reference, relative to the path of
// the field: a key or a JSON pointer, or several separated by |, of which the first
// that is there counts. One that begins with // is relative to the object's top.
type Parts struct {
	Registry string `json:"registry,omitempty"` // host
	// Repository is host and path, or the path where there is a Registry, or all
	// of it but the last element where there is an Image.
	Repository string `json:"repository,omitempty"`
	Image      string `json:"image,omitempty"` // last element of the path
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"digest,omitempty"`  // algorithm:hex
	Version    string `json:"version,omitempty"` // a tag or a digest
	// Literal is a last element of the path that the object's reader adds. No field
	// holds it, and so the reference cannot be pinned.
	Literal string `json:"literal,omitempty"`
}

//go:embed config.schema.json
var schema json.RawMessage

// Kind is the stage's entry in the table of stages.
func Kind() pipeline.Kind {
	return pipeline.Kind{
		Name:    "scan",
		Help:    "find every image reference in the manifests",
		Inputs:  []pipeline.Port{{Name: "manifests", Many: true}},
		Outputs: []string{"references", "manifests"},
		Schema:  schema,
		New:     pipeline.Configured(New),
	}
}
