// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	bundlev1 "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorv1 "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	sgverify "github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/protobuf/encoding/protojson"
)

// Signatures of cosign before version 3: each is a layer with the payload, with the signature
// and its verification material in annotations.
const (
	// SimpleSigning is the media type of such a layer.
	SimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	// envelopeType is the media type of a layer with an attestation of cosign before version 3.
	envelopeType = "application/vnd.dsse.envelope.v1+json"

	simpleSigningType     = "cosign container image signature"
	annotationSignature   = "dev.cosignproject.cosign/signature"
	annotationCertificate = "dev.sigstore.cosign/certificate"
	annotationBundle      = "dev.sigstore.cosign/bundle"
	annotationTimestamp   = "dev.sigstore.cosign/rfc3161timestamp"
)

// Simple verifies a signature of a manifest that cosign made before version 3.
func (a *Authority) Simple(_ context.Context, payload []byte, annotations map[string]string, manifest digest.Digest) (Proof, error) {
	raw, err := base64.StdEncoding.DecodeString(annotations[annotationSignature])
	if err != nil {
		return Proof{}, fmt.Errorf("verify %s: signature: %w", manifest, err)
	}
	proof := Proof{Authority: a.Name}
	if a.Key != nil {
		if err := a.Key.VerifySignature(bytes.NewReader(raw), bytes.NewReader(payload)); err != nil {
			return Proof{}, fmt.Errorf("verify %s: not signed by %s", manifest, a)
		}
	} else {
		b, err := newBundle(annotations)
		if err == nil {
			sum := sha256.Sum256(payload)
			b.Content = &bundlev1.Bundle_MessageSignature{MessageSignature: &commonv1.MessageSignature{
				MessageDigest: &commonv1.HashOutput{Algorithm: commonv1.HashAlgorithm_SHA2_256, Digest: sum[:]}, Signature: raw,
			}}
			proof, err = a.bundle(b, sgverify.WithArtifact(bytes.NewReader(payload)))
		}
		if err != nil {
			return Proof{}, fmt.Errorf("verify %s: %w", manifest, err)
		}
	}
	var p struct {
		Critical struct {
			Type  string `json:"type"`
			Image struct {
				Digest digest.Digest `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return Proof{}, fmt.Errorf("verify %s: payload: %w", manifest, err)
	}
	if p.Critical.Type != simpleSigningType {
		return Proof{}, fmt.Errorf("verify %s: the payload has type %q", manifest, p.Critical.Type)
	}
	if p.Critical.Image.Digest != manifest {
		return Proof{}, fmt.Errorf("verify %s: the signature is for %s", manifest, p.Critical.Image.Digest)
	}
	return proof, nil
}

// attestationBundle converts an attestation of cosign before version 3, which is a DSSE
// envelope, to a bundle.
func attestationBundle(envelope []byte, annotations map[string]string) ([]byte, error) {
	signed := &protodsse.Envelope{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(envelope, signed); err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	b, err := newBundle(annotations)
	if err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	b.Content = &bundlev1.Bundle_DsseEnvelope{DsseEnvelope: signed}
	return protojson.Marshal(b)
}

// newBundle returns a bundle without content, with the verification material in annotations.
func newBundle(annotations map[string]string) (*bundlev1.Bundle, error) {
	material := &bundlev1.VerificationMaterial{Content: &bundlev1.VerificationMaterial_PublicKey{PublicKey: &commonv1.PublicKeyIdentifier{}}}
	// The first version of bundles accepts the log's promise alone.
	b := &bundlev1.Bundle{MediaType: "application/vnd.dev.sigstore.bundle+json;version=0.1", VerificationMaterial: material}
	if annotations[annotationCertificate] == "" {
		return b, nil
	}
	certs, err := cryptoutils.UnmarshalCertificatesFromPEM([]byte(annotations[annotationCertificate]))
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("there are %d certificates, not one", len(certs))
	}
	material.Content = &bundlev1.VerificationMaterial_Certificate{Certificate: &commonv1.X509Certificate{RawBytes: certs[0].Raw}}
	if text := annotations[annotationBundle]; text != "" {
		entry, err := logEntry(text)
		if err != nil {
			return nil, fmt.Errorf("log entry: %w", err)
		}
		material.TlogEntries = []*rekorv1.TransparencyLogEntry{entry.TransparencyLogEntry()}
	}
	if text := annotations[annotationTimestamp]; text != "" {
		var stamp struct{ SignedRFC3161Timestamp []byte }
		if err := json.Unmarshal([]byte(text), &stamp); err != nil {
			return nil, fmt.Errorf("timestamp: %w", err)
		}
		stamps := []*commonv1.RFC3161SignedTimestamp{{SignedTimestamp: stamp.SignedRFC3161Timestamp}}
		material.TimestampVerificationData = &bundlev1.TimestampVerificationData{Rfc3161Timestamps: stamps}
	}
	return b, nil
}

// logEntry parses an entry of Rekor v1 with the log's promise.
func logEntry(text string) (*tlog.Entry, error) {
	var b struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(b.Payload.LogID)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(b.Payload.Body, &kind); err != nil {
		return nil, err
	}
	if len(b.SignedEntryTimestamp) == 0 {
		return nil, errors.New("the log did not sign it")
	}
	return tlog.NewTlogEntry(&rekorv1.TransparencyLogEntry{
		LogIndex: b.Payload.LogIndex, LogId: &commonv1.LogId{KeyId: id}, KindVersion: &rekorv1.KindVersion{Kind: kind.Kind, Version: kind.APIVersion},
		IntegratedTime: b.Payload.IntegratedTime, CanonicalizedBody: b.Payload.Body,
		InclusionPromise: &rekorv1.InclusionPromise{SignedEntryTimestamp: b.SignedEntryTimestamp},
	})
}
