// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/store"
)

// Keeper keeps documents from one run to the next, and between the processes of one. It may
// lose any of them. Its methods may be called concurrently.
type Keeper interface {
	// Get returns the documents under a key, by name, or an error of class ErrNotFound.
	Get(ctx context.Context, key digest.Digest) (map[string][]byte, error)
	// Put keeps documents under a key, replacing earlier ones.
	Put(ctx context.Context, key digest.Digest, documents map[string][]byte) error
}

// local keeps documents in the store on this machine.
type local struct{ store *store.Store }

const mediaTypeDocument = "application/vnd.tape.fleet.document.v1+json"

func (l local) Get(ctx context.Context, key digest.Digest) (map[string][]byte, error) {
	kept, err := l.store.Cache().Get(ctx, key)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name, desc := range kept {
		if out[name], err = engine.Get(ctx, l.store, desc); err != nil {
			return nil, fmt.Errorf("read %s: %w: %w", name, err, errdefs.ErrNotFound)
		}
	}
	return out, nil
}

func (l local) Put(ctx context.Context, key digest.Digest, documents map[string][]byte) error {
	kept := map[string]ocispec.Descriptor{}
	for name, data := range documents {
		var err error
		if kept[name], err = engine.Put(ctx, l.store, mediaTypeDocument, data); err != nil {
			return err
		}
	}
	return l.store.Cache().Put(ctx, key, kept)
}

// keepers are where a run looks for documents, the preferred one first: those shared by other
// machines have the newest, and the own store is the cheapest. If a shared keeper does not
// answer, only its documents are missing.
type keepers []Keeper

// Get returns the documents of the first keeper that has them.
func (k keepers) Get(ctx context.Context, key digest.Digest) (documents map[string][]byte, err error) {
	for _, one := range k {
		if documents, err = one.Get(ctx, key); err == nil {
			return documents, nil
		}
	}
	return nil, err
}

// Put keeps documents in all. It fails only if none accepts them.
func (k keepers) Put(ctx context.Context, key digest.Digest, documents map[string][]byte) error {
	var errs []error
	for _, one := range k {
		if err := one.Put(ctx, key, documents); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) < len(k) {
		return nil
	}
	return errors.Join(errs...)
}

// constant returns the keepers for documents that never change under their key, the cheapest
// first.
func (k keepers) constant() keepers {
	k = slices.Clone(k)
	slices.Reverse(k)
	return k
}

// documentName is the name of a value under a key.
const documentName = "document"

// keyOf returns the key of a kind of document about something.
func keyOf(kind string, about ...string) digest.Digest {
	data, _ := json.Marshal(append([]string{"tape fleet", kind}, about...)) // of strings, which does not fail
	return digest.FromBytes(data)
}

// put keeps a value.
func put(ctx context.Context, k Keeper, key digest.Digest, v any) error {
	data, err := engine.MarshalJSON(v)
	if err != nil {
		return err
	}
	return k.Put(ctx, key, map[string][]byte{documentName: data})
}

// get reads a value that was put. An unreadable value counts as missing.
func get(ctx context.Context, k Keeper, key digest.Digest, v any) bool {
	documents, err := k.Get(ctx, key)
	return err == nil && json.Unmarshal(documents[documentName], v) == nil
}
