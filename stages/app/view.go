// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/taped-dev/tape/stages/artifact"
)

// View looks into the application behind a reference.
func View(ctx context.Context, env Environment, ref string) (view *artifact.View, err error) {
	app, at, err := application(ctx, env.Registry, ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	name := at.repository
	if name == "" { // what a layout holds is called as its manifests call it
		statements, err := app.Statements(ctx)
		if err != nil {
			return nil, fmt.Errorf("view %s: %w", ref, err)
		}
		refs, _ := artifact.ImageRefs(statements)
		name = refs.Repository
	}
	if view, err = app.View(ctx, name, at.tag); err != nil {
		return nil, fmt.Errorf("view %s: %w", ref, err)
	}
	return view, nil
}

// WriteManifests writes the manifests of an application as one YAML stream, which
// begins with Namespaces and CustomResourceDefinitions.
func WriteManifests(ctx context.Context, env Environment, ref string, w io.Writer) (err error) {
	app, at, err := application(ctx, env.Registry, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	list, err := app.Files(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", ref, err)
	}
	return writeStream(w, list)
}

// WriteStatements writes the statements of an application, one JSON object a
// line.
func WriteStatements(ctx context.Context, env Environment, ref string, w io.Writer) (err error) {
	app, at, err := application(ctx, env.Registry, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	list, err := app.Statements(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", ref, err)
	}
	return artifact.WriteStatements(w, list)
}
