// SPDX-License-Identifier: Apache-2.0

package images

import "github.com/opencontainers/go-digest"

// MediaTypeMoved is of a Moved document: mirror → push.
const MediaTypeMoved = "application/vnd.tape.moved.v1+json"

// Moved is what mirror did. Blobs, Bytes, Mounted and Existing are the fields of
// `tape package -o json`.
type Moved struct {
	Blobs    int   `json:"blobs"`    // sent to the destination
	Bytes    int64 `json:"bytes"`    // of those
	Mounted  int   `json:"mounted"`  // blobs that the registry took from another of its repositories
	Existing int   `json:"existing"` // blobs that were there, and manifests that were, with all below them

	// Empty: the destination had nothing, and so no tag.
	Empty bool `json:"empty,omitempty"`
	// Copied are the manifests of images, and those related to them, that the
	// destination did not have. Sorted.
	Copied []digest.Digest `json:"copied"`
	// Referrers are manifests with a subject of which it is not certain that the
	// destination lists them. Sorted by subject and digest.
	Referrers []MovedReferrer `json:"referrers"`
}

// MovedReferrer is a manifest with a subject.
type MovedReferrer struct {
	Subject digest.Digest `json:"subject"`
	Digest  digest.Digest `json:"digest"`
	// Existing: it was there, and is likely to be listed. Else it was copied, and
	// the registry did not say that it took note of the subject.
	Existing bool `json:"existing"`
}
