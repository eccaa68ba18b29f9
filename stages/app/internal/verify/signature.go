// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// errUnsigned means that there is no signature by the authority. A malformed signature is
// another error.
var errUnsigned = errors.New("no signature")

// signatures checks the key's signatures of the root and of the content.
func (c *chain) signatures(ctx context.Context) []Link {
	if c.o.By == nil {
		return nil
	}
	root := c.app.Root.Digest
	if c.o.Bundle != nil {
		proof, err := c.o.By.Signature(ctx, c.o.Bundle, root)
		return []Link{c.proven("signature", root, proof, err)}
	}
	proof, err := c.signed(ctx, c.o.By, root)
	if errors.Is(err, errUnsigned) && c.app.Format == artifact.FormatOriginal {
		err = fmt.Errorf("%w: format %s has no signatures", err, c.app.Format)
	}
	links := []Link{c.proven("signature", root, proof, err)}
	// Flux and Argo CD check this one. The root's signature covers the content too, so
	// this one may be missing, but not invalid.
	proof, err = c.signed(ctx, c.o.By, c.app.Content.Digest)
	content := c.proven("content signature", c.app.Content.Digest, proof, nil)
	if errors.Is(err, errUnsigned) && links[0].OK {
		content.Reason = fmt.Sprintf("no separate signature by %s; the signature of the root covers it", c.o.By)
	} else if err != nil {
		content = c.link(content.Name, content.Subject, err)
	}
	return append(links, content)
}

// proven is link, with what is known of a signature.
func (c *chain) proven(name string, subject digest.Digest, proof trust.Proof, err error) Link {
	link := c.link(name, subject, err)
	link.Proof = proof
	return link
}

// signed verifies the signatures attached to a manifest, and others that may be of it, of
// which one must be by the authority, whatever else is attached: everyone who may push can
// attach something unreadable.
func (c *chain) signed(ctx context.Context, by *trust.Authority, subject digest.Digest, others ...ocispec.Descriptor) (trust.Proof, error) {
	referrers, err := c.place.Referrers(ctx, subject)
	if err != nil {
		return trust.Proof{}, err
	}
	referrers = slices.Concat(others, referrers)
	var (
		reasons    []string
		unreadable error // the first one
	)
	for _, desc := range referrers {
		bundle, err := sign.Attached(ctx, c.place, desc)
		if err != nil && unreadable == nil {
			unreadable = fmt.Errorf("signature %s: %w", desc.Digest, err)
		}
		if bundle == nil {
			continue
		}
		if claim, err := sign.Read(bundle); err == nil && claim.PredicateType != artifact.PredicateSignature {
			if _, err := by.Statement(ctx, bundle, subject, claim.PredicateType); err != nil {
				continue // what another signed, such as the record of a promotion, is not a reason
			}
		}
		proof, err := by.Signature(ctx, bundle, subject)
		if err == nil {
			return proof, nil
		}
		reasons = append(reasons, err.Error())
	}
	if unreadable != nil {
		return trust.Proof{}, unreadable
	}
	if reasons == nil {
		reasons = []string{"no signature is attached"}
	}
	return trust.Proof{}, fmt.Errorf("%w by %s: %w", errUnsigned, by, some(reasons))
}

// imageSignatures checks the signatures of the images, which are among their related
// manifests.
func (c *chain) imageSignatures(ctx context.Context) []Link {
	if len(c.o.Images) == 0 {
		return nil
	}
	return c.eachImage(func(image ocispec.Descriptor, related []ocispec.Descriptor) []Link {
		proof, err := c.imageSigned(ctx, image.Digest, related)
		return []Link{c.proven("signature of "+childName(image), image.Digest, proof, err)}
	})
}

// imageSigned verifies that one of the authorities signed an image.
func (c *chain) imageSigned(ctx context.Context, image digest.Digest, related []ocispec.Descriptor) (trust.Proof, error) {
	evidence, err := trust.Collect(ctx, c.place, related)
	if err != nil {
		return trust.Proof{}, err
	}
	var reasons []string
	for _, by := range c.o.Images {
		proofs, why := by.Signed(ctx, image, evidence, false)
		if len(proofs) > 0 {
			return proofs[0], nil
		}
		reasons = append(reasons, why...)
	}
	if len(reasons) == 0 {
		reasons = []string{"no signature was published with the image, or it was not copied"}
	}
	slices.Sort(reasons)
	return trust.Proof{}, some(reasons)
}
