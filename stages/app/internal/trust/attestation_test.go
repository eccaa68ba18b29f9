// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

const scanned = "https://cosign.sigstore.dev/attestation/vuln/v1"

// envelope returns a DSSE envelope like those of cosign before version 3.
func envelope(t *testing.T, statement, sig []byte) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"payloadType": artifact.MediaTypeStatement, "payload": statement,
		"signatures": []any{map[string]any{"keyid": "", "sig": sig}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// attestation returns one by an identity, with an entry of Rekor v1 that only has the log's
// promise.
func (i instance) attestation(t *testing.T, statement []byte) (data []byte, annotations map[string]string) {
	t.Helper()
	e, err := i.AttestAtTime(identity, issuer, statement, time.Now().Add(time.Minute), false)
	if err != nil {
		t.Fatal(err)
	}
	signature, annotations := i.vouched(t, e)
	annotations[annotationSignature], annotations["predicateType"] = "", scanned
	return envelope(t, statement, signature), annotations
}

// TestAttestations checks attestations of cosign before version 3 with a rule, each as a layer
// of one manifest.
func TestAttestations(t *testing.T) {
	here, other := newInstance(t), newInstance(t)
	dir, keys := folder(t)
	public, err := sign.LoadVerifier(filepath.Join(dir, "a.pub"))
	if err != nil {
		t.Fatal(err)
	}
	statementOf := func(of digest.Digest, predicateType string, predicate any) []byte {
		t.Helper()
		s, err := artifact.NewStatement(predicateType, predicate, artifact.Resource{Name: "x", Digest: artifact.DigestSet(of)})
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	clean := map[string]any{"result": map[string]any{"status": "clean"}}
	good := statementOf(manifest, scanned, clean)
	byKey := func(statement []byte) ([]byte, map[string]string) {
		t.Helper()
		bundle, err := keys["a"].Bundle(t.Context(), statement)
		if err != nil {
			t.Fatal(err)
		}
		var b struct {
			Envelope struct{ Signatures []struct{ Sig []byte } } `json:"dsseEnvelope"`
		}
		if err := json.Unmarshal(bundle, &b); err != nil {
			t.Fatal(err)
		}
		return envelope(t, statement, b.Envelope.Signatures[0].Sig), nil
	}
	ci := here.authority(t, identity, Want{SCT: no, Log: yes})
	key := &Authority{Name: "key", Key: public}
	type layers [][]any
	one := func(data []byte, annotations map[string]string) layers { return layers{{data, annotations}} }
	for name, c := range map[string]struct {
		by     *Authority
		layers layers
		fields map[string]string
		want   string
	}{
		"by a key":              {key, one(byKey(good)), map[string]string{"result.status": "clean"}, ""},
		"by an identity":        {ci, one(here.attestation(t, good)), map[string]string{"result.status": "clean"}, ""},
		"beside a broken one":   {ci, append(layers{{[]byte("{"), map[string]string(nil)}}, one(here.attestation(t, good))...), nil, ""},
		"another field":         {key, one(byKey(statementOf(manifest, scanned, map[string]any{"result": map[string]any{"status": "dirty"}}))), map[string]string{"result.status": "clean"}, `result.status is "dirty", not "clean"`},
		"another type":          {key, one(byKey(statementOf(manifest, "https://spdx.dev/Document", clean))), nil, "no such statement is attached"},
		"of another image":      {key, one(byKey(statementOf(digest.FromString("other"), scanned, clean))), nil, "the bundle signs"},
		"by another":            {ci, one(byKey(good)), nil, "signed with a key, not by an identity"},
		"identity, not the key": {key, one(here.attestation(t, good)), nil, "not signed by this key"},
		"of another instance":   {other.authority(t, identity, Want{SCT: no}), one(here.attestation(t, good)), nil, "of another Sigstore"},
		"not an envelope":       {key, layers{{[]byte(`[]`), map[string]string(nil)}}, nil, "attestation:"},
		"a broken certificate":  {ci, layers{{envelope(t, good, []byte("x")), map[string]string{annotationCertificate: "x"}}}, nil, "certificate"},
		"not logged": {ci, func() layers {
			data, annotations := here.attestation(t, good)
			delete(annotations, annotationBundle)
			return one(data, annotations)
		}(), nil, "no entry of a log"},
		"logged for another": {ci, func() layers {
			data, annotations := here.attestation(t, good)
			_, others := here.attestation(t, statementOf(digest.FromString("other"), scanned, clean))
			annotations[annotationBundle] = others[annotationBundle]
			return one(data, annotations)
		}(), nil, "its log entry is not one of this signature"},
	} {
		t.Run(name, func(t *testing.T) {
			rule := &Rule{Section: "images", Attestations: []Attestation{{Type: scanned, By: c.by, Fields: c.fields}}}
			f := rule.check(t.Context(), manifest, collected(t, c.layers))
			if f.OK != (c.want == "") || !strings.Contains(f.Reason, c.want) {
				t.Errorf("%+v, want %q", f, c.want)
			}
		})
	}
	// It is not a signature, whatever it contains.
	data, annotations := here.attestation(t, statementOf(manifest, artifact.PredicateSignature, struct{}{}))
	rule := &Rule{Section: "images", Of: []*Authority{ci}, Threshold: 1}
	if f := rule.check(t.Context(), manifest, collected(t, one(data, annotations))); f.OK {
		t.Error("an attestation counts as a signature")
	}
}

// collected returns the evidence in a manifest with these layers.
func collected(t *testing.T, layers [][]any) *Evidence {
	t.Helper()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	var blobs []artifact.Blob
	for _, l := range layers {
		data, annotations := l[0].([]byte), l[1].(map[string]string)
		desc := ocispec.Descriptor{MediaType: envelopeType, Digest: digest.FromBytes(data), Size: int64(len(data)), Annotations: annotations}
		m.Layers = append(m.Layers, desc)
		blobs = append(blobs, artifact.Blob{Desc: desc, Data: data})
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	w, err := layout.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := artifact.Put(t.Context(), w.Store(), append(blobs, artifact.Blob{Desc: desc, Data: data})...); err != nil {
		t.Fatal(err)
	}
	e, err := Collect(context.Background(), w.Store(), []ocispec.Descriptor{desc})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// FuzzAttestation reads untrusted attestations, and must not panic.
func FuzzAttestation(f *testing.F) {
	f.Add([]byte(`{"payloadType":"x","payload":"e30=","signatures":[{"sig":"AA=="}]}`), "", "", "")
	f.Add([]byte(`null`), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", `{"SignedEntryTimestamp":"AA==","Payload":{"body":"e30=","logID":"00"}}`, `{"SignedRFC3161Timestamp":"AA=="}`)
	f.Fuzz(func(t *testing.T, data []byte, certificate, entry, stamp string) {
		annotations := map[string]string{annotationCertificate: certificate, annotationBundle: entry, annotationTimestamp: stamp, annotationSignature: "AA=="}
		bundle, err := attestationBundle(data, annotations)
		if err == nil {
			_, _ = sign.Read(bundle)
		}
		_, _ = logEntry(entry)
	})
}
