// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
)

// noise is a blob of any size that takes no memory: a hash of the seed, so that
// two seeds never give the same blob, and then a repeated block of pseudo-random
// bytes. Any part of it can be read without reading what precedes it.
type noise struct {
	head  [sha256.Size]byte
	block []byte
	size  int64
}

// newBlock returns the block that all blobs of an upstream repeat.
func newBlock() []byte {
	block := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte([]byte("the same bytes on every machine."))).Read(block) //nolint:errcheck // it never fails
	return block
}

func newNoise(block []byte, seed string, size int64) noise {
	return noise{head: sha256.Sum256(fmt.Appendf(nil, "%s %d", seed, size)), block: block, size: size}
}

// ReadAt implements io.ReaderAt.
func (n noise) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= n.size {
			return done, io.EOF
		}
		part := n.block[at%int64(len(n.block)):]
		if at < int64(len(n.head)) {
			part = n.head[at:]
		}
		if left := n.size - at; int64(len(part)) > left {
			part = part[:left]
		}
		done += copy(p[done:], part)
	}
	return done, nil
}

// digest returns the digest of the blob, which it reads.
func (n noise) digest() digest.Digest {
	d := digest.Canonical.Digester()
	if _, err := io.Copy(d.Hash(), io.NewSectionReader(n, 0, n.size)); err != nil {
		panic(err) // neither side of the copy can fail
	}
	return d.Digest()
}
