// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
)

// keyProgram makes this binary a key program with sigstore's own handler: its value is the file
// of the key.
const keyProgram = "TAPE_TEST_KEY_PROGRAM"

func TestMain(m *testing.M) {
	file := os.Getenv(keyProgram)
	if file == "" {
		os.Exit(m.Run())
	}
	if err := serveKey(file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// inFile is a key in a file whose program is this binary.
type inFile struct{ signature.SignerVerifier }

func (inFile) CreateKey(context.Context, string) (crypto.PublicKey, error) {
	return nil, errors.New("not here")
}

func (inFile) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, errors.New("not here")
}
func (inFile) SupportedAlgorithms() []string { panic("nobody needs to know") }
func (inFile) DefaultAlgorithm() string      { panic("nobody needs to know") }

func serveKey(file string) error {
	args, err := handler.GetPluginArgs(os.Args)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(file, args.InitOptions.KeyResourceID))
	if err != nil {
		return handler.WriteErrorResponse(os.Stdout, err)
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(data, cryptoutils.SkipPassword)
	if err != nil {
		return err
	}
	hash := args.InitOptions.HashFunc
	if wrong := os.Getenv("TAPE_TEST_WRONG_HASH"); wrong != "" && args.MethodName == common.SignMessageMethodName {
		hash = crypto.SHA512
	}
	signer, err := signature.LoadSignerVerifier(key, hash)
	if err != nil {
		return err
	}
	_, err = handler.Dispatch(os.Stdout, os.Stdin, args, inFile{signer})
	return err
}

// keyPrograms puts programs on the PATH: shell scripts with the names of keys.
func keyPrograms(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, programPrefix+name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// serving returns a script that runs this binary, with keys in a folder.
func serving(t *testing.T, keys map[string]crypto.PrivateKey) string {
	t.Helper()
	dir := t.TempDir()
	for name, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s=%q exec %q \"$@\"", keyProgram, dir, self)
}

// A key in a program signs like one in a file: each kind with its own hash.
func TestProgramKey(t *testing.T) {
	keys := map[string]crypto.PrivateKey{}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["ed25519"] = ed
	keyPrograms(t, map[string]string{"test": serving(t, keys), "wrong": "export TAPE_TEST_WRONG_HASH=yes\n" + serving(t, keys)})
	manifest := digest.FromString("a manifest")
	for name := range keys {
		signer, err := LoadSigner(t.Context(), "test://"+name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		first, err := Bundle(t.Context(), signer, manifest)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		verifier, err := OpenVerifier(t.Context(), "test://"+name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(t.Context(), verifier, first, manifest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// ECDSA signs differently each time: each signature is valid.
		second, err := Bundle(t.Context(), signer, manifest)
		if err != nil {
			t.Fatal(err)
		}
		if !signer.Made(t.Context(), first, manifest) || !signer.Made(t.Context(), second, manifest) {
			t.Errorf("%s: the signer does not know its own signature", name)
		}
	}
	signer, err := LoadSigner(t.Context(), "wrong://p256", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Bundle(t.Context(), signer, manifest); err == nil || !strings.Contains(err.Error(), "does not verify with its public key") {
		t.Errorf("another hash: %v", err)
	}
}

// Any fault of a program is an error that names it: nothing panics, hangs or ends tape.
func TestBadPrograms(t *testing.T) {
	keyPrograms(t, map[string]string{
		"garbage":   `echo "<html>"`,
		"silent":    `exit 0`,
		"broken":    `printf 'no\nsuch slot\n' >&2; exit 3`,
		"refuses":   `printf '{"errorMessage":"no\\nsuch key"}'; exit 1`,
		"empty":     `printf '{}'`,
		"null":      `printf 'null'`,
		"halfempty": `printf '{"publicKey":{}}'`,
		"nokey":     `printf '{"publicKey":{"publicKeyPEM":"aGVsbG8="}}'`,
		"list":      `printf '[1]'`,
		"twice":     `printf '{}{}'`,
		"endless":   `while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done | head -c 2000000`,
		"killed":    `kill -9 $$`,
	})
	for key, want := range map[string]string{
		"missing://k":   "there is no program sigstore-kms-missing on the PATH",
		"../../evil://": "is not the name of a key program",
		"/bin/sh://k":   "is not the name of a key program",
		"garbage://":    "it names no key",
		"garbage://k":   "its answer is not JSON",
		"silent://k":    "its answer is not JSON",
		"broken://k":    "exit status 3 (no such slot)",
		"refuses://k":   "sigstore-kms-refuses: no such key",
		"empty://k":     "its answer has no public key",
		"null://k":      "its answer has no public key",
		"halfempty://k": "its answer has no public key",
		"nokey://k":     "its public key: ",
		"list://k":      "its answer is not JSON",
		"twice://k":     "its answer is not JSON",
		"endless://k":   "its answer is longer than",
		"killed://k":    "signal: killed",
	} {
		if _, err := LoadSigner(t.Context(), key, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("sign with %s: %v, want %q", key, err, want)
		}
		if _, err := OpenVerifier(t.Context(), key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("verify with %s: %v, want %q", key, err, want)
		}
		// A program that a file names is never run.
		if _, err := LoadVerifier(key); err == nil || !strings.Contains(err.Error(), "only from the person who runs tape") {
			t.Errorf("a file that names %s: %v", key, err)
		}
	}
}

// A program that answers the first request correctly may fail the second.
func TestBadSignatures(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{
		"empty":  `{}`,
		"none":   `{"signMessage":{"signature":""}}`,
		"forged": `{"signMessage":{"signature":"aGVsbG8="}}`,
		"pin":    `{"errorMessage":"wrong PIN"}`,
	}
	scripts := map[string]string{}
	for name, answer := range answers {
		scripts[name] = fmt.Sprintf("case \"$2\" in *signMessage*) printf '%%s' '%s';; *) printf '%%s' '{\"publicKey\":{\"publicKeyPEM\":%s}}';; esac", answer, b64JSON(public))
	}
	keyPrograms(t, scripts)
	for name, want := range map[string]string{
		"empty": "its answer has no signature", "none": "its answer has no signature",
		"forged": "does not verify with its public key", "pin": "sigstore-kms-pin: wrong PIN",
	} {
		signer, err := LoadSigner(t.Context(), name+"://k", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Bundle(t.Context(), signer, digest.FromString("m")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// A hanging program is stopped: when the caller cancels, and after a while in any case.
func TestHangingProgram(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	keyPrograms(t, map[string]string{"hangs": "touch " + started + "\nexec sleep 600", "leaves": "sleep 3 & printf '{}'"})
	p := &program{key: "hangs://k", name: programPrefix + "hangs", time: time.Millisecond, linger: time.Minute}
	if _, err := p.publicKey(t.Context()); !errors.Is(err, context.DeadlineExceeded) && (err == nil || !strings.Contains(err.Error(), "it has not answered in 1ms")) {
		t.Errorf("for ever: %v", err)
	}
	p.time = time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("interrupted")
	go func() {
		for {
			if _, err := os.Stat(started); err == nil {
				cancel(reason)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := p.publicKey(ctx); !errors.Is(err, reason) {
		t.Errorf("cancelled: %v", err)
	}
	// Its children may keep the output open; the answer is used.
	p = &program{key: "leaves://k", name: programPrefix + "leaves", time: time.Hour, linger: time.Millisecond}
	if _, err := p.publicKey(t.Context()); err == nil || !strings.Contains(err.Error(), "its answer has no public key") {
		t.Errorf("left a child: %v", err)
	}
}

// TestVerifiers runs the program of a key once for several verifications at once, and again
// after it failed.
func TestVerifiers(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	runs := filepath.Join(t.TempDir(), "runs")
	keyPrograms(t, map[string]string{
		"counted": "echo x >>" + runs + "\n" + serving(t, map[string]crypto.PrivateKey{"k": key}),
		"later":   "test -e " + runs + " || exit 1\n" + serving(t, map[string]crypto.PrivateKey{"k": key}),
	})
	var keys Verifiers
	if _, err := keys.Open(t.Context(), "later://k"); err == nil {
		t.Error("a program that failed has a key")
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := keys.Open(t.Context(), "counted://k"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if data, err := os.ReadFile(runs); err != nil || string(data) != "x\n" {
		t.Errorf("the program ran %q times, %v", data, err)
	}
	if _, err := keys.Open(t.Context(), "later://k"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
