// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/stages/images"
)

// unused returns a warning for each part of the configuration that matches nothing in the
// manifests, because it is misspelled or no longer needed.
func (s *Stage) unused(r *images.Report, b *budget) []engine.Event {
	var out []engine.Event
	warn := func(message string, path ...string) {
		out = append(out, engine.Event{Level: engine.Warning, Message: message, Unused: path})
	}
	all := slices.Concat(r.References, r.Excluded)
	for i, pattern := range s.config.Exclude {
		if !slices.ContainsFunc(all, func(ref images.Reference) bool { return ref.Matches(pattern) }) {
			warn(fmt.Sprintf("no image in the manifests matches %s, which was to be excluded%s", pattern, nearest.Hint(pattern, spelled(all, func(ref images.Reference) string { return ref.Source }))), "exclude", strconv.Itoa(i))
		}
	}
	for i, f := range s.config.Fields {
		if _, used := b.fields.Load(i); !used {
			warn(fmt.Sprintf("no object in the manifests has the image field %s of %s", strings.Join(f.Paths, ", "), strings.Join(f.Kinds, ", ")), "fields", strconv.Itoa(i))
		}
	}
	for i, a := range s.config.Accept {
		entry := []string{"accept", strconv.Itoa(i)}
		here := slices.DeleteFunc(slices.Clone(r.Credentials), func(c images.Credential) bool { return !a.of(c) })
		if len(here) == 0 {
			warn(fmt.Sprintf("no plain text is accepted by this entry: there is none in %s%s", a.String(), nearest.Hint(a.Kind+" "+a.Name, spelled(r.Credentials, func(c images.Credential) string { return c.Kind + " " + c.Name }))), entry...)
			continue
		}
		for j, key := range a.Keys {
			if !slices.ContainsFunc(here, func(c images.Credential) bool { return images.Match(key, c.Key) }) {
				warn(fmt.Sprintf("no plain text is accepted by this key: there is none called %s in %s%s", key, a.String(), nearest.Hint(key, spelled(here, func(c images.Credential) string { return c.Key }))), append(entry, "keys", strconv.Itoa(j))...)
			}
		}
	}
	return out
}

// String describes the entry.
func (a *Accepted) String() string {
	text := a.Kind + " " + a.Name
	if a.Namespace != "" {
		text += " of namespace " + a.Namespace
	}
	return text
}

// spelled yields the names of the elements.
func spelled[T any](all []T, name func(T) string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, one := range all {
			if !yield(name(one)) {
				return
			}
		}
	}
}
