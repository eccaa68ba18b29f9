// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/taped-dev/tape/stages/credentials"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// Accepted describes credentials in plain text that the author accepts. * matches any
// characters.
type Accepted struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Namespace is that of the object; "" is any.
	Namespace string `json:"namespace,omitempty"`
	// Keys are those of the values; none is all of the object.
	Keys []string `json:"keys,omitempty"`
	// Reason is stated in the artifact.
	Reason string `json:"reason"`
}

// covers reports whether a credential is accepted.
func (a *Accepted) covers(c images.Credential) bool {
	return a.of(c) && (len(a.Keys) == 0 || patterns(a.Keys).match(c.Key))
}

// of reports whether a credential is in an object of the entry.
func (a *Accepted) of(c images.Credential) bool {
	return images.Match(a.Kind, c.Kind) && images.Match(a.Name, c.Name) && (a.Namespace == "" || images.Match(a.Namespace, c.Namespace))
}

// credential is one before its line and column are known.
type credential struct {
	images.Credential
	offset int
}

// credentials finds the credentials of an object. Of several of a kind in one field it
// reports the first.
func (s *Stage) credentials(f *manifests.File, doc *manifests.Document, o manifests.Object, b *batchScan, left *budget) {
	above := o.Pointer()
	var last []string
	here := map[string]bool{} // what was found in the last field
	credentials.In(doc, o, func(found credentials.Found) bool {
		if !slices.Equal(found.Path, last) {
			last = slices.Clone(found.Path)
			clear(here)
		}
		if here[found.What] {
			return true
		}
		here[found.What] = true
		size := leastPlace + len(f.Name) + len(o.Kind) + len(o.Name) + len(found.Key) + len(above)
		for _, key := range found.Path {
			size += len("/") + len(key)
		}
		if !left.say(f.Name, size) {
			return false
		}
		var pointer strings.Builder
		pointer.WriteString(above)
		for _, key := range found.Path {
			pointer.WriteByte('/')
			pointer.WriteString(manifests.EscapePointer(key))
		}
		c := images.Credential{
			File: f.Name, Pointer: pointer.String(), Kind: o.Kind, Namespace: o.Namespace, Name: cmp.Or(o.Name, o.Generated),
			Key: found.Key, What: found.What,
		}
		if i := slices.IndexFunc(s.accept, func(a Accepted) bool { return a.covers(c) }); i >= 0 {
			c.Reason = s.accept[i].Reason
		}
		b.credentials = append(b.credentials, credential{c, found.Span.Offset})
		return true
	})
}

// locateCredentials sets the lines and columns of credentials, which are in the order of the
// objects that hold them.
func (scan *fileScan) locateCredentials(all []credential) []images.Credential {
	if len(all) == 0 {
		return nil
	}
	order := make([]int, len(all))
	for i := range all {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(all[a].offset, all[b].offset) })
	at := scan.file.Positions()
	out := make([]images.Credential, len(all))
	for _, i := range order {
		c := all[i].Credential
		c.Line, c.Column = at.At(all[i].offset)
		out[i] = c
	}
	return out
}
