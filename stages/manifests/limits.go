// SPDX-License-Identifier: Apache-2.0

package manifests

// Limits of what is read as YAML or JSON, in a file or embedded in one. They are
// far above anything that a cluster takes: etcd refuses an object of 1.5 MiB.
// What exceeds one is an error that names the line and the limit.
const (
	// MaxDepth bounds how deep maps and lists nest.
	MaxDepth = 1_000
	// MaxScalar bounds one key or value, in bytes.
	MaxScalar = 16 << 20
	// MaxDocuments bounds the documents of a file, and the objects of an application.
	MaxDocuments = 100_000
	// MaxValues bounds the maps, lists and scalars of one document.
	MaxValues = 2_000_000
	// MaxGrowth bounds how many times larger than it is written aliases and merge
	// keys make a document, embedded documents included: nine levels of nine
	// aliases make a gigabyte of a kilobyte. FreeGrowth is what is never refused.
	MaxGrowth  = 10
	FreeGrowth = 100_000
	// FreeApplicationGrowth is FreeGrowth of all documents of an application together.
	FreeApplicationGrowth = 1_000_000
)

// charge is what a scalar costs of the growth, beside being a value: a long one
// may hold a document of its own, which is read wherever the scalar stands.
func charge(scalar string) int { return 1 + len(scalar)/16 }
