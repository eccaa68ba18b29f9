// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/stagetest"
	"github.com/taped-dev/tape/stages/artifact"
)

func password(s string) Password { return func(bool) ([]byte, error) { return []byte(s), nil } }

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// pair generates a key pair and loads it from files.
func pair(t *testing.T, secret string) (*Key, signature.Verifier) {
	t.Helper()
	private, public, err := GenerateKey(password(secret))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := LoadSigner(t.Context(), write(t, "k.key", private), password(secret))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := LoadVerifier(write(t, "k.pub", public))
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func TestSignAndVerify(t *testing.T) {
	ctx := context.Background()
	dgst := digest.FromString("a manifest")
	for _, secret := range []string{"", "correct horse"} {
		signer, verifier := pair(t, secret)
		bundle, err := Bundle(ctx, signer, dgst)
		if err != nil {
			t.Fatal(err)
		}
		claim, err := Verify(ctx, verifier, bundle, dgst)
		if err != nil {
			t.Fatal(err)
		}
		if claim.Subject != dgst || claim.PredicateType != predicateType || claim.KeyHint == "" {
			t.Errorf("claim = %+v", claim)
		}
		if _, err := Verify(ctx, verifier, bundle, digest.FromString("another")); err == nil || !strings.Contains(err.Error(), "the bundle signs "+dgst.String()) {
			t.Errorf("a bundle for another digest: %v", err)
		}
		_, other := pair(t, "")
		if _, err := Verify(ctx, other, bundle, dgst); err == nil || !strings.Contains(err.Error(), "not signed by this key") {
			t.Errorf("another key: %v", err)
		}
	}
}

// TestIndependentVerifier checks that sigstore's own verifier accepts signatures.
func TestIndependentVerifier(t *testing.T) {
	ctx := context.Background()
	signer, verifier := pair(t, "")
	data := []byte("a manifest")
	raw, err := Bundle(ctx, signer, digest.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	var b sgbundle.Bundle
	if err := b.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(verifier, time.Time{}, time.Time{}), nil
	})
	v, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(&b, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(data)), verify.WithKey())); err != nil {
		t.Errorf("sigstore-go: %v", err)
	}
}

// TestTampered flips every byte of a bundle in turn: the signature is never accepted for
// anything else.
func TestTampered(t *testing.T) {
	ctx := context.Background()
	signer, verifier := pair(t, "")
	dgst := digest.FromString("a manifest")
	bundle, err := Bundle(ctx, signer, dgst)
	if err != nil {
		t.Fatal(err)
	}
	start := bytes.Index(bundle, []byte(`"dsseEnvelope"`))
	for i := start; i < len(bundle); i++ {
		broken := bytes.Clone(bundle)
		broken[i] ^= 0x01
		claim, err := Verify(ctx, verifier, broken, dgst)
		if err == nil && claim.Subject != dgst {
			t.Fatalf("byte %d (%q) flipped: verified as %s", i, bundle[i], claim.Subject)
		}
	}
	// The payload and the signature themselves.
	for _, part := range []string{`"payload":"`, `"sig":"`} {
		i := bytes.Index(bundle, []byte(part)) + len(part) + 4
		broken := bytes.Clone(bundle)
		if broken[i] == 'A' {
			broken[i] = 'B'
		} else {
			broken[i] = 'A'
		}
		if _, err := Verify(ctx, verifier, broken, dgst); err == nil {
			t.Errorf("%s changed: still verifies", part)
		}
	}
}

// opensslKey was made by "openssl pkcs8 -topk8 -iter 1 -passout pass:pw".
const opensslKey = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHrMFYGCSqGSIb3DQEFDTBJMCgGCSqGSIb3DQEFDDAbBAjBdD4BvcrHiwIBATAM
BggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQrpOhKtetL7EiJYqAAptvcQSBkN7u
5I+hWfcyJyAVpgQCuU1OwJjyY6IRRr/sLLPeSapOIuT5W6FrGrKEW+kcHnwj2h1S
M16xl0/dZUXLGOG8TluOl4KuoQNh6ClSz0eWC8Qr0iZpfYzjoO73C4JjwxoH6N/t
dM3ekejZQPkhUqH3yLFibqsO6sgGNCrm987JLEiMa+JJN6Qt5ibGywAI8/bgew==
-----END ENCRYPTED PRIVATE KEY-----
`

func TestKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKCS8PrivateKey(key)
	sec1, _ := x509.MarshalECPrivateKey(key)
	sealed, _ := encrypted.Encrypt(der, []byte("pw"))
	block := func(kind string, data []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}) }
	private, public, _ := GenerateKey(password("pw"))
	_, another, _ := GenerateKey(nil)
	for _, c := range []struct {
		name, secret, err string
		data              []byte
	}{
		{name: "pkcs8", data: block("PRIVATE KEY", der)},
		{name: "sec1", data: block("EC PRIVATE KEY", sec1)},
		{name: "of openssl ecparam", data: append(block("EC PARAMETERS", []byte{6, 0}), block("EC PRIVATE KEY", sec1)...)},
		{name: "with a byte order mark", data: append([]byte("\ufeff"), block("PRIVATE KEY", der)...)},
		{name: "with its public key", data: append(block("PRIVATE KEY", der), public...)},
		{name: "openssl", secret: "pw", data: []byte(opensslKey)},
		{name: "openssl, wrong password", secret: "no", data: []byte(opensslKey), err: "wrong password"},
		{name: "openssl, no password", data: []byte(opensslKey), err: "wrong password"},
		{name: "two", data: append(block("PRIVATE KEY", der), block("PRIVATE KEY", der)...), err: `more than one "PRIVATE KEY"`},
		{name: "certificate", data: block("CERTIFICATE", der), err: "this is a certificate; signing needs the private one"},
		{name: "OpenSSH", data: block("OPENSSH PRIVATE KEY", der), err: "this is a key in the format of OpenSSH; generate a pair"},
		{name: "old cosign", secret: "pw", data: block("ENCRYPTED COSIGN PRIVATE KEY", sealed)},
		{name: "sigstore", secret: "pw", data: private},
		{name: "wrong password", secret: "no", data: private, err: "wrong password"},
		{name: "public", data: public, err: "signing needs the private one"},
		{name: "not pem", data: []byte("hello"), err: "not a PEM file"},
	} {
		_, err := LoadSigner(t.Context(), write(t, "k", c.data), password(c.secret))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
	}
	for name, c := range map[string]struct {
		data []byte
		err  string
	}{
		"private":                {private, "needs a public key"},
		"certificate":            {block("CERTIFICATE", der), "openssl x509 -pubkey"},
		"OpenSSH":                {[]byte("ssh-ed25519 AAAA a@b\n"), "ssh-keygen -e -m PKCS8"},
		"two":                    {append(public[:len(public):len(public)], another...), `more than one "PUBLIC KEY"`},
		"with a byte order mark": {append([]byte("\ufeff"), public...), ""},
		"with its certificate":   {append(public[:len(public):len(public)], block("CERTIFICATE", der)...), ""},
	} {
		_, err := LoadVerifier(write(t, "k", c.data))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("verify with %s: error %v, want %q", name, err, c.err)
		}
	}
}

// TestManifestShape compares the referrer with that of cosign 3.
func TestManifestShape(t *testing.T) {
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("root"), Size: 4,
		Annotations: map[string]string{"not": "carried"}}
	manifest, err := Manifest([]byte(`{"a":1}`), subject)
	if err != nil {
		t.Fatal(err)
	}
	desc, data := manifest.Desc, manifest.Data
	if digest.FromBytes(data) != desc.Digest || int64(len(data)) != desc.Size {
		t.Errorf("descriptor %+v does not describe the bytes", desc)
	}
	want := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},` +
		`"layers":[{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","digest":"sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862","size":7}],` +
		`"subject":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"` + subject.Digest.String() + `","size":4},` +
		`"annotations":{"dev.sigstore.bundle.content":"dsse-envelope","dev.sigstore.bundle.predicateType":"https://sigstore.dev/cosign/sign/v1"}}`
	if string(data) != want {
		t.Errorf("manifest\n%s\nwant\n%s", data, want)
	}
}

func TestReadGarbage(t *testing.T) {
	statement, err := artifact.NewStatement(predicateType, struct{}{},
		artifact.Resource{Digest: map[string]string{"sha256": strings.Repeat("a", 64)}}, artifact.Resource{Digest: map[string]string{"sha256": strings.Repeat("b", 64)}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := json.Marshal(statement)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ data, err string }{
		"empty":        {"", "read bundle: it is not a bundle of Sigstore in JSON"},
		"no envelope":  {`{"mediaType":"` + MediaType + `"}`, "no DSSE envelope"},
		"two subjects": {`{"dsseEnvelope":{"payload":` + b64JSON(two) + `}}`, "2 subjects"},
	} {
		if _, err := Read([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func b64JSON(data []byte) string {
	out, _ := json.Marshal(data)
	return string(out)
}

// TestStage checks that signing again gives the same bytes, and that nothing is signed without
// a key.
func TestStage(t *testing.T) {
	signer, verifier := pair(t, "")
	stage := func(signer Signer) *Stage {
		s, err := New(Config{}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	c := stagetest.Case{Stage: stage(signer), Inputs: map[string]stagetest.Blob{
		"root": {MediaType: ocispec.MediaTypeImageIndex, Data: []byte(`{"root":1}`)}, "content": {MediaType: ocispec.MediaTypeImageManifest, Data: []byte(`{"content":1}`)},
	}}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signatures, err := artifact.Signatures(t.Context(), r.Store, r.Descriptors["signatures"])
	if err != nil {
		t.Fatal(err)
	}
	if len(signatures) != 2 {
		t.Fatalf("%d signatures, want those of root and content", len(signatures))
	}
	for i, subject := range []digest.Digest{digest.FromString(`{"root":1}`), digest.FromString(`{"content":1}`)} {
		data, err := engine.Get(t.Context(), r.Store, signatures[i])
		if err != nil {
			t.Fatal(err)
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		bundle, err := engine.Get(t.Context(), r.Store, m.Layers[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Get(t.Context(), r.Store, m.Config); err != nil {
			t.Error(err)
		}
		if _, err := Verify(t.Context(), verifier, bundle, subject); err != nil || m.Subject.Digest != subject {
			t.Errorf("signature %d of %s: %v", i, m.Subject.Digest, err)
		}
	}

	c.Stage = stage(nil)
	if r, err = c.Run(t.Context()); err != nil || !strings.Contains(string(r.Outputs["signatures"].Data), `"manifests":[]`) {
		t.Errorf("without a key: %s, %v", r.Outputs["signatures"].Data, err)
	}
}

// A parsed bundle has the digest of one manifest; if any byte of its statement or signature was
// changed, it does not verify with the key.
func FuzzBundle(f *testing.F) {
	private, public, err := GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	for name, data := range map[string][]byte{"k.key": private, "k.pub": public} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			f.Fatal(err)
		}
	}
	signer, err := LoadSigner(f.Context(), filepath.Join(dir, "k.key"), nil)
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := LoadVerifier(filepath.Join(dir, "k.pub"))
	if err != nil {
		f.Fatal(err)
	}
	manifest := digest.FromString("manifest")
	good, err := Bundle(f.Context(), signer, manifest)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{}]}}`))
	f.Add([]byte(`{}`))
	other := digest.FromString("other")
	f.Fuzz(func(t *testing.T, bundle []byte) {
		claim, err := Read(bundle)
		if err == nil && claim.Subject.Validate() != nil {
			t.Errorf("subject %q", claim.Subject)
		}
		if _, err := Verify(t.Context(), verifier, bundle, other); err == nil {
			t.Error("a bundle that the key never made is verified")
		}
	})
}
