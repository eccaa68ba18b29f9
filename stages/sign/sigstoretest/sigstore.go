// SPDX-License-Identifier: Apache-2.0

// Package sigstoretest is a Sigstore in one process, for tests: an issuer of identity tokens,
// Fulcio, a timestamp authority and Rekor v2 or v1, with its own clock. Each entry is in a
// separate log, and certificates have no SCT; make test-sigstore uses the real servers.
package sigstoretest

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/digitorus/timestamp"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorv1 "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekorpb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	formats "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	sumdb "golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protojson"
)

// Audience is the audience that tokens must have.
const Audience = "sigstore"

// Sigstore is one instance.
type Sigstore struct {
	// URL is the URL of all services, which is also the issuer of tokens.
	URL string
	// Now returns the current time. Skew is how far the clock of the timestamp authority is ahead
	// of it.
	Now  func() time.Time
	Skew time.Duration
	// Before, if set, is called first with each request, and reports whether it has answered it.
	Before func(w http.ResponseWriter, r *http.Request) bool
	// Person is the identity that logs in. Answers are returned first to a client that polls for
	// a token: authorization_pending, slow_down, access_denied and so on.
	Person  Identity
	Answers []string
	// OldLog makes the log a Rekor v1, which provides the time. The signing config then names no
	// timestamp authority.
	OldLog bool

	server         *httptest.Server
	ca, tsa, stamp authority // tsa certifies stamp, which signs timestamps
	log            signature.SignerVerifier
	logID          []byte
	mu             sync.Mutex
	tokens         map[string]Identity
	logins         map[string]url.Values // parameters of logins, by code
}

// Identity is the content of a token.
type Identity struct {
	Subject string // a URI, or an e-mail address
	// Issuer and Audience are by default those of the instance.
	Issuer, Audience string
	// Expires is by default an hour from now.
	Expires time.Time
	// Nonce is the nonce that a login requested.
	Nonce string
}

// authority signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// New starts an instance whose certificates are valid for years before and after now. The caller
// must close it.
func New(now func() time.Time) (*Sigstore, error) {
	s := &Sigstore{Now: now, tokens: map[string]Identity{}, logins: map[string]url.Values{}}
	var err error
	if s.ca, err = newAuthority("fulcio", now()); err != nil {
		return nil, err
	}
	if s.tsa, err = newAuthority("tsa", now()); err != nil {
		return nil, err
	}
	log, _, err := signature.NewDefaultECDSASignerVerifier()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(log.Public())
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(der)
	s.log, s.logID = log, id[:]
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		return nil, err
	}
	if s.stamp.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if s.stamp.cert, err = s.tsa.issue(&x509.Certificate{
		NotBefore: s.tsa.cert.NotBefore, NotAfter: s.tsa.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}},
	}, s.stamp.key.Public()); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/signingCert", s.certificate)
	mux.HandleFunc("POST /api/v1/timestamp", answer(s.timestamp))
	mux.HandleFunc("POST /api/v2/log/entries", answer(s.entry))
	mux.HandleFunc("POST /api/v1/log/entries", answer(s.oldEntry))
	mux.HandleFunc("GET /actions/token", s.actions)
	mux.HandleFunc("GET /.well-known/openid-configuration", s.discovery)
	mux.HandleFunc("POST /device/code", s.device)
	mux.HandleFunc("GET /auth", s.auth)
	mux.HandleFunc("POST /token", s.token)
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Before == nil || !s.Before(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	s.URL = s.server.URL
	return s, nil
}

// RoundTrip implements [http.RoundTripper]. It answers within the process, so that tests may have
// their own clock.
func (s *Sigstore) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	s.server.Config.Handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// Close stops the instance. Its signatures can still be verified.
func (s *Sigstore) Close() { s.server.Close() }

func newAuthority(name string, now time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	a := authority{key: key, cert: &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}}
	a.cert, err = a.issue(a.cert, key.Public())
	return a, err
}

func (a authority) issue(template *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	if template.SubjectKeyId, err = cryptoutils.SKID(key); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Token returns an identity token, which the instance accepts from then on. Its signature is not
// a real one.
func (s *Sigstore) Token(id Identity) string {
	id.Issuer, id.Audience = cmp.Or(id.Issuer, s.URL), cmp.Or(id.Audience, Audience)
	if id.Expires.IsZero() {
		id.Expires = s.Now().Add(time.Hour)
	}
	claims := map[string]any{"iss": id.Issuer, "aud": id.Audience, "sub": id.Subject, "iat": s.Now().Unix(), "exp": id.Expires.Unix()}
	if id.Nonce != "" {
		claims["nonce"] = id.Nonce
	}
	if strings.Contains(id.Subject, "@") && !strings.Contains(id.Subject, "://") {
		claims["email"], claims["email_verified"] = id.Subject, true
	}
	data, _ := json.Marshal(claims) // of strings and numbers
	part := base64.RawURLEncoding.EncodeToString
	token := part([]byte(`{"alg":"ES256"}`)) + "." + part(data) + "." + part([]byte(rand.Text()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = id
	return token
}

// actions is the service of GitHub Actions that gives tokens to a job, whose own token is "job".
func (s *Sigstore) actions(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer job" {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	reply(w, http.StatusOK, map[string]string{"value": s.Token(Identity{Subject: "https://github.com/acme/shop/.github/workflows/ci.yml@refs/heads/main", Audience: r.FormValue("audience")})})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers with an error in the form of Fulcio.
func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	reply(w, status, map[string]any{"code": 3, "message": fmt.Sprintf(format, args...)})
}

func (s *Sigstore) certificate(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	id, known := s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	s.mu.Unlock()
	switch {
	case !known:
		refuse(w, http.StatusUnauthorized, "There was an error processing the identity token")
		return
	case id.Audience != Audience:
		refuse(w, http.StatusUnauthorized, "expected audience %q got [%q]", Audience, id.Audience)
		return
	}
	var request struct {
		PublicKeyRequest struct {
			PublicKey         struct{ Content string }
			ProofOfPossession []byte
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	cert, err := s.Certify(id, request.PublicKeyRequest.PublicKey.Content, request.PublicKeyRequest.ProofOfPossession)
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	chain := []string{}
	for _, c := range []*x509.Certificate{cert, s.ca.cert} {
		chain = append(chain, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	}
	reply(w, http.StatusOK, map[string]any{"signedCertificateEmbeddedSct": map[string]any{"chain": map[string]any{"certificates": chain}}})
}

// Certify issues a certificate for ten minutes to the holder of a key.
func (s *Sigstore) Certify(id Identity, key string, proof []byte) (*x509.Certificate, error) {
	public, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(key))
	if err != nil {
		return nil, err
	}
	verifier, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		return nil, err
	}
	if err := verifier.VerifySignature(bytes.NewReader(proof), strings.NewReader(id.Subject)); err != nil {
		return nil, fmt.Errorf("proof of possession: %w", err)
	}
	issuer, err := asn1.MarshalWithParams(id.Issuer, "utf8")
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		NotBefore: s.Now(), NotAfter: s.Now().Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(id.Issuer)},
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: issuer},
		},
	}
	if uri, err := url.Parse(id.Subject); err == nil && uri.Scheme != "" {
		template.URIs = []*url.URL{uri}
	} else {
		template.EmailAddresses = []string{id.Subject}
	}
	return s.ca.issue(template, public)
}

// answer returns a handler that answers with the result of a function of the request body.
func answer(of func(body []byte) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			data, err = of(data)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(data)
	}
}

func (s *Sigstore) timestamp(body []byte) ([]byte, error) {
	request, err := timestamp.ParseRequest(body)
	if err != nil {
		return nil, err
	}
	t := timestamp.Timestamp{
		HashAlgorithm: request.HashAlgorithm, HashedMessage: request.HashedMessage, Time: s.Now().Add(s.Skew),
		Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}, ExtraExtensions: request.Extensions,
	}
	return t.CreateResponseWithOpts(s.stamp.cert, s.stamp.key, crypto.SHA256)
}

func (s *Sigstore) entry(body []byte) ([]byte, error) {
	var request rekorpb.CreateEntryRequest
	if err := protojson.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	logged, err := s.Log(request.GetHashedRekordRequestV002())
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(logged)
}

// Log makes an entry of a log that has no other entry.
func (s *Sigstore) Log(h *rekorpb.HashedRekordRequestV002) (*rekorv1.TransparencyLogEntry, error) {
	data, err := protojson.Marshal(&rekorpb.Entry{
		ApiVersion: "0.0.2", Kind: "hashedrekord",
		Spec: &rekorpb.Spec{Spec: &rekorpb.Spec_HashedRekordV002{HashedRekordV002: &rekorpb.HashedRekordLogEntryV002{
			Data:      &commonv1.HashOutput{Algorithm: commonv1.HashAlgorithm_SHA2_256, Digest: h.GetDigest()},
			Signature: h.GetSignature(),
		}}},
	})
	if err != nil {
		return nil, err
	}
	body, err := jsoncanonicalizer.Transform(data)
	if err != nil {
		return nil, err
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(body)
	origin := s.host()
	noted, err := note.NewNoteSigner(context.Background(), origin, s.log)
	if err != nil {
		return nil, err
	}
	checkpoint, err := sumdb.Sign(&sumdb.Note{Text: string(formats.Checkpoint{Origin: origin, Size: 1, Hash: leaf}.Marshal())}, noted)
	if err != nil {
		return nil, err
	}
	return &rekorv1.TransparencyLogEntry{
		LogId: &commonv1.LogId{KeyId: s.logID}, KindVersion: &rekorv1.KindVersion{Kind: "hashedrekord", Version: "0.0.2"},
		InclusionProof: &rekorv1.InclusionProof{
			TreeSize: 1, RootHash: leaf, Checkpoint: &rekorv1.Checkpoint{Envelope: string(checkpoint)},
		},
		CanonicalizedBody: body,
	}, nil
}

func (s *Sigstore) host() string {
	u, _ := url.Parse(s.URL) // it comes from httptest
	return u.Hostname()
}

// SigningConfig returns the signing config, with the URLs of the services.
func (s *Sigstore) SigningConfig() []byte {
	service := func(path string, version int) any {
		return []any{map[string]any{"url": s.URL + path, "majorApiVersion": version, "operator": "test", "validFor": map[string]any{"start": s.ca.cert.NotBefore.Format(time.RFC3339)}}}
	}
	config := map[string]any{
		"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
		"caUrls":    service("", 1), "oidcUrls": service("", 1),
		"rekorTlogUrls": service("", 2), "rekorTlogConfig": map[string]any{"selector": "ANY"},
		"tsaUrls": service("/api/v1/timestamp", 1), "tsaConfig": map[string]any{"selector": "ANY"},
	}
	if s.OldLog {
		config["rekorTlogUrls"] = service("", 1)
		delete(config, "tsaUrls")
	}
	data, _ := json.Marshal(config) // of strings and numbers
	return data
}

// TrustedRoot returns the file to verify what the instance signed.
func (s *Sigstore) TrustedRoot() ([]byte, error) {
	key, err := s.log.PublicKey()
	if err != nil {
		return nil, err
	}
	start := s.ca.cert.NotBefore
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01,
		[]root.CertificateAuthority{&root.FulcioCertificateAuthority{Root: s.ca.cert, ValidityPeriodStart: start, URI: s.URL}}, nil,
		[]root.TimestampingAuthority{&root.SigstoreTimestampingAuthority{Root: s.tsa.cert, Leaf: s.stamp.cert, ValidityPeriodStart: start, URI: s.URL}},
		map[string]*root.TransparencyLog{"": {
			BaseURL: s.URL, ID: s.logID, ValidityPeriodStart: start, HashFunc: crypto.SHA256, PublicKey: key, SignatureHashFunc: crypto.SHA256,
		}})
	if err != nil {
		return nil, err
	}
	return trusted.MarshalJSON()
}
