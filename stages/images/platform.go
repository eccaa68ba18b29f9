// SPDX-License-Identifier: Apache-2.0

package images

import (
	"fmt"
	"regexp"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is the only platform to use of images that have several.
type Platform struct {
	text string
	want ocispec.Platform
}

// platformForm is os/arch[/variant]. The parser of containerd would take missing parts from the
// machine that it runs on.
var platformForm = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$`)

// ParsePlatform parses os/arch[/variant].
func ParsePlatform(text string) (*Platform, error) {
	if !platformForm.MatchString(text) {
		return nil, fmt.Errorf("platform %q: give it as os/arch, such as linux/amd64 or linux/arm/v7", text)
	}
	want, err := platforms.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("platform %q: %w; give it as os/arch, such as linux/amd64", text, err)
	}
	return &Platform{text, platforms.Normalize(want)}, nil
}

// String returns the text that was parsed.
func (p *Platform) String() string { return p.text }

// Choose returns the child of an index for the platform: the one with the same variant, or else
// the one with the newest older variant, or else nil. there lists the platforms in the index.
func (p *Platform) Choose(children []ocispec.Descriptor) (best *ocispec.Descriptor, there []string) {
	matcher := platforms.Only(p.want)
	for _, c := range children {
		if !HasPlatform(c) {
			continue
		}
		there = append(there, platforms.Format(*c.Platform))
		// The matcher also accepts what the processor can run, such as 386 on amd64.
		if has := platforms.Normalize(*c.Platform); has.Architecture != p.want.Architecture || !matcher.Match(has) {
			continue
		}
		if best == nil || matcher.Less(*c.Platform, *best.Platform) {
			best = &c
		}
	}
	return best, there
}

// HasPlatform reports whether a child of an index is for a platform. The platform of attestations
// is unknown.
func HasPlatform(desc ocispec.Descriptor) bool {
	return desc.Platform != nil && desc.Platform.OS != "unknown"
}
