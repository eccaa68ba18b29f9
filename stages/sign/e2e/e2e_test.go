// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package e2e_test signs with the servers of Sigstore, and verifies without them and without a
// network. It is a separate module, so that tape does not depend on theirs.
package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// The addresses of the servers: the network is the test's own, so each port is free.
const (
	registry  = "127.0.0.1:5000"
	issuer    = "http://127.0.0.1:5001"
	fulcio    = "http://127.0.0.1:5002"
	stamps    = "http://127.0.0.1:5003"
	rekor     = "http://127.0.0.1:5004"
	tesseract = "http://127.0.0.1:5005"
)

// ready bounds how long a server takes to start.
const ready = time.Minute

func TestOffline(t *testing.T) {
	tape, servers := os.Getenv("TAPE"), os.Getenv("TAPE_SIGSTORE")
	network, err := os.Readlink("/proc/self/ns/net")
	if outside := os.Getenv("TAPE_OUTSIDE"); err != nil || outside == "" || network == outside {
		t.Fatal("this test takes its network down, so it wants one of its own: run make test-sigstore")
	}
	t.Chdir(t.TempDir())
	t.Setenv("HOME", t.TempDir())
	server := func(name string) string { return filepath.Join(servers, name) }

	var s services
	t.Cleanup(s.stop)
	s.serveIssuer(t, "release@example.com")
	s.start(t, "http://"+registry+"/v2/", tape, "registry", "serve", "--addr", registry)
	s.start(t, stamps+"/ping", server("timestamp-server"), "serve", "--host", "127.0.0.1", "--port", port(stamps),
		"--timestamp-signer", "memory", "--disable-ntp-monitoring")
	logKey, ctKey := newKey(t, "rekor.pem"), newKey(t, "ct.pem")
	s.start(t, rekor+"/healthz", server("rekor-server"), "serve", "--http-address", "127.0.0.1", "--http-port", port(rekor),
		"--grpc-port", "5014", "--http-metrics-port", "5024", "--hostname", "127.0.0.1", "--signer-filepath", "rekor.pem",
		"--storage-dir", "rekor", "--checkpoint-interval", "500ms")
	write(t, "fulcio.yaml", []byte("oidc-issuers:\n  "+issuer+":\n    issuer-url: "+issuer+"\n    client-id: sigstore\n    type: email\n"))
	s.start(t, fulcio+"/healthz", server("fulcio"), "serve", "--host", "127.0.0.1", "--port", port(fulcio),
		"--grpc-host", "127.0.0.1", "--grpc-port", "5012", "--metrics-port", "5022", "--ca", "ephemeralca",
		"--config-path", "fulcio.yaml", "--ct-log-url", tesseract, "--ct-log-public-key-path", "ct.pem.pub")
	// The log of certificates accepts those of the authority, which created itself when it
	// started.
	var bundle struct {
		Chains []struct{ Certificates []string }
	}
	if err := json.Unmarshal(get(t, fulcio+"/api/v2/trustBundle"), &bundle); err != nil || len(bundle.Chains) != 1 {
		t.Fatalf("trust bundle: %v, %v", bundle, err)
	}
	authority := strings.Join(bundle.Chains[0].Certificates, "\n")
	write(t, "roots.pem", []byte(authority))
	s.start(t, tesseract+"/healthz", server("tesseract"), "--http_endpoint", strings.TrimPrefix(tesseract, "http://"),
		"--origin", "ct.example.com", "--private_key", "ct.pem", "--roots_pem_file", "roots.pem",
		"--storage_dir", "ct", "--checkpoint_interval", "500ms")

	service := func(url string, version int) any {
		return []any{map[string]any{"url": url, "majorApiVersion": version, "operator": "test", "validFor": since()}}
	}
	write(t, "signing_config.json", marshal(t, map[string]any{
		"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
		"caUrls":    service(fulcio, 1), "oidcUrls": service(issuer, 1),
		"rekorTlogUrls": service(rekor, 2), "rekorTlogConfig": map[string]any{"selector": "ANY"},
		"tsaUrls": service(stamps+"/api/v1/timestamp", 1), "tsaConfig": map[string]any{"selector": "ANY"},
	}))
	trusted := map[string]any{
		"mediaType":              "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		"tlogs":                  logs(rekor, logKey),
		"ctlogs":                 logs(tesseract, ctKey),
		"certificateAuthorities": chain(t, fulcio, []byte(authority)),
		"timestampAuthorities":   chain(t, stamps, get(t, stamps+"/api/v1/timestamp/certchain")),
	}
	write(t, "trusted_root.json", marshal(t, trusted))
	pushImage(t, registry+"/shop/web:1")
	write(t, "app.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: web\n    image: "+registry+"/shop/web:1\n"))
	app := registry + "/shop/app:1"
	run(t, 0, tape, "package", "app.yaml", "-O", app, "--sign", "--keyless", "--signing-config", "signing_config.json",
		"--trusted-root", "trusted_root.json", "--identity-token", "token.jwt")
	run(t, 0, tape, "copy", app, "archive:app.tar")
	// cosign takes minutes to build, so it is used only if it is installed.
	if cosign := os.Getenv("TAPE_COSIGN"); cosign != "" {
		verify := func(status int, identity string) {
			t.Helper()
			run(t, status, cosign, "verify", "--trusted-root", "trusted_root.json", "--use-signed-timestamps",
				"--certificate-oidc-issuer", issuer, "--certificate-identity", identity, app)
		}
		verify(0, "release@example.com")
		verify(1, "other@example.com")
	} else {
		t.Log("no cosign: the signature is not held against it (TAPE_COSIGN names the program)")
	}

	s.stop()
	run(t, 0, "ip", "link", "set", "lo", "down")
	verify := func(status int, root, identity string) string {
		t.Helper()
		return run(t, status, tape, "verify", "archive:app.tar", "--offline", "--trusted-root", root, "--issuer", issuer, "--identity", identity)
	}
	if said := verify(0, "trusted_root.json", "*@example.com"); !strings.Contains(said, "release@example.com") {
		t.Errorf("verify does not name who signed:\n%s", said)
	}
	verify(3, "trusted_root.json", "*@example.org")
	// Each of the four servers was involved.
	otherKey := newKey(t, "other.pem")
	for _, test := range []struct {
		part  string
		other any
		want  string
	}{
		{"tlogs", logs(rekor, otherKey), "no entry of a log"},
		{"ctlogs", logs(tesseract, otherKey), "(no SCT)"},
		{"certificateAuthorities", trusted["timestampAuthorities"], "no certificate authority of the trusted root certified it"},
		{"timestampAuthorities", trusted["certificateAuthorities"], "no log or authority of the trusted root states when it was signed"},
	} {
		changed := maps.Clone(trusted)
		changed[test.part] = test.other
		write(t, "other_root.json", marshal(t, changed))
		if said := verify(3, "other_root.json", "*@example.com"); !strings.Contains(said, test.want) {
			t.Errorf("with other %s, verify does not say %q:\n%s", test.part, test.want, said)
		}
	}
}

// services are the started servers, which can be stopped.
type services struct{ stops []func() }

// stop ends them all, once.
func (s *services) stop() {
	for _, stop := range s.stops {
		stop()
	}
	s.stops = nil
}

// start starts a program, and waits until it answers at url.
func (s *services) start(t *testing.T, url, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), ready)
	defer cancel()
	cmd := exec.Command(program, args...)
	log := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ended error
	done := make(chan struct{})
	go func() { ended = cmd.Wait(); close(done) }()
	s.stops = append(s.stops, func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(program), log)
		}
	})
	for {
		if r, err := http.Get(url); err == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-done:
			t.Fatalf("%s ended: %v", filepath.Base(program), ended)
		case <-ctx.Done():
			t.Fatalf("%s does not answer at %s", filepath.Base(program), url)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// serveIssuer serves the keys that verify identity tokens, and writes a token to token.jwt.
func (s *services) serveIssuer(t *testing.T, email string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": issuer, "aud": "sigstore", "sub": "1", "email": email, "email_verified": true,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	write(t, "token.jwt", []byte(token))
	answers := map[string][]byte{
		"/.well-known/openid-configuration": marshal(t, map[string]any{
			"issuer": issuer, "jwks_uri": issuer + "/keys", "authorization_endpoint": issuer + "/auth", "token_endpoint": issuer + "/token",
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"ES256"},
		}),
		"/keys": marshal(t, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}}),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port(issuer))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: ready, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		if !known {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})}
	done := make(chan struct{})
	go func() { _ = server.Serve(listener); close(done) }()
	s.stops = append(s.stops, func() { _ = server.Close(); <-done })
}

// newKey writes a key to file and its public one to file.pub, and returns the DER of the
// latter.
func newKey(t *testing.T, file string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
	write(t, file+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	return public
}

// since returns a validity period that began an hour ago.
func since() any {
	return map[string]any{"start": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)}
}

// logs returns, for a trusted root, the log at url with a public key.
func logs(url string, key []byte) any {
	id := sha256.Sum256(key)
	return []any{map[string]any{
		"baseUrl": url, "hashAlgorithm": "SHA2_256", "logId": map[string]any{"keyId": id[:]},
		"publicKey": map[string]any{"rawBytes": key, "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since()},
	}}
}

// chain returns, for a trusted root, the authority at url with certificates in PEM.
func chain(t *testing.T, url string, data []byte) any {
	t.Helper()
	certs := []any{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		certs = append(certs, map[string]any{"rawBytes": block.Bytes})
	}
	return []any{map[string]any{
		"uri": url, "subject": map[string]any{"commonName": "test", "organization": "test"},
		"certChain": map[string]any{"certificates": certs}, "validFor": since(),
	}}
}

// pushImage pushes a unique image.
func pushImage(t *testing.T, ref string) {
	t.Helper()
	image, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// run runs a program that must end with a status, and returns its output.
func run(t *testing.T, status int, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Fatalf("%s: status %d, want %d\n%s", cmd, got, status, out)
	}
	return string(out)
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, r.Status, err)
	}
	return data
}

func port(url string) string { return url[strings.LastIndex(url, ":")+1:] }

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
