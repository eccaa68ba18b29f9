// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"slices"

	"github.com/taped-dev/tape/stages/credentials"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// Accepted describes credentials in plain text that the author accepts. * matches any
// characters.
type Accepted struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Namespace is the namespace of the object; "" means any.
	Namespace string `json:"namespace,omitempty"`
	// Keys are the keys of the values; if empty, all keys of the object.
	Keys []string `json:"keys,omitempty"`
	// Reason is recorded in the artifact.
	Reason string `json:"reason"`
}

// of reports whether a credential is in an object that the entry describes.
func (a *Accepted) of(c images.Credential) bool {
	return images.Match(a.Kind, c.Kind) && images.Match(a.Name, c.Name) && (a.Namespace == "" || images.Match(a.Namespace, c.Namespace))
}

// credentials finds the credentials of an object. If a field contains several of the same kind,
// it reports the first one.
func (s *Stage) credentials(f *manifests.File, doc *manifests.Document, o manifests.Object, out *findings, left *budget) {
	above := o.Pointer()
	var last []string
	here := map[string]bool{} // what was found in the current field
	credentials.In(doc, o, func(found credentials.Found) bool {
		if !slices.Equal(found.Path, last) {
			last = slices.Clone(found.Path)
			clear(here)
		}
		if here[found.What] {
			return true
		}
		here[found.What] = true
		pointer, ok := left.pointer(f.Name, len(o.Kind)+len(o.Name)+len(found.Key), above, found.Path)
		if !ok {
			return false
		}
		c := images.Credential{
			File: f.Name, Pointer: pointer, Kind: o.Kind, Namespace: o.Namespace, Name: cmp.Or(o.Name, o.Generated),
			Key: found.Key, What: found.What,
		}
		if i := slices.IndexFunc(s.config.Accept, func(a Accepted) bool { return a.of(c) && (len(a.Keys) == 0 || patterns(a.Keys).match(c.Key)) }); i >= 0 {
			c.Reason = s.config.Accept[i].Reason
		}
		out.credentials = append(out.credentials, located[images.Credential]{c, found.Span.Offset})
		return true
	})
}
