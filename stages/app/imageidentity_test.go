// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/rekor/pkg/generated/models"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign/sigstoretest"
)

// signOlder signs an image as an identity, like cosign before version 3: the tag .sig leads to
// the signature, for which a Rekor v1 has an entry.
func (s *sigstore) signOlder(t *testing.T, to shelf, image ocispec.Descriptor, who string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(data []byte) []byte {
		sum := sha256.Sum256(data)
		signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := s.Certify(sigstoretest.Identity{Subject: who, Issuer: s.URL}, string(public), signed([]byte(who)))
	if err != nil {
		t.Fatal(err)
	}
	certified := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	payload := fmt.Sprintf(`{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, image.Digest)
	signature, sum := signed([]byte(payload)), sha256.Sum256([]byte(payload))
	entry, err := json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
		"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
		"signature": map[string]any{"content": signature, "publicKey": map[string]any{"content": certified}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(s.URL+"/api/v1/log/entries", "application/json", bytes.NewReader(entry))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var entries map[string]models.LogEntryAnon
	if err := json.NewDecoder(answer.Body).Decode(&entries); err != nil || len(entries) != 1 {
		t.Fatal(err, answer.Status)
	}
	annotations := map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature), "dev.sigstore.cosign/certificate": string(certified)}
	for _, e := range entries {
		promise, err := json.Marshal(map[string]any{"SignedEntryTimestamp": e.Verification.SignedEntryTimestamp, "Payload": map[string]any{
			"body": e.Body, "integratedTime": e.IntegratedTime, "logIndex": e.LogIndex, "logID": e.LogID,
		}})
		if err != nil {
			t.Fatal(err)
		}
		annotations["dev.sigstore.cosign/bundle"] = string(promise)
	}
	layer := to.blob("application/vnd.dev.cosign.simplesigning.v1+json", payload)
	layer.Annotations = annotations
	to.put(ocispec.MediaTypeImageManifest, registry.AttachedTag(image.Digest, ".sig"), map[string]any{
		"config": to.blob(ocispec.MediaTypeImageConfig, "{}"), "layers": []ocispec.Descriptor{layer},
	})
}

// Publishers sign images without a key, in bundles and like cosign before version 3. Both are
// verified when the Sigstore instance is gone, by options and by a trust file.
func TestImageIdentity(t *testing.T) {
	m := newMarket(t)
	vendors, other := newSigstore(t, m.env), newSigstore(t, m.env)
	const who = "https://github.com/acme/web/.github/workflows/release.yml@refs/tags/v1"
	image := func(name string) (shelf, ocispec.Descriptor) {
		r, err := m.env.Registry.Repository("registry.example/acme/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return shelf{t, r}, m.image(t, "acme/"+name, "1", nil)
	}
	bundled, of := image("bundled")
	attach(t, bundled.Repository, of, statementBy(t, vendors.signer(t, who), of.Digest, artifact.PredicateSignature))
	older, of := image("older")
	vendors.signOlder(t, older, of, who)
	swapped, of := image("swapped") // has the signature of another image
	_, different := image("different")
	attach(t, swapped.Repository, of, statementBy(t, vendors.signer(t, who), different.Digest, artifact.PredicateSignature))
	image("unsigned")
	for _, name := range []string{"bundled", "older", "swapped", "unsigned"} {
		m.release(t, name, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: registry.example/acme/%s:1}]}\n", name))
	}
	vendors.Close()
	other.Close()
	for _, c := range []struct {
		name, tag       string
		of              *sigstore
		issuer, pattern string
		want            string // "": it is proven
	}{
		{"bundle", "bundled", vendors, vendors.URL, who, ""},
		{"older", "older", vendors, vendors.URL, "https://github.com/acme/*", ""},
		{"another identity", "bundled", vendors, vendors.URL, "https://github.com/bank/*", "it is signed by " + who},
		{"another identity, older", "older", vendors, vendors.URL, "https://github.com/bank/*", "it is signed by " + who},
		{"another issuer", "bundled", vendors, "https://issuer.example", who, "whose issuer is " + vendors.URL + " and not https://issuer.example"},
		{"another issuer, older", "older", vendors, "https://issuer.example", who, "whose issuer is " + vendors.URL + " and not https://issuer.example"},
		{"another Sigstore", "bundled", other, vendors.URL, who, "of another Sigstore"},
		{"another Sigstore, older", "older", other, vendors.URL, who, "of another Sigstore"},
		{"signature of another image", "swapped", vendors, vendors.URL, who, "the bundle signs " + different.Digest.String()},
		{"not signed", "unsigned", vendors, vendors.URL, who, "no signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name, ref := "registry.example/acme/"+c.tag+":1", m.shop.Name()+":"+c.tag
			r, err := app.Verify(t.Context(), app.VerifyOptions{
				Environment: m.env, Ref: ref, Key: m.keys["vendor"], ImageIdentity: app.Identity{TrustedRoot: c.of.trusted, Issuer: c.issuer, Pattern: c.pattern},
			})
			if err != nil {
				t.Fatal(err)
			}
			if reason := failing(r)["signature of image "+name]; r.OK != (c.want == "") || !strings.Contains(reason, c.want) {
				t.Errorf("%v, want %q", failing(r), c.want)
			}
			file := filepath.Join(t.TempDir(), "trust.yaml")
			if err := os.WriteFile(file, fmt.Appendf(nil, `apiVersion: tape/v1
kind: Trust
roots: {r: {file: %q}}
authorities: {ci: {root: r, issuer: %q, identity: %q}}
images: [{names: ["registry.example/acme/*"], require: ci}]
`, c.of.trusted, c.issuer, c.pattern), 0o600); err != nil {
				t.Fatal(err)
			}
			trusted, err := app.Verify(t.Context(), app.VerifyOptions{Environment: m.env, Ref: ref, Trust: file})
			if err != nil {
				t.Fatal(err)
			}
			if reason := failing(trusted)["trust in image "+name]; trusted.OK != (c.want == "") || !strings.Contains(reason, c.want) || reason != "" && !strings.HasPrefix(reason, "shop.yaml:4:") {
				t.Errorf("trust file: %v, want %q", failing(trusted), c.want)
			}
			if c.want != "" {
				return
			}
			for _, l := range append(r.Links, trusted.Links...) {
				if (strings.HasPrefix(l.Name, "signature of") || l.Rule != "") && (l.Identity != who || l.Issuer != vendors.URL || l.SignedAt == nil || l.Log != vendors.URL) {
					t.Errorf("%+v", l)
				}
			}
		})
	}
}
