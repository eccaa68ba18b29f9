// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// maxBundle is the maximum size of a bundle or payload, in bytes.
const maxBundle = 4 << 20

// errUnsigned means that there is no signature by the authority. A malformed signature is
// another error.
var errUnsigned = errors.New("no signature by this authority")

// unsigned is errUnsigned, with the reasons why each signature that there is does not count.
type unsigned struct {
	by      *trust.Authority
	reasons error
}

func (u unsigned) Error() string      { return fmt.Sprintf("no signature by %s: %s", u.by, u.reasons) }
func (unsigned) Is(target error) bool { return target == errUnsigned }

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
		proof, err := by.Signature(ctx, bundle, subject)
		if err == nil {
			return proof, nil
		}
		if !slices.Contains(reasons, err.Error()) {
			reasons = append(reasons, err.Error())
		}
	}
	if unreadable != nil {
		return trust.Proof{}, unreadable
	}
	if reasons == nil {
		reasons = []string{"no signature is attached"}
	}
	return trust.Proof{}, unsigned{by, some(reasons)}
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

func (c *chain) imageSigned(ctx context.Context, image digest.Digest, related []ocispec.Descriptor) (trust.Proof, error) {
	reasons := []string{}
	var unreadable error // the first one
	for _, desc := range related {
		proof, err := c.attachedSigned(ctx, image, desc, func(reason string) {
			if !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		})
		if err == nil {
			return proof, nil
		}
		if unreadable == nil && !errors.Is(err, errUnsigned) {
			unreadable = err
		}
	}
	switch {
	case unreadable != nil:
		return trust.Proof{}, unreadable
	case len(reasons) == 0:
		return trust.Proof{}, errors.New("no signature was published with the image, or it was not copied")
	}
	return trust.Proof{}, some(reasons)
}

// attachedSigned verifies the signatures in a manifest attached to an image, of which one
// must be by one of the authorities; errUnsigned means that none is. It passes to because
// why each other signature is not valid.
func (c *chain) attachedSigned(ctx context.Context, image digest.Digest, desc ocispec.Descriptor, because func(reason string)) (trust.Proof, error) {
	data, err := c.read(ctx, desc, registry.MaxManifest)
	if err != nil {
		return trust.Proof{}, err
	}
	var m ocispec.Manifest
	if err := descriptor.Unmarshal(data, &m); err != nil {
		return trust.Proof{}, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	for _, layer := range m.Layers {
		if layer.MediaType != trust.SimpleSigning && layer.MediaType != sign.MediaType {
			continue
		}
		data, err := c.read(ctx, layer, maxBundle)
		if err != nil {
			return trust.Proof{}, err
		}
		for _, by := range c.o.Images {
			var proof trust.Proof
			if layer.MediaType == sign.MediaType {
				proof, err = by.Signature(ctx, data, image)
			} else {
				proof, err = by.Simple(ctx, data, layer.Annotations, image)
			}
			if err == nil {
				return proof, nil
			}
			because(err.Error())
		}
	}
	return trust.Proof{}, errUnsigned
}
