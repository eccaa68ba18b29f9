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
	"github.com/taped-dev/tape/stages/files"
)

// PullOptions are the options of Pull.
type PullOptions struct {
	Environment
	Ref string
	// Dir is the folder to write to. It is created, or must be empty unless Force is set.
	Dir   string
	Force bool
	// Env is the environment whose files are written, without their top-level folder; "" means
	// all.
	Env string
	// Rewrite changes the references in the manifests to the repository that they are pulled
	// from.
	Rewrite bool
	// Key is the file of the public key that must have signed the application, or Identity the
	// identity. Bundle is a file with the signature of the root, which is used instead of those
	// attached to it. Without a key or an identity, nothing is verified.
	Key, Bundle string
	Identity    Identity
	// Trust is the file of a trust policy that the application must satisfy, with or without a
	// key.
	Trust string
	// AllowOutside allows pods to run images that are not in the artifact.
	AllowOutside bool
	// Attestations is a file for the statements, one JSON object per line, or "" for none. If
	// Writer is set, they are written to it instead.
	Attestations string
	Writer       io.Writer
}

// PullResult describes what was written.
type PullResult struct {
	Root struct {
		Ref    string        `json:"ref"`
		Digest digest.Digest `json:"digest"`
	} `json:"root"`
	// Verified reports whether the whole chain was verified before anything was written.
	Verified bool     `json:"verified,omitempty"`
	Files    []string `json:"files"`
	// Environments are the environments of the files, if the application has environments.
	Environments []string `json:"environments,omitempty"`
	// Rewritten is the number of files whose references were changed.
	Rewritten int `json:"rewritten"`
	// PointsTo is the repository that the manifests refer to, if it is not the one pulled from.
	PointsTo string   `json:"pointsTo,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Pull writes the manifests of an application to a folder, byte for byte: all of them or none.
func Pull(ctx context.Context, o PullOptions) (result *PullResult, err error) {
	if o.Dir == "" {
		return nil, usagef("pull %s: a folder to write to is missing", o.Ref)
	}
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
		return nil, advice.Add(fmt.Errorf("rewrite %s: it does not record where its references are", o.Ref), advice.RelocateRewrite)
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

	var lines bytes.Buffer
	if err := artifact.WriteStatements(&lines, statements); err != nil {
		return nil, err
	}
	if o.Writer != nil {
		o.Attestations = ""
	}
	if err := extractBeside(ctx, orEmpty(list), o.Dir, o.Force, "attestations", o.Attestations, lines.Bytes()); err != nil {
		return nil, err
	}
	if o.Writer != nil {
		_, err = lines.WriteTo(o.Writer)
	}
	return result, err
}

// extractBeside writes manifests to a folder, and what, which describes them, to a file. It
// writes both or neither. An empty list, or an empty file name, is skipped. The file is written
// under a temporary name before the manifests, and renamed after them.
func extractBeside(ctx context.Context, list []files.File, dir string, force bool, what, file string, data []byte) (err error) {
	var out *artifact.Output
	if file != "" {
		if out, err = artifact.NewOutput(file, data); err != nil {
			return fmt.Errorf("write %s: %w", what, err)
		}
	}
	if list != nil {
		if err := artifact.Extract(ctx, list, dir, force); err != nil {
			if out != nil {
				err = errors.Join(err, out.Discard())
			}
			return err
		}
	}
	if out != nil {
		if err := out.Place(); err != nil {
			return fmt.Errorf("write %s: %w", what, err)
		}
	}
	return nil
}

// verify verifies the chain of the root to be pulled. Everything read later is addressed by the
// digests of that chain, so what is written is what was verified, even if the tag is moved.
func (o *PullOptions) verify(ctx context.Context, root ocispec.Descriptor, at *opened) (warnings []string, err error) {
	options, err := verifyOptions(ctx, nil, o.Key, o.Identity, o.Trust, o.Bundle)
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
