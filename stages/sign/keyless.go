// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/go-openapi/strfmt"
	"github.com/opencontainers/go-digest"
	bundlev1 "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorv1 "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekorpb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor/pkg/generated/client/entries"
	"github.com/sigstore/rekor/pkg/generated/models"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgsign "github.com/sigstore/sigstore-go/pkg/sign"
	sgverify "github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	// serviceTime limits the total time of the services for one signature.
	serviceTime = time.Minute
	// serviceTries is how often a busy or failing service is asked.
	serviceTries = 3
	// serviceDelay is the delay before the second try. It doubles for each further one.
	serviceDelay = time.Second
	// maxService limits the size of an answer, in bytes.
	maxService = 4 << 20
	// clockDifference is the largest accepted difference between the clock of a timestamp
	// authority and that of this machine.
	clockDifference = 5 * time.Minute
)

// ServiceOptions configure the services of a Sigstore instance.
type ServiceOptions struct {
	// SigningConfig is the JSON with the URLs of the services. No request is sent anywhere else.
	SigningConfig []byte
	// TrustedRoot is the JSON with their certificates. A signature that cannot be verified with
	// it is an error.
	TrustedRoot []byte
	// Transport sends the requests.
	Transport http.RoundTripper
	// Now returns the current time; nil means time.Now.
	Now func() time.Time
}

// Services are the services of one Sigstore instance.
type Services struct {
	o         ServiceOptions
	config    *root.SigningConfig
	ca        string
	tsas      []service
	logs      []service
	trusted   *root.TrustedRoot
	wait, try time.Duration
}

// ReadTrustedRoot reads a trusted root in JSON.
func ReadTrustedRoot(data []byte) (*root.TrustedRoot, error) {
	trusted, err := root.NewTrustedRootFromJSON(data)
	if err != nil && !bytes.Contains(data, []byte(root.TrustedRootMediaType01)) {
		err = errors.New("it is not JSON of the type " + root.TrustedRootMediaType01)
	}
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	return trusted, nil
}

// NewServices reads the files of a Sigstore instance. It sends no request.
func NewServices(o ServiceOptions) (*Services, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Services{o: o, wait: serviceTime, try: serviceDelay}
	config, err := root.NewSigningConfigFromJSON(o.SigningConfig)
	if err != nil { // the error text comes from protobuf, or lacks the type
		return nil, fmt.Errorf("signing config: it is not JSON of the type %s", root.SigningConfigMediaType02)
	}
	s.config = config
	if s.trusted, err = ReadTrustedRoot(o.TrustedRoot); err != nil {
		return nil, err
	}
	ca, err := root.SelectService(config.FulcioCertificateAuthorityURLs(), sgsign.FulcioAPIVersions, o.Now())
	if err == nil {
		s.ca, err = serviceURL(ca.URL)
	}
	if err != nil {
		return nil, fmt.Errorf("signing config: certificate authority: %w", err)
	}
	if s.logs, err = selectServices(config.RekorLogURLs(), config.RekorLogURLsConfig(), sgsign.RekorAPIVersions, o.Now()); err != nil {
		return nil, fmt.Errorf("signing config: transparency log: %w", err)
	}
	// A log of version 1 also provides the time.
	if len(config.TimestampAuthorityURLs()) == 0 && s.logs[0].version == 1 {
		return s, nil
	}
	if s.tsas, err = selectServices(config.TimestampAuthorityURLs(), config.TimestampAuthorityURLsConfig(), sgsign.TimestampAuthorityAPIVersions, o.Now()); err != nil {
		return nil, fmt.Errorf("signing config: timestamp authority: %w", err)
	}
	return s, nil
}

// service is a service that is used.
type service struct {
	url     string
	version uint32
}

// selectServices selects services, all of the same version.
func selectServices(list []root.Service, config root.ServiceConfiguration, versions []uint32, now time.Time) (used []service, err error) {
	chosen, err := root.SelectServices(list, config, versions, now)
	if err != nil {
		return nil, err
	}
	for _, c := range chosen {
		u, err := serviceURL(c.URL)
		if err != nil {
			return nil, err
		}
		used = append(used, service{u, c.MajorAPIVersion})
	}
	return used, nil
}

// serviceURL checks the URL of a service. An identity token is a secret, so it is only sent with
// TLS, or within this machine.
func serviceURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("%q is not a URL", text)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return "", fmt.Errorf("%s: want https", text)
	}
	return strings.TrimSuffix(text, "/"), nil
}

// Logs returns the URLs of the transparency logs that record each keyless signature.
func (s *Services) Logs() (urls []string) {
	for _, log := range s.logs {
		urls = append(urls, log.url)
	}
	return urls
}

// Keyless signs with keys that are generated for one signature and certified for the identity
// in a token.
type Keyless struct {
	*Services
	token Token

	mu  sync.Mutex
	who *certificate.Summary // the identity in the token, after it was requested
}

// NewKeyless returns a signer. It requests a token when it signs.
func NewKeyless(s *Services, token Token) *Keyless { return &Keyless{Services: s, token: token} }

// Made implements [Signer]. It returns false, because the signer is only known from a token, and
// each signature is made with another key.
func (k *Keyless) Made(context.Context, []byte, digest.Digest) bool { return false }

// MadeStatement implements [Signer]. Only a certificate shows how Fulcio names the holder of a
// token, so it requests one if the bundle has a certificate too.
func (k *Keyless) MadeStatement(ctx context.Context, bundle []byte, manifest digest.Digest, predicateType string) (bool, error) {
	claim, err := Read(bundle)
	if err != nil || claim.PredicateType != predicateType {
		return false, nil
	}
	var b sgbundle.Bundle
	if b.UnmarshalJSON(bundle) != nil {
		return false, nil
	}
	by, err := summary(b.GetVerificationMaterial().GetCertificate().GetRawBytes())
	if err != nil {
		return false, nil
	}
	own, err := k.identity(ctx)
	if err != nil || by.Issuer != own.Issuer || by.SubjectAlternativeName != own.SubjectAlternativeName {
		return false, err
	}
	if err = k.verify(&b); err == nil && claim.Subject != manifest {
		err = fmt.Errorf("the bundle signs %s", claim.Subject)
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrForged, err)
	}
	return true, nil
}

// verify verifies an earlier keyless bundle, which may come from other services.
func (s *Services) verify(b *sgbundle.Bundle) error {
	options := []sgverify.VerifierOption{sgverify.WithObserverTimestamps(1)}
	if len(s.trusted.RekorLogs()) > 0 {
		options = append(options, sgverify.WithTransparencyLog(1))
	}
	if len(s.trusted.CTLogs()) > 0 {
		options = append(options, sgverify.WithSignedCertificateTimestamps(1))
	}
	verifier, err := sgverify.NewVerifier(s.trusted, options...)
	if err != nil {
		return err
	}
	_, err = verifier.Verify(b, sgverify.NewPolicy(sgverify.WithoutArtifactUnsafe(), sgverify.WithoutIdentitiesUnsafe()))
	return err
}

// identity returns the identity in the token, in the form of a certificate.
func (k *Keyless) identity(ctx context.Context) (*certificate.Summary, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.who != nil {
		return k.who, nil
	}
	token, fulcio, cancel, err := k.certifier(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	der, err := fulcio.GetCertificate(fulcio.ask.ctx, fulcio.pair, &sgsign.CertificateProviderOptions{IDToken: token})
	if err != nil {
		return nil, redacted{fulcio.ask.failed(err), token}
	}
	who, err := summary(der)
	if err != nil {
		return nil, fmt.Errorf("certificate from %s: %w", k.ca, err)
	}
	k.who = &who
	return k.who, nil
}

// summary reads for whom a certificate was issued.
func summary(der []byte) (certificate.Summary, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return certificate.Summary{}, err
	}
	return certificate.SummarizeCertificate(cert)
}

// certifier returns a token, and a provider of certificates for it and a new key. The caller must
// call cancel.
func (k *Keyless) certifier(ctx context.Context) (token string, c certifier, cancel context.CancelFunc, err error) {
	if token, err = k.token(ctx); err != nil {
		return "", certifier{}, nil, err
	}
	said, err := readClaims(token)
	if err != nil {
		return "", certifier{}, nil, fmt.Errorf("identity token: %w", err)
	}
	if err := said.expired(k.o.Now()); err != nil {
		return "", certifier{}, nil, err
	}
	pair, err := sgsign.NewEphemeralKeypair(nil)
	if err != nil {
		return "", certifier{}, nil, fmt.Errorf("make key: %w", err)
	}
	ask, cancel := k.asker(ctx)
	return token, certifier{sgsign.NewFulcio(&sgsign.FulcioOptions{BaseURL: k.ca, Timeout: -1, Transport: ask}), k.ca, said, ask, pair}, cancel, nil
}

// Bundle implements [Signer].
func (k *Keyless) Bundle(ctx context.Context, statement []byte) ([]byte, error) {
	token, fulcio, cancel, err := k.certifier(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	ask := fulcio.ask
	options := sgsign.BundleOptions{
		Context:                    ask.ctx,
		CertificateProvider:        fulcio,
		CertificateProviderOptions: &sgsign.CertificateProviderOptions{IDToken: token},
		TimestampAuthorities:       k.authorities(ask),
	}
	for _, log := range k.logs {
		client := logClient{log.url, ask}
		options.TransparencyLogs = append(options.TransparencyLogs, sgsign.NewRekor(&sgsign.RekorOptions{BaseURL: log.url, Version: log.version, Timeout: -1, Client: client, ClientV2: client}))
	}
	made, err := sgsign.Bundle(&sgsign.DSSEData{Data: statement, PayloadType: payloadType}, fulcio.pair, options)
	if err != nil {
		return nil, redacted{ask.failed(err), token}
	}
	if err := k.check(made); err != nil {
		return nil, err
	}
	return encode(made)
}

// redacted is an error whose text is a single line without secrets, even if a service repeated
// them.
type redacted struct {
	error
	secret string
}

func (r redacted) Error() string {
	return oneLine(strings.ReplaceAll(r.error.Error(), r.secret, "(identity token)"))
}
func (r redacted) Unwrap() error { return r.error }

// certifier adds to errors what the token was used for.
type certifier struct {
	*sgsign.Fulcio
	at   string
	said claims
	ask  *asker
	pair *sgsign.EphemeralKeypair
}

// GetCertificate implements [sgsign.CertificateProvider].
func (c certifier) GetCertificate(ctx context.Context, pair sgsign.Keypair, o *sgsign.CertificateProviderOptions) ([]byte, error) {
	cert, err := c.Fulcio.GetCertificate(ctx, pair, o)
	if err != nil {
		return nil, fmt.Errorf("get a certificate from %s with the identity token of %s (issuer %s, audience %v): %w", c.at, c.said.who(), c.said.Issuer, c.said.Audience, err)
	}
	return cert, nil
}

func (s *Services) authorities(ask *asker) (list []*sgsign.TimestampAuthority) {
	for _, at := range s.tsas {
		list = append(list, sgsign.NewTimestampAuthority(&sgsign.TimestampAuthorityOptions{URL: at.url, Timeout: -1, Transport: ask}))
	}
	return list
}

// check verifies a bundle before it is returned. material is additional trusted material.
func (s *Services) check(made *bundlev1.Bundle, material ...root.TrustedMaterial) error {
	b, err := sgbundle.NewBundle(made)
	if err != nil {
		return fmt.Errorf("read the bundle that was made: %w", err)
	}
	options := []sgverify.VerifierOption{sgverify.WithSignedTimestamps(len(s.tsas))}
	if len(s.tsas) == 0 {
		options[0] = sgverify.WithIntegratedTimestamps(len(s.logs))
	}
	policy := sgverify.WithKey()
	if made.GetVerificationMaterial().GetCertificate() != nil {
		policy = sgverify.WithoutIdentitiesUnsafe()
		options = append(options, sgverify.WithTransparencyLog(len(s.logs)))
		if len(s.trusted.CTLogs()) > 0 {
			options = append(options, sgverify.WithSignedCertificateTimestamps(1))
		}
	}
	if err := s.checkClocks(made.GetVerificationMaterial()); err != nil {
		return err
	}
	verifier, err := sgverify.NewVerifier(append(root.TrustedMaterialCollection{s.trusted}, material...), options...)
	if err != nil {
		return fmt.Errorf("verify the bundle that was made: %w", err)
	}
	// The signed content is known, because it was just made from the statement.
	if _, err := verifier.Verify(b, sgverify.NewPolicy(sgverify.WithoutArtifactUnsafe(), policy)); err != nil {
		return fmt.Errorf("the signature does not verify with the trusted root (is it of the Sigstore that the signing config names?), and is not used: %w", err)
	}
	return nil
}

// checkClocks compares the times from timestamp authorities with the validity of a certificate,
// if there is one, and with the clock of this machine.
func (s *Services) checkClocks(material *bundlev1.VerificationMaterial) error {
	var cert *x509.Certificate
	if data := material.GetCertificate().GetRawBytes(); data != nil {
		var err error
		if cert, err = x509.ParseCertificate(data); err != nil {
			return fmt.Errorf("certificate from %s: %w", s.ca, err)
		}
	}
	now := s.o.Now()
	utc := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	for i, stamp := range material.GetTimestampVerificationData().GetRfc3161Timestamps() {
		t, err := timestamp.ParseResponse(stamp.GetSignedTimestamp())
		switch {
		case err != nil:
			return fmt.Errorf("timestamp from %s: %w", s.tsas[i].url, err)
		case cert != nil && (t.Time.Before(cert.NotBefore) || t.Time.After(cert.NotAfter)):
			return fmt.Errorf("the clocks of the services differ: for %s it is %s, and the certificate from %s is valid from %s to %s", s.tsas[i].url, utc(t.Time), s.ca, utc(cert.NotBefore), utc(cert.NotAfter))
		case t.Time.Sub(now).Abs() > clockDifference:
			return fmt.Errorf("the clocks differ: for %s it is %s, and for this machine %s: correct the one that is wrong", s.tsas[i].url, utc(t.Time), utc(now))
		}
	}
	return nil
}

// Timestamped signs with a key and adds timestamps from timestamp authorities.
type Timestamped struct {
	*Services
	key *Key
}

// NewTimestamped returns a signer.
func NewTimestamped(s *Services, key *Key) *Timestamped { return &Timestamped{Services: s, key: key} }

// Made implements [Signer].
func (t *Timestamped) Made(ctx context.Context, bundle []byte, manifest digest.Digest) bool {
	var b bundlev1.Bundle
	err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(bundle, &b)
	return err == nil && len(b.GetVerificationMaterial().GetTimestampVerificationData().GetRfc3161Timestamps()) > 0 && t.key.Made(ctx, bundle, manifest)
}

// MadeStatement implements [Signer].
func (t *Timestamped) MadeStatement(ctx context.Context, bundle []byte, manifest digest.Digest, predicateType string) (bool, error) {
	return t.key.MadeStatement(ctx, bundle, manifest, predicateType)
}

// Bundle implements [Signer].
func (t *Timestamped) Bundle(ctx context.Context, statement []byte) ([]byte, error) {
	if len(t.tsas) == 0 {
		return nil, errors.New("signing config: it names no timestamp authority")
	}
	data, err := t.key.Bundle(ctx, statement)
	if err != nil {
		return nil, err
	}
	var b bundlev1.Bundle
	if err := protojson.Unmarshal(data, &b); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	ask, cancel := t.asker(ctx)
	defer cancel()
	stamps := &bundlev1.TimestampVerificationData{}
	for i, authority := range t.authorities(ask) {
		stamp, err := authority.GetTimestamp(ask.ctx, b.GetDsseEnvelope().GetSignatures()[0].GetSig())
		if err != nil {
			return nil, fmt.Errorf("get a timestamp from %s: %w", t.tsas[i].url, ask.failed(err))
		}
		stamps.Rfc3161Timestamps = append(stamps.Rfc3161Timestamps, &commonv1.RFC3161SignedTimestamp{SignedTimestamp: stamp})
	}
	b.VerificationMaterial.TimestampVerificationData = stamps
	key := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(t.key.verifier, time.Time{}, time.Time{}), nil
	})
	if err := t.check(&b, key); err != nil {
		return nil, err
	}
	return encode(&b)
}

// asker sends the requests for one signature with one context, because the clients in sigstore-go
// do not use any.
type asker struct {
	ctx  context.Context
	base http.RoundTripper
	try  time.Duration
	last string // scheme and host of the service that was asked last
}

func (s *Services) asker(ctx context.Context) (*asker, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.wait, fmt.Errorf("Sigstore's services have not answered in %s", s.wait)) //nolint:staticcheck // a name
	return &asker{ctx: ctx, base: s.o.Transport, try: s.try}, cancel
}

// failed returns the error of a service, with its URL and the reason for giving up.
func (a *asker) failed(err error) error {
	if cause := context.Cause(a.ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	if !strings.Contains(err.Error(), a.last) {
		err = fmt.Errorf("ask %s: %w", a.last, err)
	}
	return err
}

// RoundTrip implements [http.RoundTripper]. It returns the message of a busy or failing service
// as an error, because the clients in sigstore-go lose it.
func (a *asker) RoundTrip(req *http.Request) (*http.Response, error) {
	delay := a.try
	a.last = req.URL.Scheme + "://" + req.URL.Host
	for try := 1; ; try++ {
		next := req.Clone(a.ctx)
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			next.Body = body
		}
		resp, err := a.base.RoundTrip(next)
		switch {
		case err != nil && a.ctx.Err() != nil:
			return nil, context.Cause(a.ctx)
		case err != nil:
			return nil, err
		case resp.StatusCode >= 300 && resp.StatusCode < 400:
			resp.Body.Close()
			return nil, fmt.Errorf("%s redirects to a host that the signing config does not name", req.URL.Redacted())
		case resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500:
			return resp, nil
		}
		said, _ := io.ReadAll(io.LimitReader(resp.Body, maxComplaint))
		resp.Body.Close()
		if try == serviceTries {
			return nil, fmt.Errorf("%s answers %s: %s", req.URL.Redacted(), resp.Status, bytes.TrimSpace(said))
		}
		select {
		case <-time.After(delay):
			delay *= 2
		case <-a.ctx.Done():
			return nil, context.Cause(a.ctx)
		}
	}
}

// logClient adds entries to a Rekor log. Sigstore's own clients support neither additional
// certificate authorities nor contexts.
type logClient struct {
	at  string
	ask *asker
}

// Add implements [sgsign.RekorV2Client].
func (l logClient) Add(ctx context.Context, entry any) (*rekorv1.TransparencyLogEntry, error) {
	record, ok := entry.(*rekorpb.HashedRekordRequestV002)
	if !ok {
		return nil, fmt.Errorf("an entry is a %T", entry)
	}
	body, err := protojson.Marshal(&rekorpb.CreateEntryRequest{Spec: &rekorpb.CreateEntryRequest_HashedRekordRequestV002{HashedRekordRequestV002: record}})
	if err != nil {
		return nil, err
	}
	data, err := l.post(ctx, "/api/v2/log/entries", body)
	if err != nil {
		return nil, err
	}
	var out rekorv1.TransparencyLogEntry
	if err := protojson.Unmarshal(data, &out); err != nil {
		return nil, l.noEntry(err)
	}
	// The library dereferences missing fields.
	if len(out.GetCanonicalizedBody()) == 0 || out.GetInclusionProof().GetCheckpoint() == nil || out.GetLogId() == nil || out.GetKindVersion() == nil {
		return nil, l.noEntry(errors.New("fields are missing"))
	}
	return &out, nil
}

// CreateLogEntry implements [sgsign.RekorClient], for Rekor v1.
func (l logClient) CreateLogEntry(params *entries.CreateLogEntryParams, _ ...entries.ClientOption) (*entries.CreateLogEntryCreated, error) {
	body, err := json.Marshal(params.ProposedEntry)
	if err != nil {
		return nil, err
	}
	data, err := l.post(params.Context, "/api/v1/log/entries", body)
	if err != nil {
		return nil, err
	}
	var made models.LogEntry
	if err := json.Unmarshal(data, &made); err != nil {
		return nil, l.noEntry(err)
	}
	for id, entry := range made {
		// The library dereferences missing fields.
		if err := entry.Validate(strfmt.Default); err != nil {
			return nil, l.noEntry(err)
		}
		if len(made) != 1 || entry.Verification == nil || entry.Verification.InclusionProof == nil {
			return nil, l.noEntry(errors.New("fields are missing"))
		}
		return &entries.CreateLogEntryCreated{ETag: id, Payload: made}, nil
	}
	return nil, l.noEntry(errors.New("it is empty"))
}

func (l logClient) noEntry(err error) error {
	return fmt.Errorf("write to the log %s: its answer is not an entry: %w", l.at, err)
}

// post sends an entry, and returns the answer of the log.
func (l logClient) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.at+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := l.ask.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("write to the log %s: %w", l.at, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxService))
	if err != nil {
		return nil, fmt.Errorf("write to the log %s: %w", l.at, err)
	}
	if resp.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("write to the log %s: it answers %s: %s", l.at, resp.Status, data[:min(len(data), maxComplaint)])
	}
	return data, nil
}
