// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// unknownParts is the reason why a split reference without an entry in the catalogue is not
// pinned.
const unknownParts = "how these fields make a reference is not known: say it in images.fields"

// sharedRegistry is the reason why references that share a registry field are not pinned.
const sharedRegistry = "its registry is also that of others: write it with each name"

// split finds references that are split over the fields of a map or over the entries of a list of
// names and values. It returns the values that they consist of.
func (w *walker) split(n *manifests.Node, key string, s scope) map[*manifests.Node]bool {
	if !hasParts(n, s) {
		return nil
	}
	used := map[*manifests.Node]bool{}
	registries := map[*manifests.Node]int{} // indexes of the references that use each registry
	promise := s.label                      // of the map, such as an item of images
	take := func(parts Parts, promise label, f *field) {
		fields := w.collect(n, parts)
		shared := -1
		for _, p := range fields {
			if i, ok := registries[p.node]; ok && p.role == "registry" {
				shared = i
				continue
			}
			if used[p.node] || s.taken[p.node] || roleOf(p.key, s.role) == containerImage {
				return // an image that a pod runs is never part of something else
			}
		}
		value := compose(fields, parts)
		if f == nil && isWhole(fields) {
			return
		}
		if value == "" && f != nil {
			w.incomplete(fields, used)
		}
		if value == "" || isPlaceholder(value) {
			if f.exact() {
				promise = namesOne
			}
			w.unknown(fields, promise, used, w.isNull(n, parts.Tag))
			return
		}
		if !w.likely(n, promise, value, f) {
			return
		}
		name, ok := normalise(value)
		if !ok {
			return
		}
		out := found{name: name, Location: images.Location{Class: images.CRD, Value: value}}
		switch {
		case f == nil && s.pairs, f != nil && f.Optional:
			out.Class = images.Indirect
		}
		certain := slices.ContainsFunc(fields, func(p piece) bool { return p.role == "digest" || p.role == "sha" }) // there is a field for a digest
		if f == nil && !certain || slices.ContainsFunc(fields, piece.separated) {
			out.Never = unknownParts
		}
		for _, p := range fields {
			used[p.node] = true
			w.part(&out, p)
			if p.role == "registry" && shared < 0 {
				registries[p.node] = len(w.out.references)
			}
		}
		if shared >= 0 {
			out.Never = cmp.Or(out.Never, sharedRegistry)
			w.out.references[shared].Never = cmp.Or(w.out.references[shared].Never, sharedRegistry)
		}
		w.addFound(out, f)
	}
	for _, p := range s.places {
		if p.reached() && p.index < s.ignored && p.Parts != nil && w.fits(p.field, n) {
			w.use(p.field)
			take(*p.Parts, max(labelOf(key), promise), p.field)
		}
	}
	if s.builtin && !s.pairs || s.ignored != nothingIgnored || s.machine || s.role.whole(n) {
		return used
	}
	if !s.builtin {
		if max(labelOf(key), promise) >= namesOne {
			for _, parts := range guessesInImage {
				take(parts, max(labelOf(key), promise), nil)
			}
		}
		for _, parts := range guesses {
			if parts.Image != "image" || n.Get(parts.Repository) != nil {
				take(parts, max(labelOf(key), promise), nil)
			}
		}
	}
	for _, parts := range w.catalogue.partialsIn(n) {
		if !w.below(s, n, parts.Repository).placed() { // unless the catalogue lists it
			take(parts, namesOne, nil)
		}
	}
	if len(used) == 0 {
		w.nameless(n)
	}
	return used
}

// nameless records a registry and a tag as a placeholder if the name of the image is elsewhere,
// as in the global values of charts.
func (w *walker) nameless(n *manifests.Node) {
	for _, key := range []string{"hub", "imageRegistry", "registry"} {
		value := n.Get(key).Text()
		tagged := slices.ContainsFunc([]string{"tag", "imageTag", "version", "imageVersion"}, func(key string) bool { tag := n.Get(key); return tag != nil && !isOpen(tag) })
		if strings.Contains(value, ".") && isRegistry(value) && tagged && !hasAny(n, "image", "repository", "name") {
			w.in(key, func() { w.placeholder(n.Get(key), value, images.Indirect, withoutName) })
			return
		}
	}
}

// isWhole reports whether the image next to a repository is a separate reference, such as the
// image of a runner next to the repository that it works for.
func isWhole(pieces []piece) bool {
	repository, image := "", ""
	for _, p := range pieces {
		switch p.role {
		case "repository":
			repository = p.value()
		case "image":
			image = p.value()
		}
	}
	if repository == "" || imageref.Split(image).Version() == "" {
		return false
	}
	host, _, below := strings.Cut(repository, "/")
	return strings.Contains(image, "/") && below || !strings.ContainsAny(host, ".:")
}

// withoutName is the reason why the meaning of a registry and a tag is unknown.
const withoutName = "a registry and a tag, to which something else adds the name of an image"

// hasParts reports whether a map or list may contain a split reference. It is fast, because
// most do not.
func hasParts(n *manifests.Node, s scope) bool {
	if slices.ContainsFunc(s.places, func(p place) bool { return p.reached() && p.Parts != nil }) {
		return true
	}
	if s.builtin && !s.pairs || s.role.whole(n) {
		return false
	}
	return slices.ContainsFunc(n.Fields, func(f manifests.Field) bool {
		return isPart(f.Key)
	}) || slices.ContainsFunc(n.Items, func(item manifests.Node) bool {
		return item.Kind == manifests.Map && isPart(item.Get("name").Text())
	})
}

// isPart reports whether name can be the name of a part of a reference.
func isPart(name string) bool {
	return containsImage(name) || contains(name, "tag") || contains(name, "repo") || name == "digest" || strings.EqualFold(name, "version")
}

// isNull reports whether one of the keys of a part exists without a value.
func (w *walker) isNull(n *manifests.Node, keys string) bool {
	return keys != "" && slices.ContainsFunc(strings.Split(keys, "|"), func(key string) bool {
		part := w.at(n, key)
		return part != nil && isOpen(part)
	})
}

// unknown records the name of an image as a placeholder if a part, such as a null tag, is filled
// in later.
func (w *walker) unknown(pieces []piece, promise label, used map[*manifests.Node]bool, null bool) {
	for _, p := range pieces {
		value := p.value()
		reason := filledIn
		if len(pieces) < 2 && !null {
			if key := path.Base(p.key); key != "repository" && key != "repo" {
				continue // a whole reference
			}
			reason = openTag
		}
		if p.role != "repository" || value == "" || isPlaceholder(value) || promise < namesOne || !w.catalogue.plausible(value, namesOne) {
			continue
		}
		used[p.node] = true
		w.inAll(p.key, func() { w.placeholder(p.node, value, images.Indirect, reason) })
	}
}

// incomplete records a last path element as a placeholder if the reader of the object adds the
// rest.
func (w *walker) incomplete(pieces []piece, used map[*manifests.Node]bool) {
	for _, p := range pieces {
		if p.role == "image" && p.node.Value != "" && !strings.Contains(p.node.Value, "/") {
			used[p.node] = true
			w.in(p.key, func() { w.placeholder(p.node, p.node.Value, images.CRD, "") })
		}
	}
}

// Ways to split references that are recognised without an entry in the catalogue, the most
// complete first. guessesInImage are only used below a key that names an image.
var (
	guesses = []Parts{
		{Registry: "registry|host", Repository: "repository|repo", Tag: "tag", Digest: "digest|sha256|sha"},
		{Repository: "repository", Image: "image", Version: "version"},
	}
	guessesInImage = []Parts{
		{Registry: "registry|host", Repository: "repository|repo", Image: "name", Tag: "tag", Digest: "digest|sha256|sha", Version: "version"},
		{Registry: "registry|host", Repository: "name|path|url|uri|ref|reference", Tag: "tag", Digest: "digest|sha256|sha", Version: "version"},
	}
)

func hasAny(n *manifests.Node, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return n.Get(key) != nil })
}

// piece is a part of a split reference.
type piece struct {
	role string
	key  string // pointer relative to the map
	node *manifests.Node
}

// value returns the value of the part, or "" if it is null.
func (p piece) value() string {
	if p.node.Type == manifests.Null {
		return ""
	}
	return strings.TrimSpace(p.node.Value)
}

// separated reports whether the value of a tag includes the separator between name and tag.
func (p piece) separated() bool {
	return p.role == "tag" && strings.IndexAny(p.value(), ":@") == 0
}

// collect returns the existing parts in a fixed order. See [Parts] for the form of keys.
func (w *walker) collect(n *manifests.Node, parts Parts) []piece {
	var out []piece
	for _, p := range []piece{
		{role: "registry", key: parts.Registry}, {role: "repository", key: parts.Repository}, {role: "image", key: parts.Image},
		{role: "tag", key: parts.Tag}, {role: "digest", key: parts.Digest}, {role: "version", key: parts.Version}, {role: "algorithm", key: parts.Algorithm},
	} {
		if p.key == "" {
			continue
		}
		for _, p.key = range strings.Split(p.key, "|") {
			if rest, fromTop := strings.CutPrefix(p.key, "//"); fromTop {
				p.node = w.at(w.root, rest)
			} else {
				p.node = w.at(n, p.key)
			}
			if p.node == nil || p.node.Kind != manifests.Scalar || len(p.node.Value) > maxPart {
				continue
			}
			// A null digest can be replaced if the null is written out.
			if p.node.Type == manifests.Null && (p.role != "digest" && p.role != "algorithm" || p.node.Value == "") {
				continue
			}
			if p.role == "digest" && !isDigest(p.value()) {
				continue
			}
			if p.role == "digest" && (strings.HasSuffix(flat(p.key), "sha") || strings.HasSuffix(flat(p.key), "sha256")) && !strings.Contains(p.value(), ":") {
				p.role = "sha"
			}
			out = append(out, p)
			break
		}
	}
	return out
}

// maxPart is a length that no part of a reference exceeds, in bytes.
const maxPart = 4096

// at returns the node at a pointer relative to a map or list, or nil if there is none.
func (w *walker) at(n *manifests.Node, pointer string) *manifests.Node {
	for _, key := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		if n != nil && n.Kind == manifests.List {
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(n.Items) {
				return nil
			}
			n = &n.Items[i]
			continue
		}
		n = w.get(n, manifests.UnescapePointer(key))
	}
	return n
}

// manyFields is the number of fields from which a map is indexed, because comparing each field
// with all others would take too long.
const manyFields = 64

// get is like [manifests.Node.Get], but fast if the same map is read many times.
func (w *walker) get(n *manifests.Node, key string) *manifests.Node {
	if n == nil || len(n.Fields) < manyFields {
		return n.Get(key)
	}
	index := w.indexes[n]
	if index == nil {
		index = make(map[string]*manifests.Node, len(n.Fields))
		for i := range n.Fields {
			index[n.Fields[i].Key] = &n.Fields[i].Value
		}
		w.indexes[n] = index
	}
	return index[key]
}

// compose joins the parts of a reference. It returns "" if required parts are missing.
func compose(pieces []piece, parts Parts) string {
	part := map[string]string{}
	if parts.Literal != "" {
		part["literal"] = parts.Literal
	}
	for _, p := range pieces {
		part[p.role] = p.value()
	}
	return composed(part)
}

// repeatsLast reports whether a name repeats the last element of the repository:
// {repository: ghcr.io/x/y, name: y}, but not {repository: ghcr.io/x, name: x}.
func repeatsLast(repository, name string) bool {
	if host, path, ok := strings.Cut(repository, "/"); ok && strings.ContainsAny(host, ".:") {
		repository = path
	}
	return name != "" && strings.HasSuffix(repository, "/"+name)
}

// likely reports whether the joined parts are probably a reference. If they are a guess, or if
// the entry matches any map, the name of the map or of a neighbouring key must indicate an image.
func (w *walker) likely(n *manifests.Node, promise label, value string, f *field) bool {
	if isPlaceholder(value) {
		return false
	}
	if f.exact() {
		return true
	}
	host, _, _ := strings.Cut(value, "/")
	switch {
	case !w.catalogue.plausible(value, namesOne):
		return false
	case promise >= namesOne, w.catalogue.Registries.match(host):
		return true
	}
	return hasAny(n, "pullPolicy", "imagePullPolicy", "image", "pullSecrets")
}

// exact reports whether an entry of the catalogue names the maps that contain the parts, and not
// only what is above them.
func (f *field) exact() bool {
	return f != nil && (len(f.path) == 0 || f.path[len(f.path)-1] != "**")
}

// part adds a part to a reference. The position of the reference is that of its first part.
func (w *walker) part(f *found, p piece) {
	text := w.doc.Scalar(p.node)
	written := strings.TrimSpace(text.String)
	from := strings.Index(text.String, written)
	span := text.Span(from, from+len(written))
	value := p.value()
	if !span.Exact {
		f.Never = encoded
	}
	pointer := w.pointer()
	if w.embedded == 0 && w.budget.places.take(w.file.Name, len(p.key)) {
		pointer += "/" + strings.TrimPrefix(p.key, "/")
	}
	if len(f.Parts) == 0 || span.Offset < f.Offset {
		f.Offset = span.Offset
	}
	part := images.Part{Pointer: pointer, Value: value, Offset: span.Offset, Length: span.Length, Role: p.role}
	if len(written) == len(text.String) {
		part.Alias = w.alias(p.node)
	}
	f.Parts = append(f.Parts, part)
	f.partUses = append(f.partUses, w.usesOf(p.node))
}
