// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/stages/app/internal/verify"
	"github.com/taped-dev/tape/stages/artifact"
)

// PullOptions are what Pull takes.
type PullOptions struct {
	Environment
	Ref string
	// Dir is made, or must be empty unless Force.
	Dir   string
	Force bool
	// Env is the environment whose files are written, without its folder; "" is all.
	Env string
	// Rewrite points the manifests to the repository they are pulled from.
	Rewrite bool
	// Key is a file of the public key that must have signed the application, or Identity
	// is who must have; Bundle is a file that signs the root instead of what is attached
	// to it. With neither key nor identity nothing is verified.
	Key, Bundle string
	Identity    Identity
	// Trust is a trust file that it must hold against, with a key or in place of one.
	Trust string
	// AllowOutside lets pods run images that are not in the artifact.
	AllowOutside bool
	// Attestations is a file for the statements, one JSON object a line; "" is
	// none. Writer takes them instead where it is set.
	Attestations string
	Writer       io.Writer
}

// PullResult is what was written.
type PullResult struct {
	Root struct {
		Ref    string        `json:"ref"`
		Digest digest.Digest `json:"digest"`
	} `json:"root"`
	// Verified says that the whole chain was verified before anything was written.
	Verified bool     `json:"verified,omitempty"`
	Files    []string `json:"files"`
	// Environments are those of the files, where the application has them.
	Environments []string `json:"environments,omitempty"`
	// Rewritten is how many files were pointed to another repository.
	Rewritten int `json:"rewritten"`
	// PointsTo is the repository that the manifests point to, where that is not
	// the one pulled from.
	PointsTo string   `json:"pointsTo,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Pull writes the manifests of an application into a folder, byte for byte as
// they are in it: all of them or none.
func Pull(ctx context.Context, o PullOptions) (result *PullResult, err error) {
	app, at, err := application(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	var warnings []string
	verified := o.Key != "" || !o.Identity.IsZero() || o.Trust != ""
	if verified {
		if warnings, err = o.verify(ctx, app.Root, at); err != nil {
			return nil, fmt.Errorf("pull %s: %w", o.Ref, err)
		}
	}
	list, err := app.Files(ctx)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", o.Ref, err)
	}
	statements, err := app.Statements(ctx)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", o.Ref, err)
	}
	result = &PullResult{Files: []string{}, Verified: verified, Warnings: warnings}
	result.Root.Digest = app.Root.Digest
	result.Root.Ref = strings.TrimPrefix(fmt.Sprintf("%s@%s", strings.SplitN(o.Ref, "@", 2)[0], app.Root.Digest), "@")
	if refs, ok := artifact.ImageRefs(statements); ok && at.name != "" {
		if refs.Repository != at.name && refs.Naming != artifact.OneToOne {
			result.PointsTo = refs.Repository
		}
		if o.Rewrite {
			if list, result.Rewritten, err = artifact.Rewrite(list, refs, at.name); err != nil {
				return nil, fmt.Errorf("rewrite %s: %w", o.Ref, err)
			}
			result.PointsTo = ""
		}
	} else if o.Rewrite && at.name != "" {
		return nil, advice.Add(fmt.Errorf("rewrite %s: it does not say where its references stand", o.Ref), advice.RelocateRewrite)
	} else if o.Rewrite {
		return nil, fmt.Errorf("rewrite %s: only what is pulled from a registry can be pointed there", o.Ref)
	}
	result.Environments = app.Environments()
	if o.Env != "" {
		if list, err = app.Environments().Select(list, o.Env); err != nil {
			return nil, fmt.Errorf("pull %s: %w", o.Ref, asUsage(err))
		}
		result.Environments = []string{o.Env}
	}
	for _, f := range list {
		result.Files = append(result.Files, f.Name)
	}

	// The statements are written beside their place before the manifests are,
	// and renamed after: either both are there or neither is.
	place, err := o.stageStatements(statements)
	if err != nil {
		return nil, err
	}
	if err := artifact.Extract(ctx, list, o.Dir, o.Force); err != nil {
		return nil, errors.Join(err, place(false))
	}
	return result, place(true)
}

// verify walks the chain down from the root that is pulled. All that is read then is
// named by digests of that chain: what is written is what was verified, whatever the
// tag leads to by then.
func (o *PullOptions) verify(ctx context.Context, root ocispec.Descriptor, at *opened) (warnings []string, err error) {
	options, err := verifyOptions(ctx, o.Key, o.Identity, o.Trust, o.Bundle)
	if err != nil {
		return nil, err
	}
	options.AllowOutside, options.Name = o.AllowOutside, at.name
	checked, err := verify.Application(ctx, at.Repository, root, options)
	if err != nil {
		return nil, err
	}
	return checked.Warnings, broken(checked, "verified")
}

// stageStatements prepares to write the statements; the function that it
// returns does it, or undoes what was prepared.
func (o *PullOptions) stageStatements(statements []artifact.Statement) (func(bool) error, error) {
	var buf bytes.Buffer
	if err := artifact.WriteStatements(&buf, statements); err != nil {
		return nil, err
	}
	if o.Writer != nil {
		return func(do bool) error {
			if !do {
				return nil
			}
			_, err := buf.WriteTo(o.Writer)
			return err
		}, nil
	}
	if o.Attestations == "" {
		return func(bool) error { return nil }, nil
	}
	out, err := artifact.NewOutput(o.Attestations, buf.Bytes())
	if err != nil {
		return nil, fmt.Errorf("write attestations: %w", err)
	}
	return func(do bool) error {
		if !do {
			return out.Discard()
		}
		if err := out.Place(); err != nil {
			return fmt.Errorf("write attestations: %w", err)
		}
		return nil
	}, nil
}
