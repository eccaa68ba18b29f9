// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// Signer signs statements and manifests. A [Key] is a Signer.
type Signer = sign.Signer

// Key is a private key.
type Key = sign.Key

// Password returns the password of an encrypted key. If confirm is set, it asks twice.
type Password = sign.Password

// Stdin is the name of a key that is read from standard input.
const Stdin = sign.Stdin

// SignerOptions are the options of LoadSigner.
type SignerOptions struct {
	// Name is the name of the key: a file (PEM, or the encrypted format of cosign), env://NAME,
	// [Stdin], or NAME://REF for a key in the program sigstore-kms-NAME, which is run. The name
	// must come from the user, and never from a checked-in file.
	Name string
	// Password returns the password of an encrypted key; it may be nil.
	Password Password
}

// LoadSigner opens a private key.
func LoadSigner(ctx context.Context, o SignerOptions) (*Key, error) {
	if o.Name == "" {
		return nil, usagef("the name of a key is missing")
	}
	return sign.LoadSigner(ctx, o.Name, o.Password)
}

// SigstoreOptions configure the Sigstore instance to sign with.
type SigstoreOptions struct {
	Environment
	// SigningConfig is a file with the URLs of its services, and TrustedRoot one with their
	// certificates, both in the JSON formats of Sigstore's clients.
	SigningConfig, TrustedRoot string
}

// Sigstore is an instance of Sigstore, whose services issue timestamps and certificates and log
// signatures.
type Sigstore struct {
	services  *sign.Services
	transport http.RoundTripper
}

// OpenSigstore reads the files of a Sigstore instance. It sends no request.
func OpenSigstore(_ context.Context, o SigstoreOptions) (*Sigstore, error) {
	config, err := regular.ReadArgument(o.SigningConfig)
	if err != nil {
		return nil, fmt.Errorf("read signing config: %w", err)
	}
	trusted, err := regular.ReadArgument(o.TrustedRoot)
	if err != nil {
		return nil, fmt.Errorf("read trusted root: %w", err)
	}
	transport := o.Registry.Transport()
	services, err := sign.NewServices(sign.ServiceOptions{SigningConfig: config, TrustedRoot: trusted, Transport: transport})
	if err != nil {
		return nil, fmt.Errorf("read %s and %s: %w", o.SigningConfig, o.TrustedRoot, err)
	}
	return &Sigstore{services: services, transport: transport}, nil
}

// Logs returns the URLs of the transparency logs in which each keyless signature is entered, with
// the identity, what was signed and when.
func (s *Sigstore) Logs() []string { return s.services.Logs() }

// Keyless returns a signer with the identity in an identity token. The token is read from a file,
// or from [Stdin]. By default it comes from SIGSTORE_ID_TOKEN, GitHub Actions, or a file that
// Kubernetes projects.
func (s *Sigstore) Keyless(token string) (Signer, error) {
	found, err := sign.FindToken(token, s.transport)
	if err != nil {
		return nil, err
	}
	return sign.NewKeyless(s.services, found), nil
}

// Person describes how a person logs in.
type Person = sign.Person

// Prompt describes what a person has to do to log in.
type Prompt = sign.Prompt

// KeylessPerson returns a signer with the identity of a person, who logs in at the issuer in the
// signing config when the first signature is made.
func (s *Sigstore) KeylessPerson(p Person) (Signer, error) {
	token, err := s.services.PersonToken(p)
	if err != nil {
		return nil, err
	}
	return sign.NewKeyless(s.services, token), nil
}

// Timestamped returns a signer that signs with a key and adds timestamps.
func (s *Sigstore) Timestamped(key *Key) Signer { return sign.NewTimestamped(s.services, key) }

// KeyOptions are the options of GenerateKey.
type KeyOptions struct {
	// Prefix is the prefix of the names of the files.
	Prefix string
	// Password returns the password of the private key. If it is nil, or the password is empty,
	// the key is not encrypted.
	Password Password
}

// KeyResult names the files of a key pair.
type KeyResult struct {
	Private string `json:"private"`
	Public  string `json:"public"`
}

// GenerateKey writes a key pair as PREFIX.key and PREFIX.pub, for tape and for cosign. Existing
// files are never overwritten.
func GenerateKey(_ context.Context, o KeyOptions) (*KeyResult, error) {
	if o.Prefix == "" {
		return nil, usagef("a prefix for the files of the keys is missing")
	}
	private, public := o.Prefix+".key", o.Prefix+".pub"
	for _, file := range []string{private, public} {
		if _, err := os.Lstat(file); err == nil {
			return nil, fmt.Errorf("%s: %w: keys are never overwritten, choose another prefix", file, fs.ErrExist)
		}
	}
	key, pub, err := sign.GenerateKey(o.Password)
	if err != nil {
		return nil, err
	}
	if err := writeNew(private, key, 0o600); err != nil {
		return nil, fmt.Errorf("write private key: %w", err)
	}
	if err := writeNew(public, pub, 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("write public key: %w", err), os.Remove(private))
	}
	return &KeyResult{Private: private, Public: public}, nil
}

// writeNew writes a file that must not exist yet.
func writeNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// SignOptions are the options of Sign.
type SignOptions struct {
	Environment
	Ref    string
	Signer Signer
	// BundleOut is a file for the bundle of the root, which is sufficient to verify the root; ""
	// writes none. The signatures of an archive are only written to this file.
	BundleOut string
}

// SignResult describes what was signed.
type SignResult struct {
	Root       digest.Digest `json:"root"`
	Signatures []Signed      `json:"signatures"` // of root and content
	Bundle     string        `json:"bundle,omitempty"`
}

// Signed describes a signature of one manifest.
type Signed struct {
	Name    string        `json:"name"` // root or content
	Subject digest.Digest `json:"subject"`
	Digest  digest.Digest `json:"digest,omitempty"` // of the manifest that carries it; "" if it is only in a file
	// Existing reports that the key had already signed it, so nothing was added.
	Existing bool `json:"existing"`
}

// Sign signs root and content of an application, and attaches the signatures to them. It does not
// sign again what the key has already signed.
func Sign(ctx context.Context, o SignOptions) (result *SignResult, err error) {
	if o.Signer == nil {
		return nil, usagef("sign %s: a key is missing", o.Ref)
	}
	app, at, err := application(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if app.Format == artifact.FormatOriginal {
		return nil, advice.Add(fmt.Errorf("sign %s: it is of format %s, which has no signatures", o.Ref, app.Format), advice.Relocate, artifact.Format)
	}
	attach, err := attacher(at)
	if attach == nil && o.BundleOut == "" && err == nil {
		err = advice.Add(errors.New("an archive cannot be changed"), advice.BundleOut)
	}
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", o.Ref, err)
	}
	result = &SignResult{Root: app.Root.Digest}
	var bundle []byte
	for _, subject := range []struct {
		name string
		desc ocispec.Descriptor
	}{{"root", app.Root}, {"content", app.Content}} {
		if attach == nil && subject.name != "root" {
			continue
		}
		signed, data, err := signOne(ctx, o.Signer, at, subject.desc, attach)
		if err != nil {
			return nil, fmt.Errorf("sign %s of %s: %w", subject.name, o.Ref, err)
		}
		signed.Name = subject.name
		result.Signatures = append(result.Signatures, signed)
		if subject.name == "root" {
			bundle = data
		}
	}
	if o.BundleOut != "" {
		if err := extractBeside(ctx, nil, "", false, "bundle", o.BundleOut, bundle); err != nil {
			return nil, err
		}
		result.Bundle = o.BundleOut
	}
	return result, nil
}

// Signed reports whether the signer has signed the root. It verifies nothing else.
func (o SignOptions) Signed(ctx context.Context) (_ bool, err error) {
	app, at, err := application(ctx, o.Registry, o.Ref)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	_, bundle, err := findSignature(ctx, o.Signer, at, app.Root.Digest)
	return bundle != nil, err
}

// signOne signs a manifest unless the key has already signed it, and returns the bundle. If
// attach is nil, the bundle is not attached.
func signOne(ctx context.Context, signer Signer, at layout.Repository, subject ocispec.Descriptor, attach attach) (Signed, []byte, error) {
	signed := Signed{Subject: subject.Digest}
	found, data, err := findSignature(ctx, signer, at, subject.Digest)
	if err != nil {
		return signed, nil, err
	}
	if data != nil {
		signed.Digest, signed.Existing = found, true
		return signed, data, nil
	}
	blobs, err := sign.Blobs(ctx, signer, subject)
	if err != nil {
		return signed, nil, err
	}
	if attach != nil {
		if signed.Digest, err = attach(ctx, blobs); err != nil {
			return signed, nil, err
		}
	}
	return signed, blobs[len(blobs)-2].Data, nil
}

// findSignature returns a signature of a manifest by the signer, or nil if there is none. It
// ignores attached manifests that are not signatures, or cannot be read.
func findSignature(ctx context.Context, signer Signer, at layout.Repository, subject digest.Digest) (digest.Digest, []byte, error) {
	referrers, err := at.Referrers(ctx, subject)
	if err != nil {
		return "", nil, err
	}
	for _, desc := range referrers {
		bundle, err := sign.Attached(ctx, at, desc)
		if err != nil || bundle == nil {
			continue
		}
		if signer.Made(ctx, bundle, subject) {
			return desc.Digest, bundle, nil
		}
	}
	return "", nil, nil
}

// signedBy reports whether a signer has signed a manifest with any of their keys. It ignores
// attached manifests that are not valid signatures, or cannot be read.
func signedBy(ctx context.Context, signer Signer, at layout.Repository, subject digest.Digest) (bool, error) {
	referrers, err := at.Referrers(ctx, subject)
	if err != nil {
		return false, err
	}
	for _, desc := range referrers {
		bundle, err := sign.Attached(ctx, at, desc)
		if err != nil || bundle == nil {
			continue
		}
		made, err := signer.MadeStatement(ctx, bundle, subject, artifact.PredicateSignature)
		if made || err != nil && !errors.Is(err, sign.ErrForged) {
			return made, err
		}
	}
	return false, nil
}

// attach stores the blobs of a signature, of which the last is its manifest, and lists the
// manifest among the referrers. It returns the digest of the manifest.
type attach func(ctx context.Context, blobs []artifact.Blob) (digest.Digest, error)

// state attaches a signed statement about a manifest.
func (a attach) state(ctx context.Context, signer Signer, subject ocispec.Descriptor, predicateType string, predicate any) (digest.Digest, error) {
	blobs, err := sign.Statement(ctx, signer, subject, predicateType, predicate)
	if err != nil {
		return "", err
	}
	return a(ctx, blobs)
}

// stated returns the time for a statement: at, or now if at is zero.
func stated(at time.Time) time.Time {
	if at.IsZero() {
		return time.Now().UTC().Truncate(time.Second)
	}
	return at.UTC()
}

// attacher returns the function that attaches to manifests in a repository or layout. It returns
// nil for an archive.
func attacher(at *opened) (attach, error) {
	if repo, ok := at.Repository.(*registry.Repository); ok {
		return func(ctx context.Context, blobs []artifact.Blob) (digest.Digest, error) {
			manifest := blobs[len(blobs)-1]
			for _, b := range blobs[:len(blobs)-1] {
				if _, err := repo.PushBlob(ctx, b.Desc, func() (io.ReadCloser, error) {
					return io.NopCloser(bytes.NewReader(b.Data)), nil
				}); err != nil {
					return "", err
				}
			}
			return manifest.Desc.Digest, repo.PushReferrer(ctx, manifest.Desc, manifest.Data)
		}, nil
	}
	if info, err := os.Stat(at.layout.Path()); err != nil || !info.IsDir() {
		return nil, err
	}
	return func(ctx context.Context, blobs []artifact.Blob) (digest.Digest, error) {
		manifest := blobs[len(blobs)-1].Desc
		w, err := layout.Create(at.layout.Path())
		if err == nil {
			err = artifact.Put(ctx, w.Store(), blobs...)
		}
		if err != nil {
			return "", err
		}
		w.Add(manifest)
		return manifest.Digest, w.Close()
	}, nil
}
