// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/content/layout"
)

// Promotion is the predicate of PredicatePromotion: which records that a root was brought to a tag.
// Its bundle is attached to the root there, and made by another key than the root's.
type Promotion struct {
	// From is what was promoted, REPOSITORY:TAG; "" if it was in no registry.
	From string `json:"from,omitempty"`
	// To is REPOSITORY:TAG.
	To   string        `json:"to"`
	Root digest.Digest `json:"root"`
	// Environment is the one that it was promoted for, "" for all.
	Environment string `json:"environment,omitempty"`
	// Policy is the digest of the policy that it was verified with, "" if it was a key.
	Policy digest.Digest `json:"policy,omitempty"`
	// Previous is the root that the tag led to before, "" if there was none.
	Previous digest.Digest `json:"previous,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	// At is when it was signed, by the clock of who did.
	At time.Time `json:"at"`
}

// ViewPromotion is a record of a promotion. It is read, not verified.
type ViewPromotion struct {
	Promotion
	Subject digest.Digest `json:"subject"` // what the record is attached to
	Digest  digest.Digest `json:"digest"`  // of the manifest that carries it
	ViewSigner
	Bundle []byte `json:"-"`
}

// maxHistory is how many roots the history of a tag is followed through.
const maxHistory = 256

// History returns the records of a root, and of the roots before it, the latest first. It
// ends with a root that is not there anymore.
func History(ctx context.Context, source layout.Repository, root digest.Digest) ([]ViewPromotion, error) {
	var b bundles
	if err := b.add(ctx, source, root); err != nil {
		return nil, err
	}
	return history(ctx, source, root, b.promotions)
}

// history follows records of a root to those of the roots before it.
func history(ctx context.Context, source layout.Repository, root digest.Digest, records []ViewPromotion) ([]ViewPromotion, error) {
	seen := map[digest.Digest]bool{root: true}
	for i := 0; i < len(records) && len(seen) < maxHistory; i++ {
		previous := records[i].Previous
		if previous == "" || seen[previous] || previous.Validate() != nil {
			continue
		}
		seen[previous] = true
		var more bundles
		err := more.add(ctx, source, previous)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		records = append(records, more.promotions...)
	}
	slices.SortFunc(records, func(a, b ViewPromotion) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Digest, b.Digest))
	})
	return records, nil
}
