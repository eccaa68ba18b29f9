// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/internal/regular"
)

// Password returns the password of an encrypted key. If confirm is set, it asks twice. It is only
// called if a password is needed, and may be nil.
type Password func(confirm bool) ([]byte, error)

var errNoPassword = errors.New("it is encrypted: set COSIGN_PASSWORD")

// GenerateKey generates an ECDSA P-256 key pair in PEM. The private key is encrypted in the
// format of cosign (or plain PKCS#8 if the password is empty), the public key is in PKIX form.
func GenerateKey(password Password) (private, public []byte, err error) {
	private, public, err = cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), func(confirm bool) ([]byte, error) {
		if password == nil {
			return nil, nil
		}
		secret, err := password(confirm)
		if len(secret) == 0 {
			secret = nil // which leaves the key unencrypted
		}
		return secret, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	return private, public, nil
}

// LoadSigner opens a private key: a file (PKCS#8, PKCS#1 or SEC 1 PEM, or the encrypted format of
// cosign), env://NAME, [Stdin], or a key NAME://REF in the program sigstore-kms-NAME, which is
// run. The name must come from a person, and never from an artifact or a checked-in file.
func LoadSigner(ctx context.Context, name string, password Password) (*Key, error) {
	if isProgramKey(name) {
		p, public, err := newProgram(ctx, name)
		if err != nil {
			return nil, err
		}
		return newKey(public, name, p.sign)
	}
	data, err := readKey(name)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	var signer signature.Signer
	var public crypto.PublicKey
	private, err := parsePrivate(data, password)
	if err == nil {
		signer, err = newSigner(private)
	}
	if err == nil {
		public, err = signer.PublicKey()
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", name, err)
	}
	key, err := newKey(public, name, func(_ context.Context, message []byte) ([]byte, error) {
		return signer.SignMessage(bytes.NewReader(message))
	})
	if err == nil {
		key.same = true
	}
	return key, err
}

// Key is a private key, which may be in another program. It implements [Signer], and
// [signature.Signer] for other messages.
type Key struct {
	name     string
	public   crypto.PublicKey
	verifier signature.Verifier
	sign     func(ctx context.Context, message []byte) ([]byte, error)
	same     bool // the same message always has the same signature
}

func newKey(public crypto.PublicKey, name string, sign func(context.Context, []byte) ([]byte, error)) (*Key, error) {
	verifier, err := NewVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	return &Key{name: name, public: public, verifier: verifier, sign: sign}, nil
}

// PublicKey implements [signature.Signer].
func (k *Key) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) { return k.public, nil }

// SignMessage implements [signature.Signer]. It never returns a signature that the public key
// does not verify: a key in another program may sign with another hash, or have been replaced.
func (k *Key) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	ctx := context.Background()
	for _, opt := range opts {
		opt.ApplyContext(&ctx)
	}
	data, err := io.ReadAll(message)
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	sig, err := k.sign(ctx, data)
	if err != nil {
		return nil, err
	}
	if err := k.verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(data)); err != nil {
		return nil, fmt.Errorf("key %s: its signature does not verify with its public key: it may sign with another algorithm or hash: %w", k.name, err)
	}
	return sig, nil
}

const (
	// Stdin is the name of a key that is read from standard input.
	Stdin = "-"
	// environmentPrefix is the prefix of the name of a key in a variable.
	environmentPrefix = "env://"
)

// readKey reads a key from a file, standard input, or a variable.
func readKey(from string) ([]byte, error) {
	if name, ok := strings.CutPrefix(from, environmentPrefix); ok {
		value := os.Getenv(name)
		if value == "" {
			return nil, fmt.Errorf("%s: the variable %q is not set", from, name)
		}
		return []byte(value), nil
	}
	if from == Stdin {
		return regular.ReadAll("standard input", os.Stdin)
	}
	data, err := regular.ReadArgument(from)
	if isProgramKey(from) && err != nil {
		return nil, fmt.Errorf("%s: a key of a program is not accepted from a file that names it, only from the person who runs tape: give the public key as a file", from)
	}
	return data, err
}

// newSigner returns a signer with sigstore's default algorithm for the kind of key.
func newSigner(key crypto.PrivateKey) (signature.Signer, error) {
	signer, err := signature.LoadDefaultSigner(key)
	if err != nil {
		return nil, err
	}
	curve, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return signer, nil // signatures by RSA (PKCS #1 v1.5) and Ed25519 are deterministic
	}
	details, err := signature.GetDefaultAlgorithmDetails(curve.Public())
	if err != nil {
		return nil, err
	}
	return deterministic{Signer: signer, key: curve, hash: details.GetHashType()}, nil
}

// deterministic signs according to RFC 6979: signing the same manifest again with the same key
// gives the same signature, so it need not be pushed again.
type deterministic struct {
	signature.Signer
	key  *ecdsa.PrivateKey
	hash crypto.Hash
}

// SignMessage implements [signature.Signer].
func (d deterministic) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	sum, hash, err := signature.ComputeDigestForSigning(message, d.hash, []crypto.Hash{d.hash}, opts...)
	if err != nil {
		return nil, err
	}
	return d.key.Sign(nil, sum, hash)
}

// decode returns the block of a PEM file, which must contain one key, because a second key would
// be silently ignored.
func decode(data []byte) (*pem.Block, error) {
	block, rest := pem.Decode(bytes.TrimPrefix(data, []byte("\ufeff")))
	if block != nil && block.Type == "EC PARAMETERS" { // openssl writes this before the key
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("not a PEM file ('ssh-keygen -e -m PKCS8 -f FILE' converts a public key of OpenSSH, and 'openssl pkey' a binary one)")
	}
	for another, rest := pem.Decode(rest); another != nil; another, rest = pem.Decode(rest) {
		if another.Type == block.Type {
			return nil, fmt.Errorf("it has more than one %q: name a file with one", block.Type)
		}
	}
	return block, nil
}

func parsePrivate(data []byte, password Password) (crypto.PrivateKey, error) {
	block, err := decode(data)
	if err != nil {
		return nil, advice.Add(err, advice.GenerateKey)
	}
	switch block.Type {
	case string(cryptoutils.PublicKeyPEMType), string(cryptoutils.PKCS1PublicKeyPEMType), "CERTIFICATE":
		return nil, fmt.Errorf("this is a %s; signing needs the private one", strings.ToLower(block.Type))
	case "OPENSSH PRIVATE KEY":
		return nil, advice.Add(errors.New("this is a key in the format of OpenSSH"), advice.GenerateKey)
	}
	asked := false
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(pem.EncodeToMemory(block), func(bool) ([]byte, error) {
		if password == nil {
			return nil, errNoPassword
		}
		secret, err := password(false)
		asked = err == nil
		return secret, err
	})
	if err != nil && asked && !strings.Contains(err.Error(), "supported") {
		return nil, errors.New("wrong password: set COSIGN_PASSWORD to the right one")
	}
	return key, err
}

// OpenVerifier opens a public key like [LoadVerifier], or that of a key NAME://REF by running the
// program sigstore-kms-NAME. The name must come from a person, and never from an artifact or a
// checked-in file.
func OpenVerifier(ctx context.Context, name string) (signature.Verifier, error) {
	if !isProgramKey(name) {
		return LoadVerifier(name)
	}
	_, public, err := newProgram(ctx, name)
	if err != nil {
		return nil, err
	}
	return NewVerifier(public)
}

// Verifiers opens public keys like [OpenVerifier], each once, for several verifications: a
// program may be slow, and a token may not support many programs at once. The zero value is ready
// for use, and nil opens a key every time.
type Verifiers struct {
	mu     sync.Mutex
	opened map[string]signature.Verifier
}

// Open opens a public key.
func (v *Verifiers) Open(ctx context.Context, name string) (signature.Verifier, error) {
	if v == nil {
		return OpenVerifier(ctx, name)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if opened := v.opened[name]; opened != nil {
		return opened, nil
	}
	opened, err := OpenVerifier(ctx, name)
	if err != nil {
		return nil, err
	}
	if v.opened == nil {
		v.opened = map[string]signature.Verifier{}
	}
	v.opened[name] = opened
	return opened, nil
}

// LoadVerifier reads a public key in PKIX PEM: a file, env://NAME, or [Stdin]. It rejects a
// private key, because verifiers should not have it.
func LoadVerifier(file string) (signature.Verifier, error) {
	data, err := readKey(file)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", file, err)
	}
	switch block.Type {
	case string(cryptoutils.PublicKeyPEMType), string(cryptoutils.PKCS1PublicKeyPEMType):
	case "CERTIFICATE":
		return nil, fmt.Errorf("read key %s: verifying needs a public key, this is a certificate: 'openssl x509 -pubkey -noout -in FILE' prints its key", file)
	default:
		return nil, fmt.Errorf("read key %s: verifying needs a public key, this is a %q", file, block.Type)
	}
	var verifier signature.Verifier
	key, err := cryptoutils.UnmarshalPEMToPublicKey(pem.EncodeToMemory(block))
	if err == nil {
		verifier, err = NewVerifier(key)
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", file, err)
	}
	return verifier, nil
}

// NewVerifier returns a verifier with sigstore's default algorithm for the kind of key.
func NewVerifier(key crypto.PublicKey) (signature.Verifier, error) {
	return signature.LoadDefaultVerifier(key)
}

// KeyDigest returns the digest of a verifier's public key, in PKIX DER.
func KeyDigest(verifier signature.Verifier) (digest.Digest, error) {
	key, err := verifier.PublicKey()
	if err != nil {
		return "", fmt.Errorf("public key of the verifier: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	return digest.FromBytes(der), nil
}

// hint returns the name of a public key in a bundle, like cosign: base64 of the SHA-256 of its
// PKIX DER.
func hint(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}
