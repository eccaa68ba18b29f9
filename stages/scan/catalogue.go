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

// knowledge is the parsed catalogue.yaml. Its keys are the field names in lower case.
type knowledge struct {
	Fields     []Field
	Notes      patterns // annotations that only mention images
	Registries patterns
	Elsewhere  patterns
	Official   []string
	Served     []string // API groups of Kubernetes itself

	compiled []field // of Fields
	official map[string]bool
}

// builtin returns the catalogue, which it parses on first use because that takes milliseconds.
// The result must not be modified.
var builtin = sync.OnceValue(func() *knowledge {
	var k knowledge
	dec := yaml.NewDecoder(strings.NewReader(string(catalogueYAML)))
	dec.KnownFields(true)
	if err := dec.Decode(&k); err != nil {
		panic(fmt.Errorf("read catalogue: %w", err))
	}
	k.compiled, k.official = compile(k.Fields), map[string]bool{}
	for _, name := range k.Official {
		k.official[name] = true
	}
	return &k
})

// catalogue combines the built-in catalogue with the fields of the configuration.
type catalogue struct {
	*knowledge
	fields []field
	users  int      // number of entries from the configuration, which come first
	kinds  sync.Map // "group kind" → []place at the top of its objects
}

// field is one compiled path of a Field.
type field struct {
	Field
	index int // of the entry; lower ones take precedence
	path  []string
	cost  int // cost of checking one place of it: itself, and the keys and patterns that it is compared with
}

// Limits for the image fields of a pipeline, each of which may be compared with every value.
// Statements contain such fields too, and these are untrusted.
const (
	maxFieldKeys = 1_024    // keys and patterns together
	maxFieldText = 64 << 10 // their characters
	maxPathKeys  = 64       // keys of one path
	maxAnyDepth  = 4        // number of ** among them
)

// check returns an error for fields that exceed the limits.
func check(fields []Field) error {
	keys, text := 0, 0
	count := func(separator string, all ...string) {
		for _, s := range all {
			keys += 1 + strings.Count(s, separator)
			text += len(s)
		}
	}
	for _, f := range fields {
		count("*", f.Groups...)
		count("*", f.Kinds...)
		count("/", f.Paths...)
		count("|", f.Unless, f.Scheme, f.Behind, f.Reason)
		for key, values := range f.When {
			count("|", key, values)
		}
		if p := f.Parts; p != nil {
			count("|", p.Registry, p.Repository, p.Image, p.Tag, p.Digest, p.Version, p.Algorithm, p.Literal)
		}
		for _, path := range f.Paths {
			of := strings.Join(f.Kinds, ", ")
			switch elements := strings.Split(path, "/"); {
			case path != "" && path[0] != '/':
				return fmt.Errorf("image field %q of %s is not a JSON pointer: begin it with a slash", path, of)
			case len(elements) > maxPathKeys+1:
				return fmt.Errorf("an image field of %s has more than %d keys", of, maxPathKeys)
			case strings.Count(path, "/**") > maxAnyDepth:
				return fmt.Errorf("image field %q of %s has ** more than %d times", path, of, maxAnyDepth)
			}
		}
	}
	if keys > maxFieldKeys || text > maxFieldText {
		return fmt.Errorf("the image fields have more than %d keys and patterns, or %d KiB of them", maxFieldKeys, maxFieldText>>10)
	}
	return nil
}

// newCatalogue returns the built-in catalogue, preceded by the fields of the user.
func newCatalogue(user []Field) *catalogue {
	k := builtin()
	c := &catalogue{knowledge: k, fields: k.compiled, users: len(user)}
	if len(user) > 0 {
		c.fields = compile(slices.Concat(user, k.Fields))
	}
	return c
}

// compile returns the paths of fields.
func compile(fields []Field) []field {
	var out []field
	for i, f := range fields {
		for _, path := range f.Paths {
			compiled := field{Field: f, index: i, cost: 1 + strings.Count(f.Unless, "|")}
			for _, values := range f.When {
				compiled.cost += 1 + strings.Count(values, "|")
			}
			for _, key := range strings.Split(path, "/")[1:] {
				key, inside := strings.CutSuffix(key, embeddedMark)
				compiled.path = append(compiled.path, manifests.UnescapePointer(key))
				if inside {
					compiled.path = append(compiled.path, embeddedMark)
				}
			}
			out = append(out, compiled)
		}
	}
	return out
}

// isUsers reports whether an entry is from the configuration.
func (c *catalogue) isUsers(index int) bool { return 0 <= index && index < c.users }

// embeddedMark is the element of a path that continues in the document in a string.
const embeddedMark = "#"

// patterns are texts in which * matches any characters.
type patterns []string

// match reports whether s matches one of the patterns.
func (p patterns) match(s string) bool {
	return slices.ContainsFunc(p, func(pattern string) bool { return images.Match(pattern, s) })
}

// place is the position of a node on the path of a field.
type place struct {
	*field
	next int // index of the next element of the path
}

// reached reports whether the place is the end of the path.
func (p place) reached() bool { return p.next == len(p.path) }

// begin returns the places at the top of objects of a kind.
func (c *catalogue) begin(group, kind string) []place {
	key := group + " " + kind
	if known, ok := c.kinds.Load(key); ok {
		return known.([]place)
	}
	var places []place
	for i := range c.fields {
		f := &c.fields[i]
		served := patterns(f.Groups).match(group) || len(f.Groups) == 0 && !slices.Contains(c.Served, group)
		if served && patterns(f.Kinds).match(kind) {
			places = appendPlace(places, place{f, 0})
		}
	}
	c.kinds.Store(key, places)
	return places
}

// enter returns the places below a key.
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

// appendPlace appends a place, and the places reached if ** matches nothing, unless they are in
// the list already. Places of the same field are adjacent in the list.
func appendPlace(places []place, p place) []place {
	for i := len(places) - 1; i >= 0 && places[i].field == p.field; i-- {
		if places[i].next == p.next {
			return places
		}
	}
	places = append(places, p)
	if !p.reached() && p.path[p.next] == "**" {
		places = appendPlace(places, place{p.field, p.next + 1})
	}
	return places
}

// workload reports whether an API group contains Kubernetes' own kinds that run pods. Only the
// kubelet reads their images.
func workload(group string) bool { return group == "" || group == "apps" || group == "batch" }
