// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/interpreters/plain"
	"github.com/taped-dev/tape/plugins/host"
	"github.com/taped-dev/tape/stages/rendering"
)

// interpreters are the one that is linked in, and those that a host runs.
type interpreters struct{ host *host.Host }

func (i interpreters) Find(ctx context.Context, name string) (rendering.Interpreter, error) {
	if name == BuiltIn {
		return newBuiltIn(ctx)
	}
	found, err := i.host.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// List has what is found even where something else that was found is broken.
func (i interpreters) List(ctx context.Context) ([]rendering.Interpreter, error) {
	first, err := newBuiltIn(ctx)
	if err != nil {
		return nil, err
	}
	list := []rendering.Interpreter{first}
	found, err := i.host.List(ctx)
	for _, f := range found {
		// The one that is linked in goes before a program of its name.
		if f.Name() != BuiltIn {
			list = append(list, f)
		}
	}
	return list, err
}

// BuiltIn is the interpreter that is part of tape: it takes manifests as they are.
const BuiltIn = "plain"

// builtIn is plain, which runs no code of the source and so needs no process.
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
	// There is no binary of its own: name and version identify it.
	return &builtIn{impl, digest.FromString(d.Name + " " + d.Version)}, nil
}

func (*builtIn) Name() string { return BuiltIn }

func (b *builtIn) Checksum(context.Context) (digest.Digest, error) { return b.checksum, nil }

var (
	_ rendering.Interpreters = interpreters{}
	_ rendering.Interpreter  = (*host.Interpreter)(nil)
	_ rendering.Preparer     = (*host.Interpreter)(nil)
	_ rendering.Interpreter  = (*builtIn)(nil)
	_ rendering.FromMemory   = (*builtIn)(nil)
)
