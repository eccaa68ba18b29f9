// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/descriptor"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// Signatures of cosign before version 3: each is a layer that holds the payload, with the
// signature in an annotation.
const (
	simpleSigning       = "application/vnd.dev.cosign.simplesigning.v1+json"
	simpleSigningType   = "cosign container image signature"
	annotationSignature = "dev.cosignproject.cosign/signature"
)

// maxBundle is the maximum size of a bundle or payload, in bytes.
const maxBundle = 4 << 20

// errUnsigned means that there is no signature by the key. A malformed signature is another
// error.
var errUnsigned = errors.New("no signature by this key")

// signatures checks the key's signatures of the root and of the content.
func (c *chain) signatures(ctx context.Context) []Link {
	root := c.app.Root.Digest
	if c.o.Bundle != nil {
		_, err := sign.Verify(ctx, c.o.Key, c.o.Bundle, root)
		return []Link{c.link("signature", root, err)}
	}
	err := c.signed(ctx, root)
	if errors.Is(err, errUnsigned) && c.app.Format == artifact.FormatOriginal {
		err = fmt.Errorf("%w: format %s has no signatures", err, c.app.Format)
	}
	links := []Link{c.link("signature", root, err)}
	// Flux and Argo CD check this one. The root's signature covers the content too, so
	// this one may be missing, but not invalid.
	content := c.link("content signature", c.app.Content.Digest, nil)
	if err := c.signed(ctx, c.app.Content.Digest); errors.Is(err, errUnsigned) && links[0].OK {
		content.Reason = "no separate signature by this key; the signature of the root covers it"
	} else if err != nil {
		content = c.link(content.Name, content.Subject, err)
	}
	return append(links, content)
}

// signed returns nil if a signature attached to a manifest is by the key, whatever else is
// attached: everyone who may push can attach something unreadable.
func (c *chain) signed(ctx context.Context, subject digest.Digest) error {
	referrers, err := c.place.Referrers(ctx, subject)
	if err != nil {
		return err
	}
	var (
		others     []string
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
		_, err = sign.Verify(ctx, c.o.Key, bundle, subject)
		if err == nil {
			return nil
		}
		others = append(others, err.Error())
	}
	if unreadable != nil {
		return unreadable
	}
	if others == nil {
		return fmt.Errorf("%w: no signature is attached", errUnsigned)
	}
	return fmt.Errorf("%w: %s", errUnsigned, strings.Join(others, "; "))
}

// imageSignatures checks the signatures of the images, which are among their related
// manifests.
func (c *chain) imageSignatures(ctx context.Context) []Link {
	if len(c.o.ImageKeys) == 0 {
		return nil
	}
	related := map[digest.Digest][]ocispec.Descriptor{}
	for _, child := range c.app.Children(artifact.RoleRelated) {
		to := digest.Digest(child.Annotations[artifact.AnnotationRelatedTo])
		related[to] = append(related[to], child)
	}
	list := c.app.Children(artifact.RoleImage)
	links := make([]Link, len(list))
	var wait sync.WaitGroup
	for i, image := range list {
		wait.Go(func() {
			links[i] = c.link("signature of "+childName(image), image.Digest, c.imageSigned(ctx, image.Digest, related[image.Digest]))
		})
	}
	wait.Wait()
	return links
}

func (c *chain) imageSigned(ctx context.Context, image digest.Digest, related []ocispec.Descriptor) error {
	reasons := []string{}
	var unreadable error // the first one
	for _, desc := range related {
		err := c.attachedSigned(ctx, image, desc, func(reason string) {
			if !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		})
		if err == nil {
			return nil
		}
		if unreadable == nil && !errors.Is(err, errUnsigned) {
			unreadable = err
		}
	}
	switch {
	case unreadable != nil:
		return unreadable
	case len(reasons) == 0:
		return errors.New("no signature was published with the image, or it was not copied")
	}
	return errors.New(strings.Join(reasons, "; "))
}

// attachedSigned returns nil if a manifest attached to an image holds a signature by one of
// the keys, and errUnsigned if it holds none. It passes to because why each other signature
// is not valid.
func (c *chain) attachedSigned(ctx context.Context, image digest.Digest, desc ocispec.Descriptor, because func(reason string)) error {
	data, err := c.read(ctx, desc, registry.MaxManifest)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := descriptor.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	for _, layer := range m.Layers {
		if layer.MediaType != simpleSigning && layer.MediaType != sign.MediaType {
			continue
		}
		data, err := c.read(ctx, layer, maxBundle)
		if err != nil {
			return err
		}
		for _, key := range c.o.ImageKeys {
			if layer.MediaType == sign.MediaType {
				_, err = sign.Verify(ctx, key, data, image)
			} else {
				err = verifySimple(key, data, layer.Annotations[annotationSignature], image)
			}
			if err == nil {
				return nil
			}
			because(err.Error())
		}
	}
	return errUnsigned
}

// verifySimple verifies a signature made by cosign before version 3.
func verifySimple(key sign.Verifier, payload []byte, signature string, image digest.Digest) error {
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return fmt.Errorf("verify %s: signature: %w", image, err)
	}
	if err := key.VerifySignature(bytes.NewReader(raw), bytes.NewReader(payload)); err != nil {
		return fmt.Errorf("verify %s: not signed by this key", image)
	}
	var p struct {
		Critical struct {
			Type  string `json:"type"`
			Image struct {
				Digest digest.Digest `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return fmt.Errorf("verify %s: payload: %w", image, err)
	}
	if p.Critical.Type != simpleSigningType {
		return fmt.Errorf("verify %s: the payload has type %q", image, p.Critical.Type)
	}
	if p.Critical.Image.Digest != image {
		return fmt.Errorf("verify %s: the signature is for %s", image, p.Critical.Image.Digest)
	}
	return nil
}
