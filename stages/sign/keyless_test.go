// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/taped-dev/tape/stages/sign/sigstoretest"
)

// then is the time of signing in tests: in the past.
func then() time.Time { return time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC) }

const person = "release@example.com"

// sigstore starts an instance.
func sigstore(t *testing.T) *sigstoretest.Sigstore {
	t.Helper()
	s, err := sigstoretest.New(then)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func services(t *testing.T, s *sigstoretest.Sigstore) *Services {
	t.Helper()
	trusted, err := s.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	out, err := NewServices(ServiceOptions{SigningConfig: s.SigningConfig(), TrustedRoot: trusted, Transport: http.DefaultTransport, Now: s.Now})
	if err != nil {
		t.Fatal(err)
	}
	out.try = time.Microsecond
	return out
}

func given(token string) Token {
	return func(context.Context) (string, error) { return token, nil }
}

// TestKeyless checks that a signature verifies with the trusted root alone, for its identity,
// without the services.
func TestKeyless(t *testing.T) {
	s := sigstore(t)
	k := NewKeyless(services(t, s), given(s.Token(sigstoretest.Identity{Subject: person})))
	manifest := digest.FromString("a manifest")
	bundle, err := Bundle(t.Context(), k, manifest)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := s.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	material, err := root.NewTrustedRootFromJSON(trusted)
	if err != nil {
		t.Fatal(err)
	}
	var b sgbundle.Bundle
	if err := b.UnmarshalJSON(bundle); err != nil {
		t.Fatal(err)
	}
	v, err := verify.NewVerifier(material, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	identity, err := verify.NewShortCertificateIdentity(s.URL, "", person, "")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := b.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	statement, err := sum.EnvelopeContent().Statement()
	if err != nil || statement.GetSubject()[0].GetDigest()["sha256"] != manifest.Encoded() {
		t.Fatalf("statement %v: %v", statement, err)
	}
	result, err := v.Verify(&b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithCertificateIdentity(identity)))
	if err != nil {
		t.Fatal(err)
	}
	if at := result.VerifiedTimestamps[0].Timestamp; !at.Equal(then()) {
		t.Errorf("signed at %s, not by the clock of the instance", at)
	}
	claim, err := Read(bundle)
	if err != nil || claim.Subject != manifest || claim.PredicateType != predicateType {
		t.Errorf("claim %+v: %v", claim, err)
	}
}

// Errors name the service, and what to do; a token is never repeated.
func TestKeylessErrors(t *testing.T) {
	other := sigstore(t)
	answer := func(status int, body string, path string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, path) {
				return false
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.ReplaceAll(body, "TOKEN", r.Header.Get("Authorization")))
			return true
		}
	}
	for name, c := range map[string]struct {
		identity sigstoretest.Identity
		change   func(t *testing.T, s *sigstoretest.Sigstore, k *Keyless)
		want     []string
	}{
		"another audience": {sigstoretest.Identity{Subject: person, Audience: "vault"}, nil,
			[]string{"get a certificate from http://", "identity token of release@example.com", "audience vault", `expected audience \"sigstore\"`}},
		"expired": {sigstoretest.Identity{Subject: person, Expires: then().Add(-time.Minute)}, nil,
			[]string{"identity token of release@example.com expired at 2024-02-29T11:59:00Z"}},
		"unknown token": {sigstoretest.Identity{}, func(_ *testing.T, s *sigstoretest.Sigstore, k *Keyless) {
			k.token = given(other.Token(sigstoretest.Identity{Subject: person}))
		}, []string{"processing the identity token", "issuer http://"}},
		"repeated token": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = answer(http.StatusBadRequest, "bad: TOKEN", "/api/v2/signingCert")
		}, []string{"bad: Bearer (identity token)"}},
		"broken fulcio": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = answer(http.StatusServiceUnavailable, "no database", "/api/v2/signingCert")
		}, []string{"503 Service Unavailable: no database"}},
		"no certificates": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = answer(http.StatusOK, "{}", "/api/v2/signingCert")
		}, []string{"returned no certificates"}},
		"elsewhere": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
				return true
			}
		}, []string{"redirects to a host"}},
		"bad timestamp": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = answer(http.StatusOK, "soon", "/api/v1/timestamp")
		}, []string{"ask http://", "asn1"}},
		"clocks ahead": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, k *Keyless) {
			s.Now = func() time.Time { return then().Add(time.Hour) }
		}, []string{"the clocks differ: for http://", "it is 2024-02-29T13:00:00Z, and for this machine 2024-02-29T12:00:00Z: correct the one that is wrong"}},
		"clock ahead": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Skew = time.Hour
		}, []string{"the clocks of the services differ", "it is 2024-02-29T13:00:00Z", "valid from 2024-02-29T12:00:00Z to 2024-02-29T12:10:00Z"}},
		"full log": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = answer(http.StatusForbidden, "frozen", "/api/v2/log")
		}, []string{"write to the log http://", "frozen"}},
		"no entry": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = answer(http.StatusCreated, "<html>", "/api/v2/log")
		}, []string{"write to the log http://", "its answer is not an entry: proto"}},
		"empty entry": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = answer(http.StatusCreated, "{}", "/api/v2/log")
		}, []string{"write to the log http://", "its answer is not an entry: fields are missing"}},
		"half an entry": {sigstoretest.Identity{Subject: person}, func(_ *testing.T, s *sigstoretest.Sigstore, _ *Keyless) {
			s.Before = answer(http.StatusCreated, `{"canonicalizedBody":"e30=","inclusionProof":{"checkpoint":{}},"logId":{},"kindVersion":{}}`, "/api/v2/log")
		}, []string{"read the bundle that was made"}},
		"another trusted root": {sigstoretest.Identity{Subject: person}, func(t *testing.T, _ *sigstoretest.Sigstore, k *Keyless) {
			k.trusted = services(t, other).trusted
		}, []string{"does not verify with the trusted root (is it of the Sigstore that the signing config names?)"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := sigstore(t)
			token := s.Token(c.identity)
			k := NewKeyless(services(t, s), given(token))
			if c.change != nil {
				c.change(t, s, k)
			}
			_, err := Bundle(t.Context(), k, digest.FromString("m"))
			if err == nil {
				t.Fatal("it is signed")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant %q", err, want)
				}
			}
			if strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error tells the token, or has several lines: %v", err)
			}
		})
	}
}

// A request to a busy service is retried.
func TestKeylessRetries(t *testing.T) {
	s := sigstore(t)
	seen := map[string]bool{}
	s.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if seen[r.URL.Path] {
			return false
		}
		seen[r.URL.Path] = true
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	k := NewKeyless(services(t, s), given(s.Token(sigstoretest.Identity{Subject: person})))
	if _, err := Bundle(t.Context(), k, digest.FromString("m")); err != nil {
		t.Error(err)
	}
	if len(seen) != 3 {
		t.Errorf("asked %v", seen)
	}
}

// A hanging service is given up when the caller cancels, and after a while in any case.
func TestKeylessHangs(t *testing.T) {
	for _, path := range []string{"/api/v2/signingCert", "/api/v1/timestamp", "/api/v2/log/entries"} {
		s := sigstore(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("interrupted")
		s.Before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body) // then the server sees that the client disconnects
			cancel(reason)
			<-r.Context().Done()
			return true
		}
		k := NewKeyless(services(t, s), given(s.Token(sigstoretest.Identity{Subject: person})))
		if _, err := Bundle(ctx, k, digest.FromString("m")); !errors.Is(err, reason) || !strings.Contains(err.Error(), s.URL) {
			t.Errorf("%s: %v", path, err)
		}
		k.wait = time.Millisecond
		if _, err := Bundle(t.Context(), k, digest.FromString("m")); err == nil || !strings.Contains(err.Error(), "have not answered in 1ms") || !strings.Contains(err.Error(), s.URL) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A key's signature with a timestamp verifies with the key; an instance that is not trusted
// cannot provide one.
func TestTimestamped(t *testing.T) {
	s, other := sigstore(t), sigstore(t)
	key, verifier := pair(t, "")
	manifest := digest.FromString("a manifest")
	signer := NewTimestamped(services(t, s), key)
	bundle, err := Bundle(t.Context(), signer, manifest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), verifier, bundle, manifest); err != nil {
		t.Error(err)
	}
	plain, err := Bundle(t.Context(), key, manifest)
	if err != nil {
		t.Fatal(err)
	}
	if !signer.Made(t.Context(), bundle, manifest) || signer.Made(t.Context(), plain, manifest) || !key.Made(t.Context(), bundle, manifest) {
		t.Error("a signature without a time is taken for one with it, or the other way round")
	}
	signer.trusted = services(t, other).trusted
	if _, err := Bundle(t.Context(), signer, manifest); err == nil || !strings.Contains(err.Error(), "does not verify with the trusted root") {
		t.Errorf("another trusted root: %v", err)
	}
	signer = NewTimestamped(services(t, s), key)
	s.Close()
	if _, err := Bundle(t.Context(), signer, manifest); err == nil || !strings.Contains(err.Error(), "get a timestamp from http://") {
		t.Errorf("a service that is gone: %v", err)
	}
}

func TestServiceFiles(t *testing.T) {
	s := sigstore(t)
	trusted, err := s.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	config := string(s.SigningConfig())
	for name, c := range map[string]struct{ config, trusted, want string }{
		"no config":     {"", string(trusted), "signing config: it is not JSON of the type application/vnd.dev.sigstore.signingconfig"},
		"no root":       {config, "{}", "trusted root: it is not JSON of the type application/vnd.dev.sigstore.trustedroot"},
		"plain http":    {strings.ReplaceAll(config, "127.0.0.1", "fulcio.example.com"), string(trusted), "want https"},
		"newer log":     {strings.Replace(config, `"majorApiVersion":2`, `"majorApiVersion":3`, 1), string(trusted), "signing config: transparency log: "},
		"no timestamps": {strings.Replace(config, `"tsaUrls"`, `"oidcUrls"`, 1), string(trusted), "signing config: "},
	} {
		_, err := NewServices(ServiceOptions{SigningConfig: []byte(c.config), TrustedRoot: []byte(c.trusted), Now: then})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestFindToken(t *testing.T) {
	s := sigstore(t)
	for _, name := range []string{variableToken, variableURL, variableRequest} {
		t.Setenv(name, "")
	}
	if _, err := FindToken("", http.DefaultTransport); err == nil || !strings.Contains(err.Error(), "there is no identity token") {
		t.Errorf("nowhere: %v", err)
	}
	find := func(file string) (string, error) {
		token, err := FindToken(file, http.DefaultTransport)
		if err != nil {
			return "", err
		}
		return token(t.Context())
	}
	// A projected file is read again each time: it changes.
	file := filepath.Join(t.TempDir(), "token")
	fromFile, err := FindToken(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		want := s.Token(sigstoretest.Identity{Subject: person})
		if err := os.WriteFile(file, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := fromFile(t.Context()); got != want {
			t.Errorf("file: %v", err)
		}
	}
	if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := find(file); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "not a JWT") {
		t.Errorf("no JWT: %v", err)
	}
	// GitHub Actions issues one for the right audience.
	t.Setenv(variableURL, s.URL+"/actions/token?api-version=2")
	if _, err := find(""); err == nil || !strings.Contains(err.Error(), "id-token: write") {
		t.Errorf("without permission: %v", err)
	}
	t.Setenv(variableRequest, "job")
	token, err := find("")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := readClaims(token); err != nil || c.Audience != audience || !strings.HasPrefix(c.Subject, "https://github.com/acme/shop/") {
		t.Errorf("claims %+v: %v", c, err)
	}
	t.Setenv(variableToken, "a.e30.c")
	if got, err := find(""); got != "a.e30.c" {
		t.Errorf("variable: %v", err)
	}
}

// TestMadeStatement recognises a signer by identity, and rejects a bundle in that name that
// does not verify.
func TestMadeStatement(t *testing.T) {
	s := sigstore(t)
	of := services(t, s)
	by := func(who string) *Keyless { return NewKeyless(of, given(s.Token(sigstoretest.Identity{Subject: who}))) }
	_, public, err := GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	manifest := digest.FromString("a manifest")
	bundle, err := Bundle(t.Context(), by(person), manifest)
	if err != nil {
		t.Fatal(err)
	}
	const other = "https://example.com/predicate"
	for name, c := range map[string]struct {
		who       string
		bundle    []byte
		subject   digest.Digest
		predicate string
		made      bool
		forged    bool
	}{
		"own":             {person, bundle, manifest, predicateType, true, false},
		"another's":       {"other@example.com", bundle, manifest, predicateType, false, false},
		"another type":    {person, bundle, manifest, other, false, false},
		"another subject": {person, bundle, digest.FromString("other"), predicateType, false, true},
		"changed":         {person, bytes.Replace(bundle, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1), manifest, predicateType, false, true},
		"not a bundle":    {person, public, manifest, predicateType, false, false},
	} {
		made, err := by(c.who).MadeStatement(t.Context(), c.bundle, c.subject, c.predicate)
		if made != c.made || errors.Is(err, ErrForged) != c.forged || err != nil && !c.forged {
			t.Errorf("%s: %v, %v", name, made, err)
		}
	}
	s.Close()
	if made, err := by(person).MadeStatement(t.Context(), bundle, manifest, predicateType); made || err == nil || errors.Is(err, ErrForged) {
		t.Errorf("when nobody says who that is: %v, %v", made, err)
	}
}
