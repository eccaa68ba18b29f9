// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	bundlev1 "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore/pkg/signature"
	sigdsse "github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/stages/artifact"
)

const (
	// MediaType is the media type of a bundle, and the artifactType of its manifest.
	MediaType = artifact.MediaTypeBundle
	// predicateType is the type of a statement that is only a signature.
	predicateType = artifact.PredicateSignature

	payloadType = artifact.MediaTypeStatement
)

// Bundle signs a manifest by its digest.
func Bundle(ctx context.Context, signer Signer, manifest digest.Digest) ([]byte, error) {
	return bundleOf(ctx, signer, manifest, predicateType, struct{}{})
}

// bundleOf signs a statement about a manifest.
func bundleOf(ctx context.Context, signer Signer, manifest digest.Digest, predicateType string, predicate any) ([]byte, error) {
	statement, err := artifact.NewStatement(predicateType, predicate, artifact.Resource{Digest: artifact.DigestSet(manifest)})
	if err != nil {
		return nil, err
	}
	payload, err := engine.MarshalJSON(statement)
	if err != nil {
		return nil, err
	}
	bundle, err := signer.Bundle(ctx, payload)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", manifest, err)
	}
	return bundle, nil
}

// Bundle implements [Signer].
func (k *Key) Bundle(ctx context.Context, statement []byte) ([]byte, error) {
	hint, err := hint(k.public)
	if err != nil {
		return nil, err
	}
	sig, err := k.SignMessage(bytes.NewReader(dsse.PAE(payloadType, statement)), options.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return encode(&bundlev1.Bundle{
		MediaType: MediaType,
		VerificationMaterial: &bundlev1.VerificationMaterial{
			Content: &bundlev1.VerificationMaterial_PublicKey{PublicKey: &commonv1.PublicKeyIdentifier{Hint: hint}},
		},
		Content: &bundlev1.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: payloadType, Signatures: []*protodsse.Signature{{Sig: sig}},
		}},
	})
}

// ErrForged means that a bundle names a signer but was not signed by them.
var ErrForged = errors.New("it is not what was signed")

// MadeStatement implements [Signer].
func (k *Key) MadeStatement(ctx context.Context, bundle []byte, manifest digest.Digest, predicateType string) (bool, error) {
	claim, err := Read(bundle)
	if err != nil || claim.PredicateType != predicateType {
		return false, nil
	}
	own, err := hint(k.public)
	if err != nil || claim.KeyHint != own {
		return false, err
	}
	if _, err := VerifyAs(ctx, k.verifier, bundle, manifest, predicateType); err != nil {
		return false, fmt.Errorf("%w: %w", ErrForged, err)
	}
	return true, nil
}

// Made implements [Signer].
func (k *Key) Made(ctx context.Context, bundle []byte, manifest digest.Digest) bool {
	_, err := Verify(ctx, k.verifier, bundle, manifest)
	return err == nil
}

// encode returns the JSON of a bundle. It removes the white space that protojson deliberately
// varies between builds.
func encode(bundle *bundlev1.Bundle) ([]byte, error) {
	data, err := protojson.Marshal(bundle)
	if err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, data); err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	return out.Bytes(), nil
}

// Claim is the content of a bundle, which may not have been verified.
type Claim struct {
	Subject       digest.Digest
	PredicateType string
	KeyHint       string
}

// Read reads a bundle without verifying it.
func Read(bundle []byte) (Claim, error) {
	claim, _, _, err := read(bundle)
	return claim, err
}

func read(bundle []byte) (claim Claim, s artifact.Statement, envelope *dsse.Envelope, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read bundle: %w", err)
		}
	}()
	var b bundlev1.Bundle
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(bundle, &b); err != nil {
		return claim, s, nil, errors.New("it is not a bundle of Sigstore in JSON") // protobuf's errors vary
	}
	env := b.GetDsseEnvelope()
	if env == nil {
		return claim, s, nil, errors.New("it contains no DSSE envelope")
	}
	if err := descriptor.Unmarshal(env.GetPayload(), &s); err != nil {
		return claim, s, nil, fmt.Errorf("statement: %w", err)
	}
	if len(s.Subject) != 1 {
		return claim, s, nil, fmt.Errorf("the statement has %d subjects, not one", len(s.Subject))
	}
	claim = Claim{
		Subject:       digest.NewDigestFromEncoded(digest.SHA256, s.Subject[0].Digest["sha256"]),
		PredicateType: s.PredicateType,
		KeyHint:       b.GetVerificationMaterial().GetPublicKey().GetHint(),
	}
	if err := claim.Subject.Validate(); err != nil {
		return Claim{}, s, nil, fmt.Errorf("subject: %w", err)
	}
	envelope = &dsse.Envelope{PayloadType: env.GetPayloadType(), Payload: base64.StdEncoding.EncodeToString(env.GetPayload())}
	for _, sig := range env.GetSignatures() {
		envelope.Signatures = append(envelope.Signatures, dsse.Signature{
			KeyID: sig.GetKeyid(), Sig: base64.StdEncoding.EncodeToString(sig.GetSig()),
		})
	}
	return claim, s, envelope, nil
}

// Verify returns an error unless the bundle is a signature of the manifest by the key.
func Verify(ctx context.Context, verifier signature.Verifier, bundle []byte, manifest digest.Digest) (Claim, error) {
	return VerifyAs(ctx, verifier, bundle, manifest, predicateType)
}

// VerifyAs returns an error unless the bundle is a statement about the manifest, signed by the
// key, with the given type of predicate. The error does not name the manifest.
func VerifyAs(ctx context.Context, verifier signature.Verifier, bundle []byte, manifest digest.Digest, predicate string) (Claim, error) {
	claim, _, envelope, err := read(bundle)
	if err != nil {
		return Claim{}, err
	}
	if envelope.PayloadType != payloadType {
		return claim, fmt.Errorf("the envelope contains %q, not %s", envelope.PayloadType, payloadType)
	}
	public, err := verifier.PublicKey()
	if err != nil {
		return claim, fmt.Errorf("public key of the verifier: %w", err)
	}
	keys, err := dsse.NewEnvelopeVerifier(&sigdsse.VerifierAdapter{SignatureVerifier: verifier, Pub: public})
	if err != nil {
		return claim, err
	}
	if _, err := keys.Verify(ctx, envelope); err != nil {
		return claim, fmt.Errorf("not signed by this key%s", otherKey(claim, public))
	}
	if claim.Subject != manifest {
		return claim, fmt.Errorf("the bundle signs %s", claim.Subject)
	}
	if claim.PredicateType != predicate {
		want := predicate
		if predicate == predicateType {
			want = "signature"
		}
		return claim, fmt.Errorf("the statement is a %s, not a %s", claim.PredicateType, want)
	}
	return claim, nil
}

// Predicate decodes the predicate of the statement in a bundle, without verifying it.
func Predicate(bundle []byte, into any) error {
	_, s, _, err := read(bundle)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(s.Predicate, into); err != nil {
		return fmt.Errorf("read bundle: predicate: %w", err)
	}
	return nil
}

// otherKey reports that a bundle names a key other than the expected one.
func otherKey(claim Claim, public crypto.PublicKey) string {
	if hint, err := hint(public); err == nil && claim.KeyHint != "" && claim.KeyHint != hint {
		return fmt.Sprintf(" (but by key %s, and this is %s)", claim.KeyHint, hint)
	}
	return ""
}

// Manifest returns the referrer that carries a bundle, in the form of cosign 3. The empty
// config ({}) and the bundle are its blobs.
func Manifest(bundle []byte, subject ocispec.Descriptor) (artifact.Blob, error) {
	return manifestOf(bundle, subject, predicateType)
}

// manifestOf is like Manifest, for a bundle with another type of predicate.
func manifestOf(bundle []byte, subject ocispec.Descriptor, predicateType string) (artifact.Blob, error) {
	annotations := map[string]string{
		artifact.AnnotationBundleContent:   "dsse-envelope",
		artifact.AnnotationBundlePredicate: predicateType,
	}
	blob, err := artifact.NewManifest(ocispec.Manifest{
		ArtifactType: MediaType,
		Layers:       []ocispec.Descriptor{artifact.NewBlob(MediaType, bundle).Desc},
		Subject:      &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations:  annotations,
	})
	blob.Desc.Annotations = annotations
	return blob, err
}

// Attached reads the bundle in a referrer, or returns nil if it has none.
func Attached(ctx context.Context, source content.Provider, referrer ocispec.Descriptor) ([]byte, error) {
	bundle, _, err := artifact.ReadBundle(ctx, source, referrer)
	return bundle, err
}
