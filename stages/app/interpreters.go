// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/stages/rendering"
)

// interpreters combines the built-in interpreter with those that a host runs.
type interpreters struct{ host *host.Host }

func (i interpreters) Find(ctx context.Context, name string) (rendering.Interpreter, error) {
	if name == BuiltIn {
		return newBuiltIn(ctx)
	}
	if i.host == nil {
		return nil, &host.NotFoundError{Name: name}
	}
	found, err := i.host.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// List returns the interpreters that it finds, even if some are broken.
func (i interpreters) List(ctx context.Context) ([]rendering.Interpreter, error) {
	first, err := newBuiltIn(ctx)
	if err != nil {
		return nil, err
	}
	list := []rendering.Interpreter{first}
	if i.host == nil {
		return list, nil
	}
	found, err := i.host.List(ctx)
	for _, f := range found {
		// The built-in interpreter takes precedence over a program of the same name.
		if f.Name() != BuiltIn {
			list = append(list, f)
		}
	}
	return list, err
}

// BuiltIn is the name of the built-in interpreter, which reads manifests as they are.
const BuiltIn = "plain"

// builtIn is the plain interpreter. It runs no code from the source, so it needs no process of
// its own.
type builtIn struct {
	*plain.Interpreter
	checksum digest.Digest
}

func newBuiltIn(ctx context.Context) (*builtIn, error) {
	impl := plain.New()
	d, err := impl.Describe(ctx)
	if err != nil {
		return nil, err
	}
	// It has no executable of its own, so name and version identify it.
	return &builtIn{impl, digest.FromString(d.Name + " " + d.Version)}, nil
}

func (*builtIn) Name() string { return BuiltIn }

func (b *builtIn) Checksum(context.Context) (digest.Digest, error) { return b.checksum, nil }

var (
	_ rendering.Preparer   = (*host.Interpreter)(nil)
	_ rendering.FromMemory = (*builtIn)(nil)
)
