// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	bundlev1 "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorv1 "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/taped-dev/tape/stages/artifact"
)

const (
	issuer   = "https://issuer.example"
	identity = "https://github.com/acme/shop/.github/workflows/ci.yml@refs/heads/main"
)

var manifest = digest.FromString("manifest")

// instance is a Sigstore instance.
type instance struct{ *ca.VirtualSigstore }

func newInstance(t *testing.T) instance {
	t.Helper()
	v, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	return instance{v}
}

// trusted returns the trusted root of the instance as a file.
func (i instance) trusted(t *testing.T) []byte {
	t.Helper()
	logs := func(all map[string]*root.TransparencyLog) map[string]*root.TransparencyLog {
		for id, log := range all {
			raw, err := hex.DecodeString(id)
			if err != nil {
				t.Fatal(err)
			}
			log.ID = raw
			if log.BaseURL == "test" {
				log.BaseURL = "https://ct.localhost"
			}
			log.SignatureHashFunc = log.HashFunc
		}
		return all
	}
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, i.FulcioCertificateAuthorities(), logs(i.CTLogs()), i.TimestampingAuthorities(), logs(i.RekorLogs()))
	if err != nil {
		t.Fatal(err)
	}
	data, err := tr.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// statement returns a statement about a manifest.
func statement(t *testing.T, of digest.Digest, predicateType string) []byte {
	t.Helper()
	s, err := artifact.NewStatement(predicateType, map[string]string{"result": "passed"}, artifact.Resource{Digest: artifact.DigestSet(of)})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// bundle signs a statement, which is logged a minute after at: the certificate is made after the
// caller looked at the clock, and must not begin after it was used.
func (i instance) bundle(t *testing.T, statement []byte, at time.Time) *bundlev1.Bundle {
	t.Helper()
	e, err := i.AttestAtTime(identity, issuer, statement, at.Add(time.Minute), true)
	if err != nil {
		t.Fatal(err)
	}
	content, err := e.VerificationContent()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := e.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	stamps, err := e.Timestamps()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := e.TlogEntries()
	if err != nil {
		t.Fatal(err)
	}
	entry := entries[0].TransparencyLogEntry()
	entry.KindVersion = &rekorv1.KindVersion{Kind: "dsse", Version: "0.0.1"}
	return &bundlev1.Bundle{
		MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
		VerificationMaterial: &bundlev1.VerificationMaterial{
			Content:                   &bundlev1.VerificationMaterial_Certificate{Certificate: &commonv1.X509Certificate{RawBytes: content.Certificate().Raw}},
			TlogEntries:               []*rekorv1.TransparencyLogEntry{entry},
			TimestampVerificationData: &bundlev1.TimestampVerificationData{Rfc3161Timestamps: []*commonv1.RFC3161SignedTimestamp{{SignedTimestamp: stamps[0]}}},
		},
		Content: &bundlev1.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: artifact.MediaTypeStatement, Signatures: []*protodsse.Signature{{Sig: signature.Signature()}},
		}},
	}
}

func encode(t *testing.T, b *bundlev1.Bundle) []byte {
	t.Helper()
	data, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var no, yes = new(bool), func() *bool { b := true; return &b }()

// authority returns an authority that accepts an identity of the instance. The virtual
// certificate authority has no certificate transparency log.
func (i instance) authority(t *testing.T, pattern string, want Want) *Authority {
	t.Helper()
	r, err := NewRoot(i.trusted(t), want)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewIdentity("ci", Identity{Root: r, Issuer: issuer, Pattern: pattern})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestKeyless(t *testing.T) {
	here, other := newInstance(t), newInstance(t)
	now := time.Now()
	good := here.bundle(t, statement(t, manifest, artifact.PredicateSignature), now)
	ci := here.authority(t, "https://github.com/acme/*", Want{SCT: no})

	proof, err := ci.Signature(t.Context(), encode(t, good), manifest)
	if err != nil {
		t.Fatal(err)
	}
	if proof.SignedAt == nil || proof.Authority != "ci" || proof.Issuer != issuer || proof.Identity != identity || proof.Log != "https://rekor.localhost" {
		t.Errorf("proof %+v", proof)
	}

	for name, c := range map[string]struct {
		by      *Authority
		bundle  func() *bundlev1.Bundle
		subject digest.Digest
		want    string
	}{
		"content":                  {subject: digest.FromString("content"), want: "the bundle signs " + manifest.String()},
		"no SCT":                   {by: here.authority(t, identity, Want{SCT: yes}), want: "no SCT"},
		"root of another instance": {by: other.authority(t, identity, Want{SCT: no}), want: "of another Sigstore"},
		"another identity":         {by: here.authority(t, "https://github.com/other/*", Want{SCT: no}), want: "it is signed by " + identity},
		"a prefix of the identity": {by: here.authority(t, "https://github.com/acme/shop", Want{SCT: no}), want: "which is not"},
		"log entry of another": {bundle: func() *bundlev1.Bundle {
			b := here.bundle(t, statement(t, manifest, artifact.PredicateSignature), now)
			b.VerificationMaterial.TlogEntries = here.bundle(t, statement(t, digest.FromString("other"), artifact.PredicateSignature), now).VerificationMaterial.TlogEntries
			return b
		}, want: "its log entry is not one of this signature"},
		"not logged": {bundle: func() *bundlev1.Bundle {
			b := here.bundle(t, statement(t, manifest, artifact.PredicateSignature), now)
			b.VerificationMaterial.TlogEntries = nil
			return b
		}, want: "no entry of a log"},
		"not stamped": {bundle: func() *bundlev1.Bundle {
			b := here.bundle(t, statement(t, manifest, artifact.PredicateSignature), now)
			b.VerificationMaterial.TimestampVerificationData = nil
			return b
		}, want: "no log or authority of the trusted root states when"},
		"stamp of another": {bundle: func() *bundlev1.Bundle {
			b := here.bundle(t, statement(t, manifest, artifact.PredicateSignature), now)
			b.VerificationMaterial.TimestampVerificationData = good.VerificationMaterial.TimestampVerificationData
			return b
		}, want: "states when"},
		"expired when logged": {bundle: func() *bundlev1.Bundle {
			return here.bundle(t, statement(t, manifest, artifact.PredicateSignature), now.Add(-2*time.Hour))
		}, want: "while its certificate was not valid"},
		"a claim": {bundle: func() *bundlev1.Bundle {
			return here.bundle(t, statement(t, manifest, "https://slsa.dev/verification_summary/v1"), now)
		}, want: "the statement is a https://slsa.dev/verification_summary/v1"},
	} {
		t.Run(name, func(t *testing.T) {
			by, bundle, subject := ci, good, manifest
			if c.by != nil {
				by = c.by
			}
			if c.bundle != nil {
				bundle = c.bundle()
			}
			if c.subject != "" {
				subject = c.subject
			}
			_, err := by.Signature(t.Context(), encode(t, bundle), subject)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}

	wrong := *ci.Identity
	wrong.Issuer = issuer + "/"
	if _, err := (&Authority{Identity: &wrong}).Signature(t.Context(), encode(t, good), manifest); !errors.Is(err, errOther) {
		t.Errorf("another issuer: %v", err)
	}
	wrong.Issuer, wrong.Claims = issuer, map[string]string{"runnerEnvironment": "self-hosted"}
	if _, err := (&Authority{Identity: &wrong}).Signature(t.Context(), encode(t, good), manifest); !errors.Is(err, errOther) || !strings.Contains(err.Error(), "runnerEnvironment") {
		t.Errorf("another claim: %v", err)
	}
}

// A bundle with a changed byte is rejected, or has the same meaning.
func TestFlippedBundle(t *testing.T) {
	here := newInstance(t)
	ci := here.authority(t, identity, Want{SCT: no})
	data := encode(t, here.bundle(t, statement(t, manifest, artifact.PredicateSignature), time.Now()))
	want, err := ci.Signature(t.Context(), data, manifest)
	if err != nil {
		t.Fatal(err)
	}
	// Testing every byte takes ten seconds, so each run tests others.
	const step = 29
	for i := rand.IntN(step); i < len(data); i += step {
		flipped := append([]byte{}, data...)
		flipped[i] ^= 1
		got, err := ci.Signature(t.Context(), flipped, manifest)
		if err != nil {
			continue
		}
		if got.Identity != want.Identity || got.Issuer != want.Issuer || got.SignedAt == nil || !got.SignedAt.Equal(*want.SignedAt) || got.Log != want.Log {
			t.Errorf("byte %d: %+v, want %+v", i, got, want)
		}
	}
}

// simple signs an image as cosign did before version 3.
func (i instance) simple(t *testing.T, of digest.Digest) (payload []byte, annotations map[string]string) {
	t.Helper()
	payload = fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, of)
	e, err := i.SignAtTime(identity, issuer, payload, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	signature, annotations := i.vouched(t, e)
	annotations[annotationSignature] = base64.StdEncoding.EncodeToString(signature)
	return payload, annotations
}

// vouched returns a signature, and the annotations in which cosign before version 3 stores the
// certificate of its signer and the log's promise.
func (i instance) vouched(t *testing.T, e *ca.TestEntity) (signature []byte, annotations map[string]string) {
	t.Helper()
	content, _ := e.VerificationContent()
	signed, _ := e.SignatureContent()
	entries, _ := e.TlogEntries()
	entry := entries[0].TransparencyLogEntry()
	p := tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(entry.CanonicalizedBody), IntegratedTime: entry.IntegratedTime,
		LogIndex: entry.LogIndex, LogID: hex.EncodeToString(entry.LogId.KeyId),
	}
	set, err := i.RekorSignPayload(p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"SignedEntryTimestamp": set, "Payload": p})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := cryptoutils.MarshalCertificateToPEM(content.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return signed.Signature(), map[string]string{annotationCertificate: string(cert), annotationBundle: string(b)}
}

// Rekor v1 promises an entry with its time: no other timestamp is needed.
func TestPromise(t *testing.T) {
	here := newInstance(t)
	now := time.Now().Truncate(time.Second)
	b := here.bundle(t, statement(t, manifest, artifact.PredicateSignature), now)
	entry := b.VerificationMaterial.TlogEntries[0]
	set, err := here.RekorSignPayload(tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(entry.CanonicalizedBody), IntegratedTime: entry.IntegratedTime,
		LogIndex: entry.LogIndex, LogID: hex.EncodeToString(entry.LogId.KeyId),
	})
	if err != nil {
		t.Fatal(err)
	}
	entry.InclusionPromise = &rekorv1.InclusionPromise{SignedEntryTimestamp: set}
	b.VerificationMaterial.TimestampVerificationData = nil
	proof, err := here.authority(t, identity, Want{SCT: no, Log: yes}).Signature(t.Context(), encode(t, b), manifest)
	if err != nil {
		t.Fatal(err)
	}
	if proof.SignedAt == nil || !proof.SignedAt.Equal(now.Add(time.Minute)) || proof.Log == "" {
		t.Errorf("proof %+v", proof)
	}
	if _, err := here.authority(t, identity, Want{SCT: no, Timestamp: yes}).Signature(t.Context(), encode(t, b), manifest); err == nil || !strings.Contains(err.Error(), "states when it was signed") {
		t.Errorf("where a timestamp is wanted: %v", err)
	}
	entry.InclusionPromise.SignedEntryTimestamp[8] ^= 1
	if _, err := here.authority(t, identity, Want{SCT: no, Log: yes}).Signature(t.Context(), encode(t, b), manifest); err == nil {
		t.Error("a promise that was changed counts")
	}
}

func TestSimple(t *testing.T) {
	here, other := newInstance(t), newInstance(t)
	ci := here.authority(t, "https://github.com/acme/*", Want{SCT: no})
	payload, annotations := here.simple(t, manifest)
	proof, err := ci.Simple(t.Context(), payload, annotations, manifest)
	if err != nil {
		t.Fatal(err)
	}
	if proof.Identity != identity || proof.Log != "https://rekor.localhost" || proof.SignedAt == nil {
		t.Errorf("proof %+v", proof)
	}
	_, others := here.simple(t, digest.FromString("other"))
	for name, c := range map[string]struct {
		by      *Authority
		change  map[string]string
		subject digest.Digest
		want    string
	}{
		"another image":        {subject: digest.FromString("other"), want: "the signature is for " + manifest.String()},
		"another instance":     {by: other.authority(t, identity, Want{SCT: no}), want: "of another Sigstore"},
		"not logged":           {change: map[string]string{annotationBundle: ""}, want: "no entry of a log"},
		"log entry of another": {change: map[string]string{annotationBundle: others[annotationBundle]}, want: "its log entry is not one of this signature"},
		"not certified":        {change: map[string]string{annotationCertificate: ""}, want: "signed with a key"},
		"certificate of other": {change: map[string]string{annotationCertificate: others[annotationCertificate]}, want: "verify"},
	} {
		t.Run(name, func(t *testing.T) {
			by, subject := ci, manifest
			if c.by != nil {
				by = c.by
			}
			if c.subject != "" {
				subject = c.subject
			}
			changed := map[string]string{}
			for key, value := range annotations {
				changed[key] = value
			}
			for key, value := range c.change {
				changed[key] = value
			}
			if _, err := by.Simple(t.Context(), payload, changed, subject); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	for pattern, ok := range map[string]bool{
		"https://github.com/acme/*": true, "https://git.acme.example/*/shop/.github/workflows/ci.yml@refs/tags/*": true, "*@acme.example": true, "ops@acme.example": true,
		"": false, "*": false, "https://*/acme": false, "https://*.example/acme/*": false, "https://github.com*": false, "https://github.com/acme*": false,
		"ops@*": false, "*@*": false, "*@*.example": false, "*/acme/*": false, "https://github.com/**": false, "https://github.com/*": false, "https://gitlab.com/*/shop": false, "https://git.acme.example/*": true,
		"https://github.com/acme/../*": false, "https://github.com/acme/./*": false, "https://github.com/a%20b/*": false, "https://github.com/acme/?x/*": false, "github.com/acme/*": false,
	} {
		if err := CheckPattern(pattern); (err == nil) != ok {
			t.Errorf("%q: error %v", pattern, err)
		}
	}
	for _, c := range []struct {
		pattern, identity string
		ok                bool
	}{
		{"https://github.com/acme/*", "https://github.com/acme/shop", true},
		{"https://github.com/acme/*", "https://github.com/acme/shop/.github/workflows/ci.yml@refs/heads/main", true},
		{"https://github.com/acme/*", "https://github.com/acme", false},
		{"https://github.com/acme/*", "https://github.com/acme/", false},
		{"https://github.com/acme/*", "https://github.com/acme-evil/shop", false},
		{"https://github.com/acme/*", "https://github.com.evil/acme/shop", false},
		{"https://github.com/acme/*", "https://github.com/acme/../evil/shop", false},
		{"https://github.com/acme/*", "https://github.com/acme/%2e%2e/evil", false},
		{"https://github.com/acme/*", "https://evil/?https://github.com/acme/x", false},
		{"https://github.com/acme/*/ci.yml@refs/tags/*", "https://github.com/acme/shop/ci.yml@refs/tags/v1", true},
		{"https://github.com/acme/*/ci.yml@refs/tags/*", "https://github.com/acme/shop/x/ci.yml@refs/tags/v1", false},
		{"https://github.com/acme/*/ci.yml@refs/tags/*", "https://github.com/acme/shop/ci.yml@refs/heads/x", false},
		{"https://github.com/acme/ci.yml@*", "https://github.com/acme/ci.yml@refs/heads/x", true},
		{"*@acme.example", "ops@acme.example", true},
		{"*@acme.example", "ops@evil.example@acme.example", false},
		{"*@acme.example", "ops@acme.example.evil", false},
		{"ops@acme.example", "ops@acme.example", true},
		{"ops@acme.example", "Ops@acme.example", false},
	} {
		if got := matchIdentity(c.pattern, c.identity); got != c.ok {
			t.Errorf("%q, %q: %v", c.pattern, c.identity, got)
		}
	}
	const acme = "https://github.com/acme/"
	for pattern, matching := range map[string][]string{
		"https://github.com/acme/*": {
			acme + "web/.github/workflows/ci.yaml@refs/heads/main", acme + "web", acme + "...", acme + "..x", acme + "a//x/", acme + "web/ci@v1", acme + "a/ci@v1", acme + "a/b/ci@v1",
		},
		"https://github.com/acme/*/ci@v1":  {acme + "web/ci@v1", acme + "a/ci@v1"},
		"https://git.acme.example/*/web/*": {"https://git.acme.example/team/web/ci"},
		"*@acme.example":                   {"dev@acme.example"},
		"dev@acme.example":                 {"dev@acme.example"},
		"https://github.com/acme/web":      {acme + "web"},
	} {
		for _, identity := range []string{
			acme + "web/.github/workflows/ci.yaml@refs/heads/main", acme + "web", "https://git.acme.example/team/web/ci", "https://git.acme.example/team/x/web/ci", acme, "https://github.com/acme",
			acme + "../evil/x", acme + "./x", acme + "...", acme + "..x", acme + "a/..", acme + "@x",
			acme + "/x", acme + "a//x/", acme + "a%2fb", acme + "a?b", acme + "a#b", acme + `a\b`,
			"https://githubXcom/acme/web", "http://github.com/acme/web", acme + "web/ci@v1", acme + "../ci@v1", "dev@acme.example", "x@dev@acme.example",
			"dev@acme.example.evil", "@acme.example", "..@acme.example", "dev@acmeXexample", acme + "a/ci@v1", acme + "a/b/ci@v1", "prefix https://github.com/acme/web",
		} {
			if got := matchIdentity(pattern, identity); got != slices.Contains(matching, identity) {
				t.Errorf("%q, %q: %v", pattern, identity, got)
			}
		}
	}
	for glob, ok := range map[string]bool{
		"ex.io/*": true, "ex.io/team/*": true, "ex.io/team/**": true, "ex.io/*/web": true, "localhost/x": true, "ex.io:5000/x-*": true, "docker.io/library/nginx": true,
		"": false, "*": false, "*/web": false, "ex.*/web": false, "ex.io": false, "ex.io/": false, "ex.io/../x": false, "ex.io/./x": false, "ex.io//x": false,
		"https://ex.io/x": false, "ex.io/x:1": false, "ex.io/x@sha256:1": false, "ex.io/**/x": false, "ex.io/[a]": false, "ex.io/X": false, "library/nginx": false, "ex.io/a?": false,
	} {
		if err := checkGlob(glob); (err == nil) != ok {
			t.Errorf("%q: error %v", glob, err)
		}
	}
	for _, c := range []struct {
		glob, name string
		ok         bool
	}{
		{"ex.io/*", "ex.io/a", true}, {"ex.io/*", "ex.io/a/b", true}, {"ex.io/*", "ex.io.evil/a", false}, {"ex.io/*", "ex.io", false},
		{"ex.io/*/web", "ex.io/a/web", true}, {"ex.io/*/web", "ex.io/a/b/web", false}, {"ex.io/team", "ex.io/team/x", false},
		{"ex.io/x-*", "ex.io/x-1", true}, {"ex.io/x-*", "ex.io/x-1/y", false}, {"ex.io/a*b*c", "ex.io/aXbYc", true}, {"ex.io/a*b*c", "ex.io/abc", true}, {"ex.io/ab*ba", "ex.io/aba", false},
	} {
		if got := matchGlob(c.glob, c.name); got != c.ok {
			t.Errorf("%q, %q: %v", c.glob, c.name, got)
		}
	}
}
