// SPDX-License-Identifier: Apache-2.0

package scan

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

//go:embed catalogue.yaml
var catalogueYAML []byte

// knowledge is the catalogue as it is written: its keys are the fields' names in
// lower case.
type knowledge struct {
	Fields     []Field
	Notes      []string
	Registries []string
	Elsewhere  []string
	Official   []string
}

// builtin is read once: it is data, and nothing changes it.
var builtin = sync.OnceValues(func() (*knowledge, error) {
	var k knowledge
	dec := yaml.NewDecoder(strings.NewReader(string(catalogueYAML)))
	dec.KnownFields(true)
	if err := dec.Decode(&k); err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	return &k, nil
})

// catalogue knows which fields of which objects hold references, and what looks
// like a registry.
type catalogue struct {
	fields     []field
	users      int      // entries that are a user's, which go first
	notes      patterns // annotations that only speak of images
	registries patterns
	elsewhere  patterns
	official   map[string]bool

	kinds sync.Map // "group kind" → []place, where its objects begin
}

// field is a Field compiled: one path of it.
type field struct {
	Field
	index int // of the entry: the lower goes first
	path  []string
}

// newCatalogue puts a user's fields before the built-in ones.
func newCatalogue(user []Field) (*catalogue, error) {
	k, err := builtin()
	if err != nil {
		return nil, err
	}
	c := &catalogue{users: len(user), notes: k.Notes, registries: k.Registries, elsewhere: k.Elsewhere, official: map[string]bool{}}
	for i, f := range slices.Concat(user, k.Fields) {
		for _, path := range f.Paths {
			if path != "" && path[0] != '/' {
				return nil, fmt.Errorf("image field %q of %s is not a JSON pointer: begin it with a slash", path, strings.Join(f.Kinds, ", "))
			}
			compiled := field{Field: f, index: i}
			for _, key := range strings.Split(path, "/")[1:] {
				key, inside := strings.CutSuffix(key, embeddedMark)
				compiled.path = append(compiled.path, manifests.UnescapePointer(key))
				if inside {
					compiled.path = append(compiled.path, embeddedMark)
				}
			}
			c.fields = append(c.fields, compiled)
		}
	}
	for _, name := range k.Official {
		c.official[name] = true
	}
	return c, nil
}

// isUsers reports whether an entry is a user's.
func (c *catalogue) isUsers(index int) bool { return 0 <= index && index < c.users }

// embeddedMark is the element of a path that leads into the document that a string
// holds. Keys end in it nowhere else.
const embeddedMark = "#"

// patterns are texts in which * stands for any characters.
type patterns []string

// match says whether any of the patterns is s.
func (p patterns) match(s string) bool {
	return slices.ContainsFunc(p, func(pattern string) bool { return images.Match(pattern, s) })
}

// place is how far into the path of a field a node lies.
type place struct {
	*field
	next int // element of the path that is to come
}

// reached says that the node is what the field names.
func (p place) reached() bool { return p.next == len(p.path) }

// begin are the places at the top of objects of a kind.
func (c *catalogue) begin(group, kind string) []place {
	key := group + " " + kind
	if known, ok := c.kinds.Load(key); ok {
		return known.([]place)
	}
	var places []place
	for i := range c.fields {
		f := &c.fields[i]
		served := patterns(f.Groups).match(group) || len(f.Groups) == 0 && !kubernetes(group)
		if served && patterns(f.Kinds).match(kind) {
			places = appendPlace(places, place{f, 0})
		}
	}
	c.kinds.Store(key, places)
	return places
}

// enter goes down a key.
func enter(places []place, key string) []place {
	var out []place
	for _, p := range places {
		switch {
		case p.reached():
		case p.path[p.next] == embeddedMark && key != embeddedMark:
		case p.path[p.next] == "**":
			out = appendPlace(out, p)
		case p.path[p.next] == "*", p.path[p.next] == key:
			out = appendPlace(out, place{p.field, p.next + 1})
		}
	}
	return out
}

// appendPlace also adds what is reached when ** stands for nothing.
func appendPlace(places []place, p place) []place {
	places = append(places, p)
	if !p.reached() && p.path[p.next] == "**" {
		places = appendPlace(places, place{p.field, p.next + 1})
	}
	return places
}

// workload reports whether the kinds of an API group that run pods are those of
// Kubernetes itself. Nothing but the kubelet reads the images of those.
func workload(group string) bool { return group == "" || group == "apps" || group == "batch" }

// kubernetes says whether an API group is one that Kubernetes itself serves. Its
// kinds are known whole: no field of theirs is guessed to be an image.
func kubernetes(group string) bool {
	switch group {
	case "", "apps", "batch", "extensions", "autoscaling", "policy":
		return true
	}
	name, ok := strings.CutSuffix(group, ".k8s.io")
	switch name {
	case "admissionregistration", "apiextensions", "apiregistration", "authentication", "authorization",
		"rbac.authorization", "certificates", "coordination", "discovery", "events", "flowcontrol.apiserver",
		"internal.apiserver", "metrics", "networking", "node", "resource", "scheduling", "storage", "storagemigration":
		return ok
	}
	return false
}
