// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"slices"
	"strings"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// unknownParts is why a split reference that no entry explains is not pinned.
const unknownParts = "how these fields make a reference is not known: say it in images.fields"

// split finds references that are split over the fields of a map, and says
// which of its values they are made of.
func (w *walker) split(n *manifests.Node, key string, s scope) map[*manifests.Node]bool {
	if !hasParts(n, s) {
		return nil
	}
	used := map[*manifests.Node]bool{}
	promise := s.label // of the map itself: one of images, say
	take := func(parts Parts, named string, f *field) {
		fields := collect(n, parts)
		value := compose(fields)
		if value == "" && f != nil {
			w.incomplete(fields, used)
		}
		if value == "" || !w.likely(n, max(labelOf(named), promise), value, f) {
			return
		}
		name, ok := normalise(value)
		if !ok {
			return
		}
		for _, p := range fields {
			if used[p.node] {
				return
			}
		}
		out := found{name: name, Location: images.Location{Class: images.CRD, Value: value}}
		if f == nil {
			out.Never = unknownParts
		} else if f.Optional {
			out.Class = images.Indirect
		}
		for _, p := range fields {
			used[p.node] = true
			w.part(&out, p)
		}
		w.addFound(out, f)
	}
	for _, p := range s.places {
		if p.reached() && p.index < s.ignored && p.Parts != nil && beside(n, p.When) {
			take(*p.Parts, key, p.field)
		}
	}
	if s.builtin || s.ignored != nothingIgnored {
		return used
	}
	if max(labelOf(key), promise) >= namesOne {
		for _, parts := range guessesInImage {
			take(parts, key, nil)
		}
	}
	for _, parts := range guesses {
		take(parts, key, nil)
	}
	for i := range n.Fields {
		if parts, ok := tagged(n, n.Fields[i].Key); ok {
			take(parts, n.Fields[i].Key, nil)
		}
	}
	return used
}

// tagged finds the tag that stands beside a field that is named image:
// proxyImage and proxyTag, image and imageTag, image_name and image_version.
func tagged(n *manifests.Node, key string) (Parts, bool) {
	name := strings.TrimSuffix(strings.TrimSuffix(key, "_name"), "Name")
	for _, image := range []string{"image", "Image"} {
		before, ok := strings.CutSuffix(name, image)
		if !ok {
			continue
		}
		for _, tag := range []string{name + "Tag", name + "_tag", name + "_version", before + "Tag", before + "tag", before + "_tag"} {
			if n.Get(tag) != nil {
				return Parts{Registry: "registry", Repository: key, Tag: tag, Digest: "digest"}, true
			}
		}
	}
	return Parts{}, false
}

// hasParts is a quick look, as hardly any map is a split reference.
func hasParts(n *manifests.Node, s scope) bool {
	for _, p := range s.places {
		if p.reached() && p.Parts != nil {
			return true
		}
	}
	return !s.builtin && slices.ContainsFunc(n.Fields, func(f manifests.Field) bool {
		return f.Key == "digest" || f.Key == "version" || strings.HasSuffix(f.Key, "tag") ||
			strings.HasSuffix(f.Key, "Tag") || strings.HasSuffix(f.Key, "_version")
	})
}

// incomplete notes a last element without the rest, which the object's reader
// fills in.
func (w *walker) incomplete(pieces []piece, used map[*manifests.Node]bool) {
	for _, p := range pieces {
		if p.role == "image" && p.node.Value != "" && !strings.Contains(p.node.Value, "/") {
			used[p.node] = true
			w.in(p.key, func() { w.placeholder(p.node, p.node.Value, images.CRD) })
		}
	}
}

// The ways that references are split which are looked for without an entry, the
// fullest first; some only below a key that says image.
var (
	guesses = []Parts{
		{Registry: "registry", Repository: "repository", Tag: "tag", Digest: "digest"},
		{Repository: "repository", Image: "image", Version: "version"},
		{Registry: "hub", Repository: "image", Tag: "tag"},
	}
	guessesInImage = []Parts{
		{Registry: "registry", Repository: "repository", Image: "name", Tag: "tag", Digest: "digest"},
		{Registry: "registry", Repository: "repository", Version: "version"},
		{Repository: "name", Version: "version"},
	}
)

func hasAny(n *manifests.Node, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return n.Get(key) != nil })
}

// piece is a part of a split reference.
type piece struct {
	role string
	key  string // a pointer from the map
	node *manifests.Node
}

// collect finds the parts that are there, in an order of its own.
func collect(n *manifests.Node, parts Parts) []piece {
	var out []piece
	for _, p := range []piece{
		{role: "registry", key: parts.Registry}, {role: "repository", key: parts.Repository}, {role: "image", key: parts.Image},
		{role: "tag", key: parts.Tag}, {role: "digest", key: parts.Digest}, {role: "version", key: parts.Version},
	} {
		if p.key == "" {
			continue
		}
		p.node = n
		for _, key := range strings.Split(strings.TrimPrefix(p.key, "/"), "/") {
			p.node = p.node.Get(manifests.UnescapePointer(key))
		}
		if p.node != nil && p.node.Kind == manifests.Scalar && p.node.Type != manifests.Null {
			out = append(out, p)
		}
	}
	return out
}

// compose makes a reference of its parts: "" where too few are there.
func compose(pieces []piece) string {
	part := map[string]string{}
	for _, p := range pieces {
		part[p.role] = strings.TrimSpace(p.node.Value)
	}
	if saidAgain(part["repository"], part["image"]) {
		part["image"] = ""
	}
	var names []string
	for _, role := range []string{"registry", "repository", "image"} {
		if part[role] != "" {
			names = append(names, part[role])
		}
	}
	if part["repository"] == "" && part["image"] == "" || part["tag"]+part["digest"]+part["version"] == "" {
		return ""
	}
	ref := strings.Join(names, "/")
	switch tag, digest := part["tag"], part["digest"]; {
	case part["version"] != "" && strings.Contains(part["version"], ":"):
		digest = part["version"]
		fallthrough
	case digest != "":
		if !strings.Contains(digest, ":") {
			digest = "sha256:" + digest
		}
		if tag != "" {
			ref += ":" + tag
		}
		return ref + "@" + digest
	case tag != "":
		return ref + ":" + tag
	}
	return ref + ":" + part["version"]
}

// saidAgain says that a name is the last element of the repository, said again:
// {repository: ghcr.io/x/y, name: y}, but not {repository: ghcr.io/x, name: x}.
func saidAgain(repository, name string) bool {
	if host, path, ok := strings.Cut(repository, "/"); ok && strings.ContainsAny(host, ".:") {
		repository = path
	}
	return name != "" && strings.HasSuffix(repository, "/"+name)
}

// likely says whether what the parts make is a reference. Where it is a guess,
// or the entry stands for any map at all, the name above or a neighbour must say
// so.
func (w *walker) likely(n *manifests.Node, promise label, value string, f *field) bool {
	if isPlaceholder(value) {
		return false
	}
	if f != nil && (len(f.path) == 0 || f.path[len(f.path)-1] != "**") {
		return true
	}
	host, _, _ := strings.Cut(value, "/")
	switch {
	case !w.catalogue.plausible(value, namesOne):
		return false
	case promise >= namesOne, w.catalogue.registries.match(host):
		return true
	}
	return hasAny(n, "pullPolicy", "imagePullPolicy", "image", "pullSecrets")
}

// part notes where a part stands; the reference stands where its first does.
func (w *walker) part(f *found, p piece) {
	text := w.doc.Scalar(p.node)
	value := strings.TrimSpace(text.String)
	from := strings.Index(text.String, value)
	span := text.Span(from, from+len(value))
	if !span.Exact {
		f.Never = encoded
	}
	pointer := w.pointer()
	if w.embedded == 0 {
		pointer += "/" + strings.TrimPrefix(p.key, "/")
	}
	if len(f.Parts) == 0 || span.Offset < f.Offset {
		f.Offset = span.Offset
	}
	part := images.Part{Pointer: pointer, Value: value, Offset: span.Offset, Length: span.Length, Role: p.role}
	if from == 0 && len(value) == len(text.String) {
		part.Alias = w.alias(p.node)
	}
	f.Parts = append(f.Parts, part)
	f.partUses = append(f.partUses, w.uses(p.node))
}
