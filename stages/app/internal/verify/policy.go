// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/images"
)

// trusted checks the application, and then each of its images, with the policy.
func (c *chain) trusted(ctx context.Context) []Link {
	if c.o.Policy == nil {
		return nil
	}
	name := c.repository(ctx)
	root := trust.Subject{Application: true, Digest: c.app.Root.Digest, Evidence: c.rootEvidence}
	if name != "" {
		root.Names = []string{name}
	}
	links := c.judge(ctx, "application", root)
	where := c.where(ctx)
	links = append(links, c.eachImage(func(image ocispec.Descriptor, related []ocispec.Descriptor) []Link {
		return c.judge(ctx, childName(image), trust.Subject{
			Names: strings.Split(image.Annotations[artifact.AnnotationImageSource], ","), Digest: image.Digest, Where: where[image.Digest],
			Evidence: func(ctx context.Context) (*trust.Evidence, error) { return trust.Collect(ctx, c.place, related) },
		})
	})...)
	if len(links) > 0 || c.o.Policy.Origin != nil {
		return links
	}
	if err := c.o.Policy.Unnamed("this application or one of its images"); err != nil {
		return []Link{broken("trust", c.app.Root.Digest, err)}
	}
	c.warn("no rule of the trust file names this application or one of its images")
	return nil
}

// repository returns the repository of the root. For a root that is not in a registry it is the
// one that it states.
func (c *chain) repository(ctx context.Context) string {
	if c.o.Name != "" {
		return c.o.Name
	}
	statements, err := c.app.Statements(ctx)
	if err != nil {
		return "" // the link of the statements reports it
	}
	return artifact.Home(statements)
}

// judge checks a subject with the policy.
func (c *chain) judge(ctx context.Context, name string, s trust.Subject) []Link {
	findings, err := c.o.Policy.Check(ctx, s)
	if err != nil {
		return []Link{c.link("trust in "+name, s.Digest, err)}
	}
	var links []Link
	for _, f := range findings {
		link := Link{Name: "trust in " + name, Subject: s.Digest, OK: f.OK, Proof: f.Proof}
		if f.Rule != nil {
			link.Rule = f.Rule.String()
		}
		if !f.OK {
			link.Reason = f.Reason
			if f.Rule != nil {
				link.Reason = f.Rule.String() + ": " + link.Reason
			}
			if len(s.Where) > 0 {
				link.Reason = s.Where[0] + ": " + link.Reason
			}
		}
		links = append(links, link)
	}
	return links
}

// rootEvidence is what is attached to the root, or the bundle that is used instead.
func (c *chain) rootEvidence(ctx context.Context) (*trust.Evidence, error) {
	if c.o.Bundle != nil {
		e := &trust.Evidence{}
		e.Add(c.o.Bundle)
		return e, nil
	}
	referrers, err := c.place.Referrers(ctx, c.app.Root.Digest)
	if err != nil {
		return nil, err
	}
	return trust.Collect(ctx, c.place, referrers)
}

// where returns the places that name each image, as the statements list them.
func (c *chain) where(ctx context.Context) map[digest.Digest][]string {
	out := map[digest.Digest][]string{}
	statements, err := c.app.Statements(ctx)
	if err != nil {
		return out // the link of the statements reports it
	}
	if refs, ok := artifact.ImageRefs(statements); ok {
		for _, edit := range refs.Edits {
			out[edit.Digest] = append(out[edit.Digest], images.Place(edit.File, edit.Line, edit.Column))
		}
	}
	return out
}
