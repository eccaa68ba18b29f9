// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/store"
	"github.com/taped-dev/tape/stages/sign"
	"github.com/taped-dev/tape/stages/verify"
)

// VerifyOptions are what Verify takes.
type VerifyOptions struct {
	Environment
	Ref string
	// Key is a file of the public key that signed the application.
	Key string
	// Bundle is a file that signs the root; "" takes what is attached to it.
	Bundle string
	// Offline refuses to ask a registry.
	Offline bool
	// Deep reads every blob of a repository instead of asking for it.
	Deep bool
	// Source and Commit are what the statements must say; "" is anything.
	Source, Commit string
	// ImageKey is a file of the public key that signed every image where it was
	// published; "" does not look.
	ImageKey string
}

// VerifyResult says of each link of the chain whether it holds.
type (
	VerifyResult = verify.Result
	VerifiedLink = verify.Link
)

// Verify walks the whole chain of an application. That it does not hold is in
// the result; an error is that it could not be found out.
func Verify(ctx context.Context, o VerifyOptions) (result *VerifyResult, err error) {
	if o.Offline && !store.IsReference(o.Ref) {
		return nil, fmt.Errorf("verify %s: it is in a registry, which is not asked offline: save it with 'tape save', and verify archive:FILE", o.Ref)
	}
	options := verify.Options{Deep: o.Deep, Source: o.Source, Commit: o.Commit}
	if options.Key, err = sign.LoadVerifier(o.Key); err != nil {
		return nil, err
	}
	if o.ImageKey != "" {
		if options.ImageKey, err = sign.LoadVerifier(o.ImageKey); err != nil {
			return nil, err
		}
	}
	if o.Bundle != "" {
		if options.Bundle, err = os.ReadFile(o.Bundle); err != nil {
			return nil, fmt.Errorf("read bundle: %w", err)
		}
	}
	at, err := open(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	root, err := at.find(ctx)
	if errors.Is(err, engine.ErrPolicy) {
		return &VerifyResult{Root: root.Digest, Links: []VerifiedLink{{Name: "archive", Reason: err.Error()}}}, nil
	}
	if err == nil {
		result, err = verify.Application(ctx, at.place, root, options)
	}
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", o.Ref, err)
	}
	// A folder may hold what is not of the application.
	if err := at.checkArchive(ctx, root, true); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		result.OK = false
		result.Links = append(result.Links, VerifiedLink{Name: "archive", Subject: root.Digest, Reason: err.Error()})
	}
	return result, nil
}
