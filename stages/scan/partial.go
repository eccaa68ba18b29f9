// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// A name whose tag, digest or registry is in another field is a partial reference. Taken alone,
// it would mean :latest, which is not what runs.

const (
	// besideIt is the reason why a partial reference in text or arguments is not pinned.
	besideIt = "the rest of the reference stands beside it, and not in it"
	// filledIn is the reason why the meaning of a partial reference is unknown.
	filledIn = "its tag stands beside it, and is filled in later"
	// openTag is the reason why a name without a tag does not mean :latest.
	openTag = "its tag may stand elsewhere, or be added by what reads it"
)

// complements are the keys of the values that complete the name of an image.
type complements struct{ registry, tag, digest string }

// stem returns the part of a key that the keys of tag, digest and registry have in common, in
// lower case and without separators: proxyimage for proxy-image, proxyImageName and
// PROXY_IMAGE_REPOSITORY, worker for WORKER_REPO. The label is noLabel for a key that names an
// image only together with a tag, and notImage for a key that does not name an image.
func stem(key string) (string, label) {
	words := splitWords(key)
	for len(words) > 1 && nameWords[words[len(words)-1]] {
		words = words[:len(words)-1]
	}
	joined := strings.Join(words, "")
	switch {
	case containsImage(joined):
		if l := labelOf(strings.Join(words, "-")); l == mentions || l == namesOne {
			return joined, l
		}
	case len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return otherThings[w] }):
		return joined, noLabel
	}
	return "", notImage
}

// otherThings are words of keys whose repositories and tags do not belong to images.
var otherThings = set("chart charts helm git source module modules")

// theOnly are the words before "image" that name the only image of a map, rather than one of
// several.
var theOnly = set("base default container docker main")

var nameWords = set("name repository repo url uri ref reference base")

// flat returns a key in lower case without separators.
func flat(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		}
		return -1
	}, key)
}

// complete finds the keys that complete the image of a stem with label l. value is the name of
// the image; parts that it already has are not looked up. find looks up a key in flat form.
func (c *catalogue) complete(stem string, l label, value string, find func(flat string) (value string, ok bool)) (keys complements, ok bool) {
	named := imageref.Split(value)
	host, _, hosted := strings.Cut(named.Name, "/")
	hosted = hosted && strings.ContainsAny(host, ".:")
	if l == notImage || l == noLabel && (named.Version() != "" || !hosted || !c.Registries.match(host) || !c.plausible(value, namesOne)) {
		return keys, false
	}
	at := max(strings.LastIndex(stem, "image"), 0)
	base := strings.TrimSuffix(stem, "image")
	first := func(good func(string) bool, keys ...string) string {
		for _, key := range keys {
			if value, ok := find(key); ok && good(value) {
				return key
			}
		}
		return ""
	}
	// with returns the possible keys of a part: proxyimagetag and proxytag, or tagproxy.
	with := func(parts ...string) (names []string) {
		for _, part := range parts {
			names = append(names, stem+part)
		}
		for _, part := range parts {
			if rest, ok := strings.CutPrefix(stem[at:], "image"); ok {
				names = append(names, stem[:at]+part+rest)
			} else if nameWords[stem] {
				names = append(names, "image"+part)
			}
		}
		return names
	}
	any := func(string) bool { return true }
	if named.Version() == "" {
		keys.tag = first(any, append(with("tag", "version", "ver"), "default"+stem+"version", "default"+stem+"tag", stem+"defaultversion")...)
		if _, another := find("image"); keys.tag == "" && theOnly[base] && !another {
			keys.tag = first(any, "tag", "version")
		}
	}
	if named.Digest == "" {
		keys.digest = first(isDigest, with("digest", "sha256", "sha", "hash", "checksum")...)
	}
	if l == namesOne && !hosted {
		keys.registry = first(isRegistry, stem+"registry", base+"registry", "imageregistry", stem+"prefix", "imageprefix", stem+"hub", "registry", "hub")
		if keys.registry == "" {
			keys.registry = first(c.isKnown, stem+"host", "host")
		}
	}
	return keys, keys.tag != "" || keys.digest != "" || keys.registry != ""
}

// isDigest reports whether a text is a digest, its hex, or a placeholder for one.
func isDigest(s string) bool {
	return s == "" || isPlaceholder(s) || hexDigest.MatchString(s)
}

var (
	hexDigest  = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}$|^sha512:[0-9a-f]{128}$`)
	registryOf = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9._/-]+)?$`)
)

func isRegistry(s string) bool { return registryOf.MatchString(s) }

// isKnown reports whether a text is the host of a known registry, with or without a path.
func (c *catalogue) isKnown(s string) bool {
	host, _, _ := strings.Cut(s, "/")
	return isRegistry(s) && c.Registries.match(host)
}

// isOpen reports whether a value is filled in later, because it is null or comes from elsewhere.
func isOpen(n *manifests.Node) bool { return n.Kind != manifests.Scalar || n.Type == manifests.Null }

// mayTag are names, in flat form, of values that may be the tag, or a part of the tag, of the
// images in the same map and below it.
var mayTag = set("tag tags version imagetag imageversion defaulttag defaultimagetag defaultversion appversion newtag tagselection release channel build")

// mayEnd are names of values that may be added to the tag of an image that has one.
var mayEnd = set("tagsuffix imagetagsuffix imagesuffix")

// near is what a map, and the maps above it, imply about the tags of images that have none of
// their own.
type near struct {
	levels int  // number of levels below which something may be their tag
	ends   bool // something may be appended to their tag
}

// levelsBelow is how far below a tag the names of images may be: in the same map, and in what is
// up to two levels below it: {tag: v1, images: {web: {name: x}}}.
const levelsBelow = 3

// of returns what applies to the values of a map, or of a list of names and values. Values that
// are part of a reference complete no other one.
func (b near) of(n *manifests.Node, parts map[*manifests.Node]bool) near {
	b.levels--
	see := func(key string, value *manifests.Node) {
		key = flat(key)
		if mayEnd[key] || mayTag[key] && !parts[value] && (value.Kind == manifests.Scalar || strings.HasPrefix(key, "tag")) {
			b.levels, b.ends = levelsBelow, b.ends || mayEnd[key]
		}
	}
	for i := range n.Fields {
		see(n.Fields[i].Key, &n.Fields[i].Value)
	}
	if n.Kind == manifests.List {
		for _, e := range entries(n) {
			see(e.key, e.value)
		}
	}
	return b
}

// found adds to b what the assignments around a text imply, which find looks up.
func (b near) found(find func(flat string) (string, bool)) near {
	for _, names := range []map[string]bool{mayTag, mayEnd} {
		for name := range names {
			if _, ok := find(name); ok {
				b.levels, b.ends = levelsBelow, b.ends || mayEnd[name]
			}
		}
	}
	return b
}

// open reports whether the tag of a name, which is the value of a key, may be elsewhere.
func (b near) open(key, value string) bool {
	if b.levels > 0 && b.ends {
		return true
	}
	key = flat(key)
	return imageref.Split(value).Version() == "" && (b.levels > 0 || strings.HasSuffix(key, "baseimage") || strings.HasSuffix(key, "imagebase"))
}

// partly is the reason why a reference that contains a variable is not pinned.
const partly = "a part of it is the value of a variable"

// variable matches the use of a variable in the values of variables and in arguments, and the
// escape sequence that prevents it.
var variable = regexp.MustCompile(`\$\$|\$\(([A-Za-z_][\w.-]*)\)`)

const (
	// maxExpanded limits a value with its variables expanded, in bytes: a longer one is a script,
	// not a reference.
	maxExpanded = 4096
	// maxVariables limits the size of all expanded values of a container, in bytes, because
	// nested variables can double the size at each level.
	maxVariables = 64 << 10
)

// variables returns the values in the map of a container (its variables and arguments) with
// variables expanded in the way of Kubernetes: variables with literal values and, in variables,
// only those defined earlier. known are the values of all variables.
func variables(container *manifests.Node) (become map[*manifests.Node]string, known map[string]string) {
	env := container.Get("env")
	if env == nil || env.Kind != manifests.List {
		return nil, nil
	}
	become, known = map[*manifests.Node]string{}, map[string]string{}
	left := maxVariables
	expand := func(n *manifests.Node) (value string, whole bool) {
		text := n.Text()
		if len(text) > maxExpanded {
			return "", false
		}
		whole = true
		value = variable.ReplaceAllStringFunc(text, func(use string) string {
			value, ok := known[strings.Trim(use, "$()")]
			switch {
			case use == "$$":
				return "$"
			case !ok || len(value) > left:
				whole = false
				return use
			}
			left -= len(value)
			return value
		})
		if len(value) > maxExpanded {
			return "", false
		}
		if strings.Contains(text, "$(") {
			become[n] = value
		}
		return value, whole
	}
	for i := range env.Items {
		name, value := env.Items[i].Get("name").Text(), env.Items[i].Get("value")
		delete(known, name)
		if value == nil || value.Kind != manifests.Scalar {
			continue
		}
		if text, whole := expand(value); whole {
			known[name] = text
		}
	}
	for _, key := range []string{"command", "args"} {
		if words := container.Get(key); words != nil && words.Kind == manifests.List {
			for i := range words.Items {
				expand(&words.Items[i])
			}
		}
	}
	return become, known
}

// unfilled matches a reference that contains unknown variables.
var unfilled = regexp.MustCompile(`[\w./:@-]*\$\([A-Za-z_][\w.-]*\)(?:[\w./:@-]|\$\([A-Za-z_][\w.-]*\))*`)

// expanded records the references in a string of a container that contain variables. value is the
// string with the variables expanded. A variable that is a whole reference is found where it is
// defined.
func (w *walker) expanded(n *manifests.Node, value string, promise label) {
	text := w.doc.Scalar(n)
	at := strings.Index(value, "=") + 1 // in --flag=value
	if !strings.HasPrefix(value, "-") {
		at = 0
	}
	for _, h := range w.catalogue.references(value, promise, w.flag, assigned(value)) {
		whole := value[h.from:h.to]
		elsewhere := slices.ContainsFunc(variable.FindAllString(n.Value, -1), func(use string) bool { return strings.Contains(w.known[strings.Trim(use, "$()")], whole) })
		if h.reason != "" || strings.Contains(n.Value, whole) || elsewhere {
			continue
		}
		if name, ok := normalise(whole); ok {
			w.add(found{name: name, Location: images.Location{Class: images.Indirect, Value: whole, Never: partly}}, n, text, 0, len(text.String), nil)
		}
	}
	for _, word := range unfilled.FindAllString(value[at:], -1) {
		host, _, _ := strings.Cut(word, "/")
		if max(promise, labelOf(value[:at])) >= namesOne || w.catalogue.Registries.match(host) {
			w.placeholder(n, word, images.Indirect, "")
		}
	}
}

// entry is a named value of a map, or of a list of names and values.
type entry struct {
	key     string
	pointer string // to the value, relative to the map or list
	value   *manifests.Node
}

// entries returns the entries of a map or list.
func entries(n *manifests.Node) []entry {
	var out []entry
	for i := range n.Fields {
		if f := &n.Fields[i]; f.Value.Kind == manifests.Scalar {
			out = append(out, entry{f.Key, manifests.EscapePointer(f.Key), &f.Value})
		}
	}
	for i := range n.Items {
		item := &n.Items[i]
		for _, key := range []string{"value", "default", "valueFrom"} {
			if v := item.Get(key); v != nil && (v.Kind == manifests.Scalar || key == "valueFrom") && item.Get("name").Text() != "" {
				out = append(out, entry{item.Get("name").Text(), strconv.Itoa(i) + "/" + key, v})
				break
			}
		}
	}
	return out
}

// partialsIn finds references in a map or list whose name is in one value and whose other parts
// are in others.
func (c *catalogue) partialsIn(n *manifests.Node) []Parts {
	all := entries(n)
	if len(all) < 2 {
		return nil
	}
	byName := map[string][]int{} // in flat form
	for i, e := range all {
		name := flat(e.key)
		byName[name] = append(byName[name], i)
	}
	var out []Parts
	for i := range all {
		name, l := stem(all[i].key)
		if l == notImage || !all[i].value.IsString() || all[i].value.Value == "" {
			continue
		}
		at := map[string]string{} // key → pointer
		h, ok := c.complete(name, l, strings.TrimSpace(all[i].value.Value), func(key string) (string, bool) {
			for _, j := range byName[key] {
				if j == i {
					continue
				}
				at[key] = all[j].pointer
				if isOpen(all[j].value) {
					return "", true
				}
				return strings.TrimSpace(all[j].value.Value), true
			}
			return "", false
		})
		if ok {
			out = append(out, Parts{Registry: at[h.registry], Repository: all[i].pointer, Tag: at[h.tag], Digest: at[h.digest]})
		}
	}
	return out
}

// completed completes a word, which is the value of a key in text or arguments, with the values
// of other keys. ok is false if the word is complete. The value is "" if the result is unknown.
func (c *catalogue) completed(word, key string, find func(flat string) (string, bool)) (value string, ok bool) {
	name, l := stem(strings.TrimLeft(key, "-"))
	h, ok := c.complete(name, l, word, find)
	if !ok {
		return "", false
	}
	get := func(key string) string { value, _ := find(key); return value }
	pieces := map[string]string{"repository": word}
	for role, key := range map[string]string{"registry": h.registry, "tag": h.tag, "digest": h.digest} {
		if key != "" {
			pieces[role] = get(key)
		}
	}
	value = composed(pieces)
	if isPlaceholder(value) {
		return "", true
	}
	return value, true
}

// assignment matches a line that assigns a value to a key.
var assignment = regexp.MustCompile(`(?m)^[ \t]*(?:export[ \t]+|-[ \t]+)?["']?([\w./-]+)["']?[ \t]*[:=][ \t]*["']?([^\s"',;]*)`)

// assigned returns a function that looks up keys in the assignments of a text.
func assigned(text string) func(flat string) (string, bool) {
	return lookup(func(values map[string]string) {
		for _, m := range assignment.FindAllStringSubmatch(text, -1) {
			values[flat(m[1])] = m[2]
		}
	})
}

// flags returns a function that looks up flags in a list of arguments.
func flags(n *manifests.Node) func(flat string) (string, bool) {
	return lookup(func(values map[string]string) {
		for i := range n.Items {
			arg := n.Items[i].Text()
			if !strings.HasPrefix(arg, "-") {
				continue
			}
			flag, value, given := strings.Cut(arg, "=")
			if !given && i+1 < len(n.Items) {
				value = n.Items[i+1].Text()
			}
			values[flat(flag)] = value
		}
	})
}

// lookup returns a function that looks up values. It calls read on its first call.
func lookup(read func(values map[string]string)) func(flat string) (string, bool) {
	var values map[string]string
	return func(name string) (string, bool) {
		if values == nil {
			values = map[string]string{}
			read(values)
		}
		value, ok := values[name]
		return value, ok
	}
}

// either returns a function that looks up a key with a, and then with b.
func either(a, b func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if value, ok := a(name); ok {
			return value, true
		}
		return b(name)
	}
}

// composed joins the parts of a reference, by role. It returns "" if required parts are missing.
// A part may be empty.
func composed(part map[string]string) string {
	if repeatsLast(part["repository"], part["image"]) {
		part["image"] = ""
	}
	var names []string
	for _, role := range []string{"registry", "repository", "image", "literal"} {
		if part[role] != "" {
			names = append(names, strings.Trim(part[role], "/"))
		}
	}
	if part["repository"] == "" && part["image"] == "" {
		return ""
	}
	ref := strings.Join(names, "/")
	_, hasTag := images.Image{Name: ref}.Repository()
	tag, digest := strings.TrimPrefix(part["tag"], ":"), cmp.Or(part["digest"], part["sha"])
	if rest, ok := strings.CutPrefix(tag, "@"); ok {
		tag, digest = "", cmp.Or(digest, rest)
	}
	if version := part["version"]; part["algorithm"] != "" && version != "" {
		digest = cmp.Or(digest, part["algorithm"]+":"+version)
	} else if strings.Contains(version, ":") {
		digest = cmp.Or(digest, version)
	} else {
		tag = cmp.Or(tag, version)
	}
	if tag == "" && digest == "" && (hasTag == "" || len(part) == 1) {
		return ""
	}
	if tag != "" {
		// Versions of Kubernetes distributions contain a +, which tags replace by a dash.
		ref += ":" + strings.ReplaceAll(tag, "+", "-")
	}
	if digest != "" {
		if !strings.Contains(digest, ":") {
			digest = "sha256:" + digest
		}
		ref += "@" + digest
	}
	return ref
}
