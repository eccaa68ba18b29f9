// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/taped-dev/tape/stages/sign/sigstoretest"
)

// TestOldLog signs with a Sigstore that has a Rekor v1 and no timestamp authority: the log
// provides the time.
func TestOldLog(t *testing.T) {
	s := sigstore(t)
	s.OldLog = true
	of := services(t, s)
	k := NewKeyless(of, given(s.Token(sigstoretest.Identity{Subject: person})))
	manifest := digest.FromString("a manifest")
	bundle, err := Bundle(t.Context(), k, manifest)
	if err != nil {
		t.Fatal(err)
	}
	var b sgbundle.Bundle
	if err := b.UnmarshalJSON(bundle); err != nil {
		t.Fatal(err)
	}
	entry := b.GetVerificationMaterial().GetTlogEntries()[0]
	if entry.GetKindVersion().GetKind() != "dsse" || entry.GetIntegratedTime() != then().Unix() || len(entry.GetInclusionPromise().GetSignedEntryTimestamp()) == 0 {
		t.Errorf("entry %v", entry)
	}
	if made, err := k.MadeStatement(t.Context(), bundle, manifest, predicateType); !made || err != nil {
		t.Errorf("its own signature: %v, %v", made, err)
	}
	if logs := of.Logs(); len(logs) != 1 || logs[0] != s.URL {
		t.Errorf("logs %v", logs)
	}

	private, _, err := GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEY", string(private))
	key, err := LoadSigner(t.Context(), "env://KEY", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Bundle(t.Context(), NewTimestamped(of, key), manifest); err == nil || !strings.Contains(err.Error(), "it names no timestamp authority") {
		t.Errorf("a timestamp: %v", err)
	}
}

// TestOldLogAnswers rejects responses that are not an entry, which the library would
// dereference.
func TestOldLogAnswers(t *testing.T) {
	const fields = `"body":"e30=","integratedTime":1,"logID":"` + "0123456789012345678901234567890123456789012345678901234567890123" + `","logIndex":0`
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"refused":      {http.StatusConflict, "it is there already", "409 Conflict: it is there already"},
		"nothing":      {http.StatusCreated, `{}`, "its answer is not an entry"},
		"empty":        {http.StatusCreated, `{"x":{}}`, "its answer is not an entry"},
		"null":         {http.StatusCreated, `{"x":null}`, "its answer is not an entry"},
		"not JSON":     {http.StatusCreated, `<html>`, "its answer is not an entry"},
		"unverified":   {http.StatusCreated, `{"x":{` + fields + `}}`, "its answer is not an entry"},
		"without root": {http.StatusCreated, `{"x":{` + fields + `,"verification":{}}}`, "its answer is not an entry"},
		"half a proof": {http.StatusCreated, `{"x":{` + fields + `,"verification":{"inclusionProof":{}}}}`, "its answer is not an entry"},
		"two":          {http.StatusCreated, `{"x":{` + fields + `},"y":{` + fields + `}}`, "its answer is not an entry"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sigstore(t)
			s.OldLog = true
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/api/v1/log/entries" {
					return false
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
				return true
			}
			k := NewKeyless(services(t, s), given(s.Token(sigstoretest.Identity{Subject: person})))
			if _, err := Bundle(t.Context(), k, digest.FromString("m")); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
