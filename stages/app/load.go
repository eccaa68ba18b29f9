// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/stages/artifact"
)

// LoadOptions are the options of Load.
type LoadOptions struct {
	Environment
	// File is an archive or the folder of a layout, or a reference to one
	// (archive:FILE[:TAG], oci:DIR[:TAG]).
	File string
	// Repository is the repository to write to, with or without a tag; by default the one that
	// the application was packed for.
	Repository string
	// Check checks everything that the repository has, instead of trusting that existing content
	// is complete.
	Check bool
	// Immutable refuses to move a tag, before anything is written.
	Immutable bool
	// Trust is the file of a trust policy that the source must satisfy, or "" for none.
	Trust string
}

// Load writes the application in an archive, or an image, to a repository: first everything by
// digest, then the lists of referrers, then the tags of images and of the content, and last the
// tag of the root. It tags nothing unless the archive is complete. Existing content is not sent
// again, so an interrupted load can be repeated.
func Load(ctx context.Context, o LoadOptions) (*CopyResult, error) {
	source, err := layoutReference(o.File)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", o.File, err)
	}
	home, err := checkLoad(ctx, o.Environment, source)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", o.File, err)
	}
	if o.Repository == "" {
		if o.Repository = home; home == "" {
			return nil, fmt.Errorf("load %s: it does not record which repository it is for: name one", o.File)
		}
	}
	result, err := copyPair(ctx, CopyOptions{Environment: o.Environment, Check: o.Check, Immutable: o.Immutable, Trust: o.Trust}, CopyPair{Source: source, Target: o.Repository}, "load", o.Events, nil)
	if err != nil {
		return nil, fmt.Errorf("load %s into %s: %w", o.File, o.Repository, err)
	}
	return result, nil
}

// layoutReference returns the reference of the layout or archive at a path.
func layoutReference(path string) (string, error) {
	if layout.IsReference(path) {
		return path, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		return "oci:" + path, nil
	}
	return "archive:" + path, nil
}

// checkLoad returns the repository that an archive or layout was written for, or "" if it is not
// an application. It returns an error if the content cannot be loaded.
func checkLoad(ctx context.Context, env Environment, source string) (home string, err error) {
	at, err := open(ctx, env.Registry, source)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	root, err := at.resolve(ctx)
	if err != nil {
		return "", err
	}
	app, err := artifact.OpenRoot(ctx, at, root)
	if err != nil {
		if isRoot, rootErr := at.isRoot(ctx, root); isRoot || rootErr != nil {
			return "", cmp.Or(rootErr, refusal(err))
		}
		return "", nil // an image or something else
	}
	if list := app.Root.Annotations[artifact.AnnotationPlatforms]; list != "" {
		return "", fmt.Errorf("it has only %s of the images, for nodes (ctr images import): a registry takes what was saved with all platforms", list)
	}
	if !at.isArchive() {
		if err := whole(ctx, at.layout); err != nil {
			return "", err
		}
	}
	statements, err := app.Statements(ctx)
	return artifact.Home(statements), err
}

// whole returns an error if a layout lacks anything that it refers to. It does not read blobs;
// copying does.
func whole(ctx context.Context, layout *layout.Layout) error {
	var tree transfer.Tree
	if err := tree.Add(ctx, layout, nil, layout.Index().Manifests...); err != nil {
		if errdefs.IsNotFound(err) {
			err = fmt.Errorf("it is incomplete, save it again: %w", err)
		}
		return err
	}
	there, err := layout.Blobs()
	if err != nil {
		return err
	}
	for _, desc := range tree.Descriptors() {
		if _, ok := slices.BinarySearch(there, desc.Digest); !ok && !registry.MayBeElsewhere(desc) {
			return fmt.Errorf("it is incomplete, save it again: blob %s is not in %s: %w", desc.Digest, layout.Path(), errdefs.ErrNotFound)
		}
	}
	return nil
}
