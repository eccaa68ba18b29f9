// SPDX-License-Identifier: Apache-2.0

// Package sign signs manifests by digest and checks such signatures: DSSE
// envelopes over in-toto statements with exactly one subject, in Sigstore
// bundles v0.3, as cosign 3 writes and reads them. docs/format.md ("Signatures")
// gives the shapes.
//
// It also implements the sign stage, which signs what is packaged before it is
// pushed:
//
//	root          the root index
//	content       the content manifest
//	→ signatures  an index of the manifests that carry the bundles. It is empty
//	              if there is no key
//
// The stage is not cached: it takes a millisecond, and a key file always gives the
// same signature of a manifest.
package sign

import (
	"context"
	_ "embed"
	"encoding/json"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/stages/artifact"
)

// Signer makes bundles. [LoadSigner] returns one that uses a key.
type Signer interface {
	// Bundle returns a bundle with a signed statement.
	Bundle(ctx context.Context, statement []byte) ([]byte, error)
	// Made reports whether a bundle is a signature of a manifest by this signer, so that it need
	// not be made again.
	Made(ctx context.Context, bundle []byte, manifest digest.Digest) bool
	// MadeStatement reports whether a bundle is a statement about a manifest by this signer. The
	// error is [ErrForged] if it names this signer but is not valid. It may ask a service for the
	// identity of the signer.
	MadeStatement(ctx context.Context, bundle []byte, manifest digest.Digest, predicateType string) (bool, error)
}

// Verifier verifies signatures made with a key. LoadVerifier returns one for a key file.
type Verifier = signature.Verifier

//go:embed config.schema.json
var configSchema json.RawMessage

// Config of the stage is empty: the key is not an option, so that a checked-in pipeline cannot
// choose whose signature an application gets.
type Config struct{}

// Kind describes the stage to the table of stages. Without a signer, nothing is signed.
func Kind(signer Signer) pipeline.Kind {
	return pipeline.Kind{
		Name:    "sign",
		Help:    "sign root and content, where a key is given",
		Inputs:  []pipeline.Port{{Name: "root"}, {Name: "content"}},
		Outputs: []string{"signatures"},
		Schema:  configSchema,
		Needs:   []engine.Need{engine.NeedKey},
		New:     pipeline.Configured(func(config Config) (*Stage, error) { return New(config, signer) }),
	}
}

// Stage is the sign stage.
type Stage struct{ signer Signer }

// New returns the stage. A nil signer signs nothing.
func New(_ Config, signer Signer) (*Stage, error) { return &Stage{signer: signer}, nil }

// Run implements [engine.Stage].
func (s *Stage) Run(ctx context.Context, t *engine.Task) (engine.Outputs, error) {
	var signatures []ocispec.Descriptor
	if s.signer == nil {
		t.Skip("no key")
	} else {
		// There is one bundle per subject, because cosign reports only the first of several.
		for _, input := range []string{"root", "content"} {
			blobs, err := Blobs(ctx, s.signer, t.Inputs[input])
			if err != nil {
				return nil, err
			}
			if err := artifact.Put(ctx, t.Store, blobs...); err != nil {
				return nil, err
			}
			signatures = append(signatures, blobs[len(blobs)-1].Desc)
		}
	}
	out, err := artifact.PutSignatures(ctx, t.Store, signatures)
	return engine.Outputs{"signatures": out}, err
}

// Blobs returns the blobs of a signature of a manifest: the empty config, the bundle, and last
// the manifest that carries the bundle.
func Blobs(ctx context.Context, signer Signer, subject ocispec.Descriptor) ([]artifact.Blob, error) {
	return Statement(ctx, signer, subject, predicateType, struct{}{})
}

// Statement is like Blobs, for a statement that says more about the manifest than that it is
// signed.
func Statement(ctx context.Context, signer Signer, subject ocispec.Descriptor, predicateType string, predicate any) ([]artifact.Blob, error) {
	bundle, err := bundleOf(ctx, signer, subject.Digest, predicateType, predicate)
	if err != nil {
		return nil, err
	}
	manifest, err := manifestOf(bundle, subject, predicateType)
	if err != nil {
		return nil, err
	}
	return []artifact.Blob{artifact.Empty(), artifact.NewBlob(MediaType, bundle), manifest}, nil
}
