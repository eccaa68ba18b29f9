// SPDX-License-Identifier: Apache-2.0

package images

import (
	"cmp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Known is what is known about images before a run, sorted by [Known.Add]. A run does not ask
// registries about these images, so many runs, of many applications, see the same state of the
// registries.
type Known []Answer

// Answer is what registries answered about one reference.
type Answer struct {
	// Name is the normalised reference, with the digest if it has one.
	Name string `json:"name"`
	// Platform is the platform that was asked for; "" means all.
	Platform string `json:"platform,omitempty"`
	// Mode is what was looked for in addition to the image, in the words of discover.
	Mode string `json:"mode"`
	// Image has neither Source nor Ref nor Locations, because these depend on the application.
	Image *Image `json:"image,omitempty"`
	// Warnings are the warnings of resolving the reference.
	Warnings []string `json:"warnings,omitempty"`
	// Unknown is the reason why the related manifests could not be listed.
	Unknown string `json:"unknown,omitempty"`
	// Absent is the reason why the image does not exist, as far as its registry can tell.
	Absent string `json:"absent,omitempty"`
}

func (a Answer) compare(b Answer) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Platform, b.Platform), strings.Compare(a.Mode, b.Mode))
}

// Add adds an answer, or replaces the answer to the same question.
func (k Known) Add(a Answer) Known {
	at, there := slices.BinarySearchFunc(k, a, Answer.compare)
	if there {
		k[at] = a
		return k
	}
	return slices.Insert(k, at, a)
}

// Find returns the answer for a reference and a platform. An empty mode matches any mode.
func (k Known) Find(name, platform, mode string) (Answer, bool) {
	want := Answer{Name: name, Platform: platform, Mode: mode}
	at, there := slices.BinarySearchFunc(k, want, Answer.compare)
	if there {
		return k[at], true
	}
	if mode == "" && at < len(k) && k[at].Name == name && k[at].Platform == platform {
		return k[at], true
	}
	return Answer{}, false
}

// Of returns the answer for a resolved image, whatever platform was asked for.
func (k Known) Of(image Image, mode string) (Answer, bool) {
	at, _ := slices.BinarySearchFunc(k, Answer{Name: image.Name}, Answer.compare)
	for ; at < len(k) && k[at].Name == image.Name; at++ {
		if a := k[at]; a.Mode == mode && a.Image != nil && a.Image.Digest == image.Digest && image.From == "" {
			return a, true
		}
	}
	return Answer{}, false
}

// Digest identifies the parts of an answer that an artifact depends on.
func (a Answer) Digest() digest.Digest {
	h := digest.Canonical.Digester()
	w := func(parts ...string) {
		for _, p := range parts {
			_, _ = h.Hash().Write([]byte(p + "\x00"))
		}
	}
	w(a.Absent)
	if i := a.Image; i != nil {
		w(i.Digest.String(), i.Platform)
		for _, r := range i.Related {
			w(string(r.To), string(r.Digest), r.Tag)
		}
	}
	return h.Digest()
}
