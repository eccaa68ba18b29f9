// SPDX-License-Identifier: Apache-2.0

package images

import (
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/transfer"
)

// MediaTypeMoved is of a Moved document: mirror → push.
const MediaTypeMoved = "application/vnd.tape.moved.v1+json"

// Moved is what mirror did.
type Moved struct {
	transfer.Moved

	// Empty: the destination had nothing, and so no tag.
	Empty bool `json:"empty,omitempty"`
	// Copied are the manifests of images, and those related to them, that the
	// destination did not have. Sorted.
	Copied []digest.Digest `json:"copied"`
	// Referrers are manifests with a subject of which it is not certain that the
	// destination lists them. Sorted by subject and digest.
	Referrers []transfer.Referrer `json:"referrers"`
}
