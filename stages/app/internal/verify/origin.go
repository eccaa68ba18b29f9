// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/artifact"
)

// origins checks each step of the line that the application was relocated from, and that
// who must have signed one of the line did.
func (c *chain) origins(ctx context.Context) []Link {
	line, err := c.app.Origins(ctx)
	var links []Link
	at := c.app
	for _, origin := range line {
		links = append(links, c.link("relocation", origin.Root.Digest, c.slot(ctx, func() error { return at.CheckRelocated(ctx, origin) })))
		at = origin
	}
	if err != nil {
		links = append(links, c.link("relocation", at.Root.Digest, err))
	}
	if c.o.Origin != nil {
		links = append(links, c.originSigned(ctx, c.o.Origin, line))
	}
	if c.o.Policy != nil && c.o.Policy.Origin != nil {
		link := c.originSigned(ctx, c.o.Policy.Origin, line)
		link.Rule = "origin " + c.o.Policy.Origin.Name
		links = append(links, link)
	}
	return links
}

// originSigned checks that an authority signed the root or one of the line, of which the
// oldest that it signed counts. Each step from there is a link of its own.
func (c *chain) originSigned(ctx context.Context, by *trust.Authority, line []*artifact.Application) Link {
	const name = "origin signature"
	var reasons []string
	all := append([]*artifact.Application{c.app}, line...)
	for i, origin := range slices.Backward(all) {
		var proofs []ocispec.Descriptor
		if i > 0 {
			proofs = all[i-1].Children(artifact.RoleProof)
		}
		proof, err := c.signed(ctx, by, origin.Root.Digest, proofs...)
		if err == nil {
			return c.proven(name, origin.Root.Digest, proof, nil)
		}
		if c.stop(err); len(line) > 0 {
			err = fmt.Errorf("%s: %w", origin.Root.Digest, err)
		}
		reasons = append(reasons, err.Error())
	}
	if len(line) == 0 {
		reasons = append(reasons, "it lists no application that it was relocated from")
	}
	return broken(name, all[len(all)-1].Root.Digest, some(reasons))
}
