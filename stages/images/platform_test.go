// SPDX-License-Identifier: Apache-2.0

package images_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/stages/images"
)

func TestChoose(t *testing.T) {
	child := func(platform string) ocispec.Descriptor {
		desc := ocispec.Descriptor{Digest: digest.FromString(platform)}
		if platform != "" {
			parts := append(strings.Split(platform, "/"), "")
			desc.Platform = &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
		}
		return desc
	}
	list := []string{"linux/386", "linux/amd64", "unknown/unknown", "", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8"}
	for platform, want := range map[string]string{
		"linux/amd64":   "linux/amd64",
		"linux/arm/v6":  "linux/arm/v6",
		"linux/arm/v7":  "linux/arm/v7",
		"linux/arm/v8":  "linux/arm/v7",
		"linux/arm64":   "linux/arm64/v8",
		"linux/x86_64":  "linux/amd64",
		"linux/s390x":   "",
		"windows/amd64": "",
		"linux/arm/v5":  "",
		"linux/386":     "linux/386",
	} {
		p, err := images.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		var children []ocispec.Descriptor
		for _, c := range list {
			children = append(children, child(c))
		}
		for range 2 { // whatever the order
			best, there := p.Choose(children)
			switch {
			case best == nil && want != "", best != nil && best.Digest != digest.FromString(want):
				t.Errorf("%s: got %+v, want %s", platform, best, want)
			case len(there) != 5:
				t.Errorf("it has %q", there)
			}
			slices.Reverse(children)
		}
	}
	for _, text := range []string{"", "linux", "amd64", "linux/", "/amd64", "linux/amd64/v2/x", "linux/amd64,linux/arm64", "Linux/amd64"} {
		if p, err := images.ParsePlatform(text); err == nil || !strings.Contains(err.Error(), "give it as os/arch") {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
}
