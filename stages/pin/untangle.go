// SPDX-License-Identifier: Apache-2.0

package pin

import (
	"cmp"
	"slices"
)

// shared is the reason for a reference whose bytes cannot be changed.
const shared = "a YAML anchor makes its text something else in other places; write the image out where it is used"

// claim is what a target requires of a range of bytes: to replace them, or to keep
// them as they are.
type claim struct {
	*target
	edit           *edit // nil to keep the bytes
	offset, length int
}

// untangle resolves conflicts over bytes of a file that anchors and merge keys make
// the value of several fields. If all of these are to become the same image, the bytes
// are changed. Otherwise each reference that is read through an alias replaces the
// alias; what still conflicts after that stays as written.
func untangle(targets []*target) {
	for {
		settled := true
		for group := range disputed(claims(targets)) {
			settled = false
			if keepTag(group) || useAliases(group) {
				continue
			}
			for _, c := range group {
				if c.edit != nil {
					c.left = cmp.Or(c.left, shared)
				}
			}
		}
		if settled {
			return
		}
	}
}

// keepTag changes the claims to the form that every reader accepts, with the tag as
// written, if they are all for one image. It reports whether it did.
func keepTag(group []claim) bool {
	text := ""
	for _, c := range group {
		if c.edit != nil && c.edit.KeepTag {
			text = c.edit.text
		}
	}
	if text == "" {
		return false
	}
	for _, c := range group {
		if c.edit == nil || len(c.location.Parts) > 0 || c.edit.shared || c.edit.Digest != group[0].edit.Digest ||
			c.offset != group[0].offset || c.length != group[0].length || c.edit.KeepTag && c.edit.text != text {
			return false
		}
	}
	for _, c := range group {
		c.edit.text, c.edit.KeepTag = text, true
	}
	return true
}

// useAliases changes the edits of values read through an alias to replace the alias.
// It reports whether there were any.
func useAliases(group []claim) bool {
	moved := false
	for _, c := range group {
		if c.edit != nil && c.edit.alias != nil {
			c.edit.offset, c.edit.length = c.edit.alias.Offset, c.edit.alias.Length
			c.edit.alias, c.edit.shared = nil, false
			moved = true
		}
	}
	return moved
}

// claims returns the claims of all targets, sorted by offset.
func claims(targets []*target) []claim {
	var out []claim
	for _, t := range targets {
		l := t.location
		switch {
		case t.reference != nil && t.left == "":
			for i := range t.edits {
				c := claim{t, &t.edits[i], t.edits[i].offset, t.edits[i].length}
				if c.edit.text == c.edit.value {
					c.edit = nil
				}
				out = append(out, c)
			}
		case len(l.Parts) == 0:
			out = append(out, claim{t, nil, l.Offset, l.Length})
		}
		if t.reference == nil || t.left != "" {
			for _, p := range l.Parts {
				out = append(out, claim{t, nil, p.Offset, p.Length})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b claim) int { return cmp.Compare(a.offset, b.offset) })
	return out
}

// disputed yields each group of claims to overlapping bytes that do not agree.
func disputed(all []claim) func(yield func([]claim) bool) {
	return func(yield func([]claim) bool) {
		for len(all) > 0 {
			n, end := 1, all[0].offset+max(all[0].length, 1)
			for n < len(all) && all[n].offset < end {
				end = max(end, all[n].offset+all[n].length)
				n++
			}
			if group := all[:n]; !agree(group) && !yield(group) {
				return
			}
			all = all[n:]
		}
	}
}

// agree reports whether all claims of a group are the same and no other field reads
// the bytes.
func agree(group []claim) bool {
	first := group[0]
	for _, c := range group {
		switch {
		case (c.edit == nil) != (first.edit == nil):
			return false
		case c.edit == nil:
		case c.edit.shared, c.offset != first.offset, c.length != first.length, c.edit.text != first.edit.text:
			return false
		}
	}
	return true
}
