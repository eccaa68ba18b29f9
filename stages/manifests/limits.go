// SPDX-License-Identifier: Apache-2.0

package manifests

// Limits for YAML and JSON in a file or embedded in one. They are far above what a cluster
// accepts: etcd rejects an object of 1.5 MiB. Exceeding one is an error that names the line
// and the limit.
const (
	// maxDepth is the maximum depth of nested maps and lists.
	maxDepth = 1_000
	// maxScalar is the maximum size of a key or value, in bytes.
	maxScalar = 16 << 20
	// MaxComment is the maximum size of a comment of one or more lines, in bytes.
	MaxComment = 16 << 20
	// MaxDocuments is the maximum number of documents in a file, and of objects in an
	// application.
	MaxDocuments = 100_000
	// MaxValues is the maximum number of maps, lists and scalars in a document.
	MaxValues = 2_000_000
	// MaxGrowth is the maximum factor by which aliases and merge keys may enlarge a document,
	// including embedded documents: nine levels of nine aliases turn a kilobyte into a gigabyte.
	// Growth up to FreeGrowth is always allowed.
	MaxGrowth  = 10
	FreeGrowth = 100_000
	// FreeApplicationGrowth is like FreeGrowth, but for all documents of an application together.
	FreeApplicationGrowth = 1_000_000
)

// charge returns how much a scalar adds to the growth. It depends on the length, because a long
// scalar may contain a document, which is parsed wherever the scalar is used.
func charge(scalar string) int { return 1 + len(scalar)/16 }
