// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/app/internal/verify"
	"github.com/taped-dev/tape/stages/sign"
)

// VerifyOptions are the options of Verify.
type VerifyOptions struct {
	Environment
	Ref string
	// Keys opens keys that several verifications have in common only once; if nil, they are
	// opened each time.
	Keys *Verifiers
	// Key is the public key that signed the application: a file, env://NAME, [Stdin] or
	// NAME://REF. If it is empty, Identity must have signed.
	Key      string
	Identity Identity
	// OriginKey is the public key that signed the application, or the one that it was relocated
	// from, in the same form as Key; if empty, Trust decides.
	OriginKey string
	// Trust is the file of a trust policy, or "" for none. With a policy, neither Key nor
	// Identity is required.
	Trust string
	// Bundle is a file with the signature of the root; if empty, the signatures attached to it
	// are used.
	Bundle string
	// Offline fails instead of asking a registry.
	Offline bool
	// Deep reads every blob in a repository, instead of only checking that it exists.
	Deep bool
	// Source and Commit must match the statements; empty values match any.
	Source, Commit string
	// AllowOutside allows pods to run images that are not in the artifact. They are still listed
	// as links.
	AllowOutside bool
	// ImageKeys are public keys, and ImageIdentity is an identity. One of these must have signed
	// each image where it was published. If none is given, signatures of images are not verified.
	ImageKeys     []string
	ImageIdentity Identity
	// Summary is the public key, and SummaryIdentity the identity, of an earlier verifier. If
	// either is given, their latest summary is accepted instead of verifying the chain: it must
	// state that the root was verified, and with Trust if that is given. The verifier must not be
	// the signer of the root.
	Summary         string
	SummaryIdentity Identity
	// SummaryFrom is the repository of the summary; by default the one of the application.
	SummaryFrom string
	// SummaryAge is the maximum age of the summary; 0 allows any.
	SummaryAge time.Duration
}

// Verifiers opens public keys, each only once.
type Verifiers = sign.Verifiers

// Identity is a signer without a key of their own, certified by a Sigstore instance. The zero
// value is no identity.
type Identity struct {
	// TrustedRoot is a file with the authorities of a Sigstore instance, so that no request is
	// sent.
	TrustedRoot string
	// Issuer is the exact URL of the issuer of the identity.
	Issuer string
	// Pattern is the exact identity, or a pattern in which * matches one path segment or, at the
	// end, everything that follows.
	Pattern string
}

// IsZero reports whether there is no identity.
func (s Identity) IsZero() bool { return s == Identity{} }

// open reads the trusted root.
func (s Identity) open() (*trust.Authority, error) {
	if s.TrustedRoot == "" || s.Issuer == "" || s.Pattern == "" {
		return nil, usagef("a trusted root, an issuer and an identity go together, and one of them is missing")
	}
	data, err := regular.ReadArgument(s.TrustedRoot)
	if err != nil {
		return nil, fmt.Errorf("read trusted root: %w", err)
	}
	root, err := trust.NewRoot(data, trust.Want{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.TrustedRoot, err)
	}
	return trust.NewIdentity("", trust.Identity{Root: root, Issuer: s.Issuer, Pattern: s.Pattern})
}

// authority returns the signer with an identity or, if that is zero, with a key.
func authority(ctx context.Context, keys *Verifiers, key string, id Identity) (*trust.Authority, error) {
	if !id.IsZero() {
		return id.open()
	}
	if key == "" {
		return nil, usagef("a public key, an identity or a trust policy is missing")
	}
	verifier, err := keys.Open(ctx, key)
	return &trust.Authority{Key: verifier}, err
}

// VerifyResult reports for each link of the chain whether it was verified.
type VerifyResult = verify.Result

// VerifiedLink is a link of the chain.
type VerifiedLink = verify.Link

// Verify verifies the whole chain of an application. The result reports whether verification
// failed; an error means that it could not be carried out.
func Verify(ctx context.Context, o VerifyOptions) (result *VerifyResult, err error) {
	options, at, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	return o.verify(ctx, at, options)
}

// open opens the application, and returns the options of the verification. The caller must close
// the application.
func (o *VerifyOptions) open(ctx context.Context) (options verify.Options, at *opened, err error) {
	if _, err := os.Stat(o.Ref); o.Offline && !layout.IsReference(o.Ref) && err != nil {
		return options, nil, advice.Add(fmt.Errorf("verify %s: it is in a registry, which is not asked offline", o.Ref), advice.SaveFirst)
	}
	summary, err := o.summary(ctx)
	if err != nil {
		return options, nil, err
	}
	// A signer is optional if there is a summary and nothing else to verify.
	if summary == nil || o.Key != "" || !o.Identity.IsZero() || o.Trust != "" || o.Bundle != "" {
		if options, err = verifyOptions(ctx, o.Keys, o.Key, o.Identity, o.Trust, o.Bundle); err != nil {
			return options, nil, err
		}
	}
	options.Summary = summary
	options.Deep, options.Source, options.Commit, options.AllowOutside = o.Deep, o.Source, o.Commit, o.AllowOutside
	if o.OriginKey != "" {
		if options.Origin, err = authority(ctx, o.Keys, o.OriginKey, Identity{}); err != nil {
			return options, nil, err
		}
	}
	for _, name := range o.ImageKeys {
		by, err := authority(ctx, o.Keys, name, Identity{})
		if err != nil {
			return options, nil, err
		}
		options.Images = append(options.Images, by)
	}
	if !o.ImageIdentity.IsZero() {
		by, err := o.ImageIdentity.open()
		if err != nil {
			return options, nil, err
		}
		options.Images = append(options.Images, by)
	}
	at, err = open(ctx, o.Registry, o.Ref)
	return options, at, err
}

// summary returns the options of a summary, or nil if there is none.
func (o *VerifyOptions) summary(ctx context.Context) (_ *verify.SummaryOptions, err error) {
	if o.Summary == "" && o.SummaryIdentity.IsZero() {
		if o.SummaryFrom != "" || o.SummaryAge != 0 {
			return nil, usagef("the verifier whose summary is accepted is missing: give a key or an identity")
		}
		return nil, nil
	}
	if o.Deep || o.Source != "" || o.Commit != "" || len(o.ImageKeys) > 0 || !o.ImageIdentity.IsZero() {
		return nil, usagef("a summary says nothing about sources, commits, signers of images or blobs: verify without it")
	}
	s, id := &verify.SummaryOptions{MaxAge: o.SummaryAge, Now: time.Now()}, o.SummaryIdentity
	if o.Summary != "" {
		id = Identity{}
	}
	if s.By, err = authority(ctx, o.Keys, o.Summary, id); err == nil && o.SummaryFrom != "" {
		s.Place, err = repositoryOf(o.Registry, o.SummaryFrom)
	}
	return s, err
}

// repositoryOf opens the repository with the given name, which must not have a tag or digest.
func repositoryOf(client *registry.Client, name string) (*registry.Repository, error) {
	r, err := parseReference(name)
	if err != nil {
		return nil, err
	}
	if r.Version() != "" {
		return nil, usagef("%s: name a repository, without tag and digest", name)
	}
	return client.Repository(r.Name)
}

func (o *VerifyOptions) verify(ctx context.Context, at *opened, options verify.Options) (*VerifyResult, error) {
	root, err := at.find(ctx)
	if errors.Is(err, engine.ErrPolicy) {
		return &VerifyResult{Root: root.Digest, Links: []VerifiedLink{{Name: "archive", Reason: err.Error()}}}, nil
	}
	var result *VerifyResult
	if err == nil {
		if options.Name = at.name; at.name != "" {
			options.Tag = at.tag
		}
		result, err = verify.Application(ctx, at.Repository, root, options)
	}
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", o.Ref, err)
	}
	// This does not apply to a folder, which may contain other content.
	if err := at.checkArchive(ctx, root, true); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		result.OK = false
		result.Links = append(result.Links, VerifiedLink{Name: "archive", Subject: root.Digest, Reason: err.Error()})
	}
	return result, nil
}

// verifyOptions returns the options for a signer and a bundle file, which may be empty.
func verifyOptions(ctx context.Context, keys *Verifiers, key string, id Identity, file, bundle string) (options verify.Options, err error) {
	if file != "" {
		if options.Policy, err = trust.Read(ctx, file); err != nil {
			return options, err
		}
	}
	if file == "" || key != "" || !id.IsZero() {
		if options.By, err = authority(ctx, keys, key, id); err != nil {
			return options, err
		}
	}
	if bundle != "" {
		if options.Bundle, err = regular.ReadArgument(bundle); err != nil {
			return options, fmt.Errorf("read bundle: %w", err)
		}
		if _, err := sign.Read(options.Bundle); err != nil {
			return options, fmt.Errorf("%s: %w", bundle, err)
		}
	}
	return options, nil
}
