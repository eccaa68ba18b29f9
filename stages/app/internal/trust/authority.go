// SPDX-License-Identifier: Apache-2.0

// Package trust decides whether signed content may be used: who signed it ([Authority]), and
// who must have signed what ([Policy]). It accesses no network except the place of the
// signatures.
package trust

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	bundlev1 "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgverify "github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// Proof describes a verified signature.
type Proof struct {
	// Authority is the name of the authority that signed, "" if it has none.
	Authority string `json:"authority,omitempty"`
	// Issuer is the URL of the issuer of Identity, "" for a key.
	Issuer   string `json:"issuer,omitempty"`
	Identity string `json:"identity,omitempty"`
	// SignedAt is the time at which a log or a timestamp authority saw the signature; nil
	// if none did.
	SignedAt *time.Time `json:"signedAt,omitempty"`
	// Log is the URL of a transparency log that has an entry of the signature.
	Log string `json:"log,omitempty"`
}

// Authority is an accepted signer: the holder of a key, or an identity in a certificate.
type Authority struct {
	// Name is the authority's name in a policy, "" without a policy.
	Name string
	// Key verifies signatures. If it is nil, Identity does.
	Key      sign.Verifier
	Identity *Identity
}

// Identity is a signer without a key of their own.
type Identity struct {
	Root *Root
	// Issuer must be the exact issuer in the certificate.
	Issuer string
	// Pattern must be the identity in the certificate, or match it; see [CheckPattern].
	Pattern string
	// Claims are required fields of the certificate, by the names of [Claims].
	Claims map[string]string
}

// NewIdentity returns an authority with an identity.
func NewIdentity(name string, id Identity) (*Authority, error) {
	if !strings.HasPrefix(id.Issuer, "https://") && !strings.HasPrefix(id.Issuer, "http://") {
		return nil, fmt.Errorf("issuer %q is not a URL", id.Issuer)
	}
	if err := CheckPattern(id.Pattern); err != nil {
		return nil, err
	}
	return &Authority{Name: name, Identity: &id}, nil
}

// errOther means that a signature is, or may be, valid but is by another signer.
var errOther = errors.New("not signed by this authority")

// String describes the authority in messages.
func (a *Authority) String() string {
	if a.Identity != nil {
		return cmp.Or(a.Name, a.Identity.Pattern)
	}
	return cmp.Or(a.Name, "this key")
}

// Signature verifies that a bundle is the authority's signature of a manifest.
func (a *Authority) Signature(ctx context.Context, bundle []byte, manifest digest.Digest) (Proof, error) {
	return a.Statement(ctx, bundle, manifest, artifact.PredicateSignature)
}

// Statement verifies that a bundle is a statement of the authority about a manifest, with that
// type of predicate.
func (a *Authority) Statement(ctx context.Context, bundle []byte, manifest digest.Digest, predicateType string) (Proof, error) {
	if a.Key != nil {
		_, err := sign.VerifyAs(ctx, a.Key, bundle, manifest, predicateType)
		return Proof{Authority: a.Name}, err
	}
	claim, err := sign.Read(bundle)
	switch {
	case err != nil:
		return Proof{}, err
	case claim.Subject != manifest:
		return Proof{}, fmt.Errorf("the bundle signs %s", claim.Subject)
	case claim.PredicateType != predicateType:
		return Proof{}, fmt.Errorf("the statement is a %s, not a %s", claim.PredicateType, predicateType)
	}
	var b bundlev1.Bundle
	if err := protojson.Unmarshal(bundle, &b); err != nil {
		return Proof{}, fmt.Errorf("read bundle: %w", err)
	}
	sum, err := hex.DecodeString(manifest.Encoded())
	if err != nil {
		return Proof{}, fmt.Errorf("verify %s: %w", manifest, err)
	}
	return a.bundle(&b, sgverify.WithArtifactDigest(manifest.Algorithm().String(), sum))
}

// bundle verifies a signature with a certificate, and then its signer.
func (a *Authority) bundle(b *bundlev1.Bundle, of sgverify.ArtifactPolicyOption) (Proof, error) {
	entity, err := sgbundle.NewBundle(b)
	if err != nil {
		return Proof{}, fmt.Errorf("read bundle: %w", err)
	}
	content, err := entity.VerificationContent()
	if err != nil {
		return Proof{}, err
	}
	cert := content.Certificate()
	if cert == nil {
		return Proof{}, fmt.Errorf("%w: it is signed with a key, not by an identity", errOther)
	}
	if n := len(cert.URIs) + len(cert.EmailAddresses) + len(cert.DNSNames) + len(cert.IPAddresses); n > 1 {
		return Proof{}, fmt.Errorf("the certificate is for %d identities, not one", n)
	}
	by := a.Identity
	result, err := by.Root.verifier.Verify(entity, sgverify.NewPolicy(of, sgverify.WithoutIdentitiesUnsafe()))
	if err != nil {
		return Proof{}, by.Root.explain(err, cert)
	}
	if err := by.accept(result.Signature.Certificate); err != nil {
		return Proof{}, err
	}
	proof := Proof{Authority: a.Name, Issuer: result.Signature.Certificate.Issuer, Identity: result.Signature.Certificate.SubjectAlternativeName}
	for _, stamp := range result.VerifiedTimestamps {
		if at := stamp.Timestamp.UTC(); proof.SignedAt == nil || at.Before(*proof.SignedAt) {
			proof.SignedAt = &at
		}
	}
	if by.Root.log {
		entries, err := entity.TlogEntries()
		if err != nil {
			return Proof{}, err
		}
		for _, entry := range entries {
			if log := by.Root.material.RekorLogs()[hex.EncodeToString([]byte(entry.LogKeyID()))]; log != nil && proof.Log == "" {
				proof.Log = log.BaseURL
			}
		}
	}
	return proof, nil
}

// accept returns why a verified certificate is of another signer.
func (id *Identity) accept(cert *certificate.Summary) error {
	switch {
	case cert.Issuer != id.Issuer:
		return fmt.Errorf("%w: it is signed by %s, whose issuer is %s and not %s", errOther, cert.SubjectAlternativeName, cert.Issuer, id.Issuer)
	case !matchIdentity(id.Pattern, cert.SubjectAlternativeName):
		return fmt.Errorf("%w: it is signed by %s, which is not %s", errOther, cert.SubjectAlternativeName, id.Pattern)
	}
	has := claims(cert.Extensions)
	for _, name := range Claims() {
		if want, ok := id.Claims[name]; ok && has[name] != want {
			return fmt.Errorf("%w: the certificate of %s has %s %q, not %q", errOther, cert.SubjectAlternativeName, name, has[name], want)
		}
	}
	return nil
}

// Claims returns the fields of a certificate that a policy may require besides issuer and
// identity, in order.
func Claims() []string {
	return slices.Sorted(maps.Keys(claims(certificate.Extensions{})))
}

func claims(e certificate.Extensions) map[string]string {
	return map[string]string{
		"buildSignerDigest": e.BuildSignerDigest, "buildSignerURI": e.BuildSignerURI, "buildTrigger": e.BuildTrigger,
		"runnerEnvironment": e.RunnerEnvironment, "sourceRepositoryDigest": e.SourceRepositoryDigest,
		"sourceRepositoryOwnerURI": e.SourceRepositoryOwnerURI, "sourceRepositoryRef": e.SourceRepositoryRef, "sourceRepositoryURI": e.SourceRepositoryURI,
	}
}

// Root is a trusted root: the certificate authorities, logs and timestamp authorities of a
// Sigstore instance.
type Root struct {
	material root.TrustedMaterial
	verifier *sgverify.Verifier
	log      bool
	// timestamp reports whether a token of a timestamp authority is required.
	timestamp bool
	// public reports whether it is the public Sigstore.
	public bool
}

// Want lists what signatures must come with. A nil field is required if the root supports it.
type Want struct {
	Log       *bool // an entry of a transparency log
	Timestamp *bool // a token of a timestamp authority
	SCT       *bool // a certificate listed in a certificate transparency log
}

// NewRoot parses a trusted root, in JSON.
func NewRoot(data []byte, want Want) (*Root, error) {
	material, err := sign.ReadTrustedRoot(data)
	if err != nil {
		return nil, err
	}
	if len(material.FulcioCertificateAuthorities()) == 0 {
		return nil, errors.New("trusted root: it lists no certificate authority")
	}
	r := &Root{material: material, public: isPublic(material)}
	var options []sgverify.VerifierOption
	wanted := func(what string, want *bool, has int, fallback bool) bool {
		if want == nil {
			return has > 0 && fallback
		}
		if *want && has == 0 {
			err = cmp.Or(err, fmt.Errorf("trusted root: %s is wanted, and it lists no authority for that", what))
		}
		return *want
	}
	r.log = wanted("log", want.Log, len(material.RekorLogs()), true)
	r.timestamp = wanted("timestamp", want.Timestamp, len(material.TimestampingAuthorities()), false)
	sct := wanted("sct", want.SCT, len(material.CTLogs()), true)
	if err != nil {
		return nil, err
	}
	if r.log {
		options = append(options, sgverify.WithTransparencyLog(1))
	}
	if sct {
		options = append(options, sgverify.WithSignedCertificateTimestamps(1))
	}
	switch {
	case r.timestamp:
		options = append(options, sgverify.WithSignedTimestamps(1))
	case r.log || len(material.TimestampingAuthorities()) > 0:
		options = append(options, sgverify.WithObserverTimestamps(1))
	default:
		return nil, errors.New("trusted root: it has neither a transparency log nor a timestamp authority, and so no time of signing")
	}
	if r.verifier, err = sgverify.NewVerifier(material, options...); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	return r, nil
}

// isPublic reports whether everything belongs to the public Sigstore, whose trusted root other
// programs fetch themselves.
func isPublic(material root.TrustedMaterial) bool {
	roots := []string{
		"03a38ffb1f450100c2596d1d10b900ac4d504058006dda58199576bbeb9c73d0", // until 2022
		"3ba7b6cc4e95469d4d334b49cb257ad8537076fa84b0ca87ff4ecfe6a54680c1",
	}
	for _, authority := range material.FulcioCertificateAuthorities() {
		ca, ok := authority.(*root.FulcioCertificateAuthority)
		if !ok || ca.Root == nil || !slices.Contains(roots, digest.FromBytes(ca.Root.Raw).Encoded()) {
			return false
		}
	}
	for _, log := range material.RekorLogs() {
		if u, err := url.Parse(log.BaseURL); err != nil || !strings.HasSuffix(u.Hostname(), ".sigstore.dev") {
			return false
		}
	}
	return true
}

// explain adds the meaning to an error of sigstore's library.
func (r *Root) explain(err error, cert *x509.Certificate) error {
	text := err.Error()
	for _, known := range []struct{ has, means string }{
		{"not enough verified log entries", "no entry of a log that the trusted root lists: it was not logged, or is of another Sigstore"},
		{"threshold not met for verified signed", "no log or authority of the trusted root states when it was signed"},
		{"log entry", "its log entry is not one of this signature"},
		{"transparency log", "its log entry is not one of this signature"},
		{"no valid observer timestamps", "no log or authority of the trusted root states when it was signed"},
		{"integrated time outside certificate validity", fmt.Sprintf("it was signed while its certificate was not valid (%s to %s)", utc(cert.NotBefore), utc(cert.NotAfter))},
		{"leaf certificate", fmt.Sprintf("no certificate authority of the trusted root certified it for when it was signed (the certificate is valid %s to %s)", utc(cert.NotBefore), utc(cert.NotAfter))},
		{"certificate timestamp", "its certificate is in no certificate transparency log of the trusted root (no SCT)"},
		{"verify signature", "the signature is not one of this content"},
	} {
		if strings.Contains(text, known.has) {
			return fmt.Errorf("%s: %w", known.means, err)
		}
	}
	return err
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
