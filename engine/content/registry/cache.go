// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// cacheBudget is how many bytes of manifests a client remembers, enough for a few thousand
// images.
const cacheBudget = 32 << 20

// manifestCache remembers manifests by repository and digest, and the digests of tags. The
// oldest manifests are forgotten first.
type manifestCache struct {
	mu    sync.Mutex
	known map[manifestKey]manifest
	tags  map[string]digest.Digest // by repository:tag
	order []manifestKey
	size  int64
}

type manifestKey struct {
	repository string
	digest     digest.Digest
}

type manifest struct {
	desc ocispec.Descriptor
	data []byte
}

func (c *manifestCache) tag(repository, tag string) digest.Digest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tags[repository+":"+tag]
}

func (c *manifestCache) putTag(repository, tag string, dgst digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tags[repository+":"+tag] = dgst
}

func (c *manifestCache) get(repository string, dgst digest.Digest) (ocispec.Descriptor, []byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.known[manifestKey{repository, dgst}]
	return m.desc, m.data, ok
}

func (c *manifestCache) put(repository string, desc ocispec.Descriptor, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := manifestKey{repository, desc.Digest}
	if _, ok := c.known[key]; ok {
		return
	}
	c.known[key] = manifest{ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, data}
	c.order = append(c.order, key)
	for c.size += desc.Size; c.size > cacheBudget; c.order = c.order[1:] {
		c.size -= c.known[c.order[0]].desc.Size
		delete(c.known, c.order[0])
	}
}
