// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// text looks for references in a string, which may be one, or a list of them, or
// a document, a script or a template that holds some. promise is what the name
// of the string says of it, places what the catalogue says, n the node that holds
// it; origin gives the string as a Text, where it is needed.
func (w *walker) text(s string, promise label, places []place, n *manifests.Node, origin func() *manifests.Text) {
	places = enter(places, embeddedMark)
	if promise < mentions && len(places) == 0 && !mayHold(s) || strings.HasPrefix(s, "data:") { // a picture
		return
	}
	hits := w.catalogue.references(s, promise)
	structured := w.embedded < maxEmbedding && (len(hits) > 0 || len(places) > 0 || containsImage(s)) && looksStructured(s)
	if len(hits) == 0 && !structured {
		return
	}
	text := origin()
	if structured && w.embed(n, text, places) {
		return
	}
	beside := assigned(s)
	if w.given != nil {
		beside = either(w.given, beside)
	}
	for _, h := range hits {
		if h.spoken != "" {
			w.mentionAt(n, h, h.spoken)
			continue
		}
		value, never := s[h.from:h.to], ""
		if whole, ok := w.catalogue.half(value, cmp.Or(h.key, w.flag), beside); ok {
			if whole == "" {
				w.placeholder(n, value, images.Indirect, filledIn)
				continue
			}
			value, never = whole, besideIt
		}
		if name, ok := normalise(value); ok {
			w.add(found{name: name, Location: images.Location{Class: images.Indirect, Value: value, Never: never}}, n, text, h.from, h.to, nil)
		}
	}
}

// mayHold is a quick look at whether a string without a promise can hold a
// reference: a path and a tag or digest, or the word.
func mayHold(s string) bool {
	slash := strings.IndexByte(s, '/')
	return slash >= 0 && strings.IndexByte(s[slash:], ':') >= 0 || containsImage(s)
}

// looksStructured says that a string may be a YAML or JSON document.
func looksStructured(s string) bool {
	s = strings.TrimSpace(s)
	if s == "" || s[0] == '{' || s[0] == '[' {
		return s != ""
	}
	for line := range strings.SplitSeq(s, "\n") {
		if startsWithKey(line) {
			return true
		}
	}
	return false
}

// startsWithKey says that a line may begin a YAML mapping, perhaps one in a list.
func startsWithKey(line string) bool {
	const space, quotes = " \t\f\r", `"'`
	unquoted := func(s string) string {
		if s != "" && strings.IndexByte(quotes, s[0]) >= 0 {
			return s[1:]
		}
		return s
	}
	key := unquoted(strings.TrimPrefix(strings.TrimLeft(line, space), "- "))
	end := 0
	for end < len(key) && (isAlnum(key[end]) || strings.IndexByte("_./-", key[end]) >= 0) {
		end++
	}
	rest := unquoted(key[end:])
	return end > 0 && rest != "" && rest[0] == ':' && (len(rest) == 1 || strings.IndexByte(space, rest[1]) >= 0)
}

// embeddedTooMuch is why documents in strings are not read any more.
var embeddedTooMuch = fmt.Sprintf("documents in strings make more than %d times what is written", manifests.MaxGrowth)

// embed walks a string, of n, that is a document itself. It is false where it is
// not one.
func (w *walker) embed(n *manifests.Node, text *manifests.Text, places []place) bool {
	if *w.room -= len(text.String); *w.room < 0 {
		if w.out.problem == nil {
			w.out.problem = &problem{text.Span(0, 0).Offset, embeddedTooMuch}
		}
		return false
	}
	var docs []manifests.Document
	for _, piece := range text.Split() {
		parsed, err := manifests.Parse(piece)
		if err != nil {
			return false
		}
		docs = append(docs, parsed...)
	}
	structured := false
	for i := range docs {
		if docs[i].Disputed() {
			return false // as text all of it is looked at, whichever its reader takes
		}
		*w.room -= docs[i].Grown()
	}
	for i := range docs {
		structured = structured || docs[i].Root.Kind != manifests.Scalar
	}
	if !structured {
		return false
	}
	inner := *w
	inner.repeated, inner.given, inner.flag, inner.pods = w.uses(n), nil, "", false
	if inner.embedded++; inner.embedded == 1 {
		inner.outer = len(w.path)
	}
	for i := range docs {
		inner.doc, inner.loose = &docs[i], false
		if objects, _ := docs[i].Objects(); len(objects) > 0 {
			for _, o := range objects {
				inner.resource(o, places...)
			}
			continue
		}
		inner.loose, inner.root = true, &docs[i].Root
		inner.node(&docs[i].Root, nil, "", scope{places: places, ignored: nothingIgnored}.settled())
	}
	return true
}

// hit is a reference in a string: s[from:to].
type hit struct {
	from, to int
	key      string // that it is given to; "" is none
	spoken   string // why it is not an image to run
}

// references finds references in running text: the words that are ones by
// themselves, and those that the word before (image:, IMAGE=, --image) says are.
// Lines that are comments are passed over.
func (c *catalogue) references(s string, promise label) []hit {
	p := prose{
		catalogue: c, text: s, promise: promise,
		mentioned: containsImage(s), oneWord: !strings.ContainsAny(strings.TrimSpace(s), " \t\r\n"),
	}
	for from := 0; from < len(s); {
		to := len(s)
		if n := strings.IndexByte(s[from:], '\n'); n >= 0 {
			to = from + n
		}
		if !strings.HasPrefix(strings.TrimLeft(s[from:to], " \t"), "#") {
			p.line(from, to)
		}
		from = to + 1
	}
	return p.hits
}

// prose is a string that is read word by word.
type prose struct {
	*catalogue
	text      string
	promise   label
	mentioned bool // the word image is in it
	oneWord   bool // it is a single word
	hits      []hit
}

// line reads text[start:end].
func (p *prose) line(start, end int) {
	runs := false // behind docker run: its first image is to come
	spoken := ""  // behind docker push: why no image is run
	for i := start; i < end; {
		if !isReferenceByte(p.text[i]) {
			if strings.IndexByte(";&|", p.text[i]) >= 0 {
				spoken = "" // another command
			}
			i++
			continue
		}
		from := i
		for i < end && isReferenceByte(p.text[i]) {
			i++
		}
		word, from, to := p.word(from, i)
		switch {
		case p.startsContainer(word, from):
			runs, spoken = true, ""
		case p.speaksOf(word, from):
			spoken = pushed
		case len(word) < 3 || !p.bounded(from, to, i):
		case p.isReference(word, start, from) || runs && p.isArgument(word):
			key := p.keyBefore(start, from)
			h := hit{from: from, to: to, key: key, spoken: spoken}
			if strings.HasPrefix(key, "-") {
				h.spoken = cmp.Or(h.spoken, spokenFlag(key))
			} else {
				h.spoken = cmp.Or(h.spoken, spokenName(key))
			}
			p.hits = append(p.hits, h)
			runs = false
		}
	}
}

// isReferenceByte says which bytes references are made of.
func isReferenceByte(b byte) bool {
	switch b {
	case '.', '_', '/', ':', '@', '-':
		return true
	}
	return isAlnum(b)
}

// word takes what does not belong to a reference off text[from:to]: a scheme
// that one is given with, the letter of an escape (\n), and punctuation.
func (p *prose) word(from, to int) (string, int, int) {
	for _, scheme := range []string{"docker://", "docker-image://"} {
		if strings.HasPrefix(p.text[from:to], scheme) {
			from += len(scheme)
		}
	}
	if from > 0 && p.text[from-1] == '\\' && isAlnum(p.text[from]) {
		from++
	}
	word := strings.TrimRight(p.text[from:to], ".:/@-")
	to = from + len(word)
	word = strings.TrimLeft(word, ".:-")
	return word, to - len(word), to
}

// bounded says that nothing that belongs to the word stands around it: a part
// that a template or a shell fills in, or the rest of a key. end is where the
// word ended before punctuation was taken off.
func (p *prose) bounded(from, to, end int) bool {
	if from > 0 && strings.IndexByte("$%}~?+)*", p.text[from-1]) >= 0 {
		return false
	}
	if end == len(p.text) {
		return true
	}
	if strings.IndexByte("${%*+?<~", p.text[end]) >= 0 {
		return false
	}
	return p.text[end] != '=' || end != to
}

// isReference says whether a word at from, in the line that begins at start, is
// one.
func (p *prose) isReference(word string, start, from int) bool {
	text := strings.TrimSpace(p.text)
	whole := p.oneWord && word == text
	given := p.oneWord && strings.HasPrefix(text, "-") && strings.HasSuffix(text, "="+word) // --flag=word
	if (whole || given) && hubVersion(word) && p.plausible(word, namesOne) {
		return true
	}
	promise := p.promise
	if promise >= namesOne && !whole && isBare(word) {
		promise = mentions // one bare word of several is not what was promised
	}
	if p.mentioned {
		promise = max(promise, p.before(start, from, word))
	}
	return p.plausible(word, promise)
}

// isBare says that a word has neither registry, path, tag nor digest.
func isBare(word string) bool { return !strings.ContainsAny(word, "/:@") }

// isArgument says whether a word can be the image that docker run is given.
func (p *prose) isArgument(word string) bool {
	if isBare(word) {
		return p.official[word]
	}
	return strings.ContainsAny(word, ":@") && p.plausible(word, namesOne)
}

// before is what the name in front of a word promises: image: x, "image":"x",
// IMAGE=x, --image x. A bare word that is given to a variable is not taken.
func (p *prose) before(start, from int, word string) label {
	name, between := p.keyOf(start, from)
	switch {
	case strings.HasPrefix(name, "-"):
	case !strings.ContainsAny(between, ":="):
		return noLabel // two words
	case strings.Contains(between, "=") && isBare(word):
		return noLabel
	}
	return labelOf(name)
}

// keyBefore is the name that a word is given to; "" where it is given to none.
func (p *prose) keyBefore(start, from int) string {
	name, between := p.keyOf(start, from)
	if strings.HasPrefix(name, "-") || strings.ContainsAny(between, ":=") {
		return name
	}
	return ""
}

// keyOf is the name in front of a word, and what stands between the two.
func (p *prose) keyOf(start, from int) (name, between string) {
	i := from
	back := func(set string) {
		for i > start && strings.IndexByte(set, p.text[i-1]) >= 0 {
			i--
		}
	}
	back(`"'\`)
	back(" \t")
	if i > start && (p.text[i-1] == ':' || p.text[i-1] == '=') {
		i--
		back(" \t")
		back(`"'\`)
	}
	end := i
	for i > start && (isAlnum(p.text[i-1]) || strings.IndexByte("_.-/", p.text[i-1]) >= 0) {
		i--
	}
	return p.text[i:end], p.text[end:from]
}

var runner = regexp.MustCompile(`(?:docker|podman|nerdctl|crictl|buildah|ctr|minikube|kind)(?:\s+(?:image|images|container))?\s+$`)

// startsContainer says that the word is the verb of docker run, docker pull, ….
func (p *prose) startsContainer(word string, from int) bool {
	switch word {
	case "run", "pull", "create", "from", "load":
		return runner.MatchString(p.text[max(0, from-40):from])
	}
	return false
}

// speaksOf reports whether the word is the verb of docker push, docker build,
// docker rmi, …: what it names is made, moved or removed, not run.
func (p *prose) speaksOf(word string, from int) bool {
	switch word {
	case "push", "rmi", "rm", "tag", "build":
		return runner.MatchString(p.text[max(0, from-40):from])
	}
	return false
}
