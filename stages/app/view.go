// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/taped-dev/tape/stages/artifact"
)

// ViewOptions are the options of View, Manifests and Statements.
type ViewOptions struct {
	Environment
	// Ref is REGISTRY/REPOSITORY:TAG, oci:DIR or archive:FILE.
	Ref string
	// Env is the environment to view; "" means all.
	Env string
	// Data makes View also return the content of the files.
	Data bool
}

// View describes an application.
func View(ctx context.Context, o ViewOptions) (view *artifact.View, err error) {
	app, at, err := application(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	name := at.name
	if name == "" { // the repository of a layout is the one that its manifests name
		statements, err := app.Statements(ctx)
		if err != nil {
			return nil, fmt.Errorf("view %s: %w", o.Ref, err)
		}
		refs, _ := artifact.ImageRefs(statements)
		name = refs.Repository
	}
	if view, err = app.View(ctx, name, at.tag, o.Data); err != nil {
		return nil, fmt.Errorf("view %s: %w", o.Ref, err)
	}
	if o.Env != "" {
		if err := view.Only(o.Env); err != nil {
			return nil, fmt.Errorf("view %s: %w", o.Ref, asUsage(err))
		}
	}
	return view, nil
}

// Manifests returns the manifests of an application, unchanged.
func Manifests(ctx context.Context, o ViewOptions) (result *RenderResult, err error) {
	app, at, err := application(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	list, err := app.Files(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Ref, err)
	}
	if o.Env != "" {
		if list, err = app.Environments().Select(list, o.Env); err != nil {
			return nil, fmt.Errorf("read %s: %w", o.Ref, asUsage(err))
		}
	}
	result = &RenderResult{}
	for _, f := range list {
		result.Files = append(result.Files, RenderedFile{Name: f.Name, Data: f.Data})
	}
	return result, nil
}

// Statements returns the statements of an application. It does not verify them.
func Statements(ctx context.Context, o ViewOptions) (list []artifact.Statement, err error) {
	app, at, err := application(ctx, o.Registry, o.Ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if list, err = app.Statements(ctx); err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Ref, err)
	}
	return list, nil
}
