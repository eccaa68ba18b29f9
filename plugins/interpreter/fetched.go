// SPDX-License-Identifier: Apache-2.0

package interpreter

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Fetched records what a render fetches, and compares it with the locked materials. It may be
// used concurrently.
type Fetched struct {
	locked map[string]string // by URI

	mu  sync.Mutex
	got map[string]string // by URI
}

// NewFetched returns the record of a render with these [RenderRequest.Materials].
func NewFetched(locked []Material) *Fetched {
	f := &Fetched{locked: map[string]string{}, got: map[string]string{}}
	for _, m := range locked {
		f.locked[m.URI] = m.Digest
	}
	return f
}

// Locked returns the digest that a material is locked to, or "" if it is not locked.
func (f *Fetched) Locked(uri string) string { return f.locked[uri] }

// Record adds a material. It fails if the material is locked to another digest.
func (f *Fetched) Record(uri, digest string) error {
	if want := f.locked[uri]; want != "" && want != digest {
		return fmt.Errorf("%s is locked to %s but now has %s: updating the materials of the lock accepts the new one", uri, want, digest)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got[uri] = digest
	return nil
}

// Materials returns what was recorded, sorted by URI, for [RenderResponse.Materials].
func (f *Fetched) Materials() []Material {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Material
	for _, uri := range slices.Sorted(maps.Keys(f.got)) {
		out = append(out, Material{URI: uri, Digest: f.got[uri]})
	}
	return out
}
