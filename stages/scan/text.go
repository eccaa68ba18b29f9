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

// text looks for references in a string: it may be one, a list of them, or a document, script or
// template that contains some. promise is the label of its name, places are its places in the
// catalogue, n is its node. origin returns the string as a Text when needed.
func (w *walker) text(s string, promise label, places []place, n *manifests.Node, origin func() *manifests.Text) {
	places = w.step(places, embeddedMark)
	if promise < mentions && len(places) == 0 && !mayHold(s) && !contains(w.flag, "repo") || strings.HasPrefix(s, "data:") { // a picture
		return
	}
	beside := assigned(s)
	if w.given != nil {
		beside = either(w.given, beside)
	}
	hits := w.catalogue.references(s, promise, w.flag, beside)
	structured := w.embedded < maxEmbedding && (len(hits) > 0 || len(places) > 0 || containsImage(s) || hasPair(s)) && looksStructured(s)
	if len(hits) == 0 && !structured {
		return
	}
	defer func(before string) { w.sealed = before }(w.sealed)
	w.sealed = cmp.Or(w.sealed, sealedText(s))
	text := origin()
	if structured && w.embed(n, text, places) {
		return
	}
	for _, h := range hits {
		if h.reason != "" {
			w.mentionAt(text, h, h.reason)
			continue
		}
		value, never := s[h.from:h.to], ""
		key, near := cmp.Or(h.key, w.flag), near{}
		if h.to == len(strings.TrimRight(s, " \n")) && (h.from == 0 || h.key != "") {
			near = w.near // near applies to the whole text
		}
		if key != "" {
			near = near.found(beside)
		}
		if whole, ok := w.catalogue.completed(value, key, beside); ok {
			if whole == "" {
				w.placeholderAt(text, h.from, value, images.Indirect, filledIn)
				continue
			}
			value, never = whole, besideIt
		} else if near.open(cmp.Or(key, w.name), value) {
			w.placeholderAt(text, h.from, value, images.Indirect, openTag)
			continue
		}
		if name, ok := normalise(value); ok {
			w.add(found{name: name, Location: images.Location{Class: images.Indirect, Value: value, Never: never}}, n, text, h.from, h.to, nil)
		}
	}
}

// mayHold reports whether a string without a label may contain a reference: it has a path and a
// tag or digest, or the word image, or it is one of a pair of values. It is fast.
func mayHold(s string) bool {
	slash := strings.IndexByte(s, '/')
	return slash >= 0 && (strings.IndexByte(s[slash:], ':') >= 0 || hasPair(s) || s[0] == '-' && contains(s, "repo")) || containsImage(s)
}

// hasPair reports whether a text may have a repository and a tag in separate values.
func hasPair(s string) bool {
	return contains(s, "tag") && (contains(s, "repo") || contains(s, "container"))
}

// looksStructured reports whether a string may be a YAML or JSON document.
func looksStructured(s string) bool {
	s = strings.TrimSpace(s)
	if s == "" || s[0] == '{' || s[0] == '[' {
		return s != ""
	}
	for line := range strings.SplitSeq(s, "\n") { // faster than one search in the whole string
		if startsWithKey.MatchString(line) {
			return true
		}
	}
	return false
}

// startsWithKey matches a line that may begin a YAML mapping, or one in a list.
var startsWithKey = regexp.MustCompile(`^[ \t\f\r]*(?:- )?["']?[\w./-]+["']?:(?:[ \t\f\r]|$)`)

// embeddedTooMuch is the reason why a file with too large embedded documents cannot be read.
var embeddedTooMuch = fmt.Sprintf("documents in strings make more than %d times what is written", manifests.MaxGrowth)

// embed walks the document in the string of n. It returns false if the string is not a
// document.
func (w *walker) embed(n *manifests.Node, text *manifests.Text, places []place) bool {
	if *w.room -= len(text.String); *w.room < 0 {
		line, _ := w.file.Positions().At(text.Span(0, 0).Offset)
		w.out.fail(&images.Skipped{File: w.file.Name, Line: line, Reason: embeddedTooMuch, Invalid: true})
		return false
	}
	var docs []manifests.Document
	for _, piece := range text.Split() {
		parsed, err := manifests.Try(piece)
		if err != nil {
			return false
		}
		docs = append(docs, parsed...)
	}
	structured := false
	for i := range docs {
		if docs[i].Disputed() {
			return false // as text, all of it is searched, even what its reader does not use
		}
		*w.room -= docs[i].Grown()
		if !w.budget.growth.take(w.file.Name, docs[i].Added()) {
			return false
		}
	}
	for i := range docs {
		structured = structured || docs[i].Root.Kind != manifests.Scalar
	}
	if !structured {
		return false
	}
	inner := *w
	inner.repeated, inner.given, inner.flag, inner.pods, inner.uses = w.usesOf(n), nil, "", false, nil
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
		inner.loose, inner.root, inner.sealed = true, &docs[i].Root, cmp.Or(w.sealed, sealed(&docs[i].Root))
		inner.node(&docs[i].Root, nil, "", inner.settled(scope{places: places, ignored: nothingIgnored}, nil))
	}
	return true
}

// hit is a reference in a string: s[from:to].
type hit struct {
	from, to int
	key      string // the key that it is assigned to, or ""
	reason   string // why it is not an image to run, or ""
}

// references finds references in text: words that have the form of a reference, and words after a
// name that announces one (image:, IMAGE=, --image). It skips lines that are comments. flag is
// the flag whose value s is, and beside looks up adjacent values.
func (c *catalogue) references(s string, promise label, flag string, beside func(flat string) (string, bool)) []hit {
	p := prose{
		catalogue: c, text: s, promise: promise, flag: flag, beside: beside,
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
	if len(p.hits) > 0 {
		p.lists()
	}
	return p.hits
}

// assigns matches a key and the text between it and its value.
var assigns = regexp.MustCompile(`([\w.-]+)[\\"']*[ \t]*[:=][ \t]*\\?`)

// lists marks the references in lists to compare with: allowed_images = ["a/b:1", "c/d:2"].
func (p *prose) lists() {
	hits, line, unclosed := p.hits, -1, false
	for at := 0; ; {
		m := assigns.FindStringSubmatchIndex(p.text[at:])
		if m == nil {
			return
		}
		key, from := p.text[at+m[2]:at+m[3]], at+m[1]
		if at = from; reasonOfName(key) != compared && !isCompareList(key) {
			continue
		}
		if line < from { // do not repeat this for each key of a long line
			line = len(p.text)
			if n := strings.IndexByte(p.text[from:], '\n'); n >= 0 {
				line = from + n
			}
		}
		at, unclosed = held(p.text, from, line, unclosed)
		for ; len(hits) > 0 && hits[0].from < at; hits = hits[1:] {
			if hits[0].from >= from {
				hits[0].reason = cmp.Or(hits[0].reason, compared)
			}
		}
	}
}

// held returns the end of the value at from, in the line that ends at line. The value is what is
// in brackets or quotes, words separated by commas, or the items of a list on the lines below. It
// also reports whether a bracket is not closed, so that the caller stops looking for brackets.
func held(s string, from, line int, unclosed bool) (int, bool) {
	value := s[from:line]
	switch trimmed := strings.Trim(value, " \t\r|>-+"); {
	case trimmed == "":
		for line < len(s) {
			next, _, _ := strings.Cut(s[line+1:], "\n")
			if !strings.HasPrefix(strings.TrimLeft(next, " \t"), "- ") {
				break
			}
			line += 1 + len(next)
		}
		return line, unclosed
	case strings.IndexByte("[{(", value[0]) >= 0 && !unclosed:
		depth := 0
		for i := from; i < len(s); i++ {
			switch s[i] {
			case '[', '{', '(':
				depth++
			case ']', '}', ')':
				if depth--; depth == 0 {
					return i, false
				}
			}
		}
		return from, true
	case strings.IndexByte(`"'`, value[0]) >= 0:
		if n := strings.IndexByte(value[1:], value[0]); n >= 0 {
			return from + 1 + n, unclosed
		}
	}
	for i := range len(value) {
		if strings.IndexByte(" \t\r;", value[i]) >= 0 && i > 0 && value[i-1] != ',' {
			return from + i, unclosed
		}
	}
	return line, unclosed
}

// prose is a text that is searched word by word.
type prose struct {
	*catalogue
	text      string
	promise   label
	flag      string
	beside    func(flat string) (string, bool)
	mentioned bool // it contains the word image
	oneWord   bool // it is a single word
	hits      []hit
}

// line searches text[start:end].
func (p *prose) line(start, end int) {
	runs := false   // after docker run, before its image
	reason := ""    // after docker push: why the image is not run
	copied := false // after skopeo copy, before what it copies
	for i := start; i < end; {
		if !isReferenceByte(p.text[i]) {
			if strings.IndexByte(";&|", p.text[i]) >= 0 {
				reason, copied = "", false // another command begins
			}
			i++
			continue
		}
		if strings.HasPrefix(p.text[i:end], ciphertext) {
			if n := strings.IndexByte(p.text[i:end], ']'); n > 0 {
				i += n
				continue
			}
		}
		from := i
		for i < end && isReferenceByte(p.text[i]) {
			i++
		}
		word, from, to := p.word(from, i)
		switch {
		case p.startsContainer(word, from):
			runs, reason = true, ""
		case p.onlyHandles(word, from):
			reason = cmp.Or(handles[word], pushed)
		case moves[word] && mover.MatchString(p.text[max(0, from-40):from]):
			copied = true
		case len(word) < 3 || !p.bounded(from, to, i):
		case p.isReference(word, start, from) || runs && p.isArgument(word):
			key := p.keyBefore(start, from)
			h := hit{from: from, to: to, key: key, reason: reason}
			if strings.HasPrefix(key, "-") {
				h.reason = cmp.Or(h.reason, reasonOfFlag(key))
			} else {
				h.reason = cmp.Or(h.reason, reasonOfName(key))
			}
			if h.reason == "" && isCompared(p.text, start, from, to, end) {
				h.reason = condition
			}
			p.hits = append(p.hits, h)
			runs = false
			if copied {
				copied, reason = false, pushed // the next reference is the destination
			}
		}
	}
}

// isReferenceByte reports whether b may be part of a reference.
func isReferenceByte(b byte) bool {
	switch b {
	case '.', '_', '/', ':', '@', '-':
		return true
	}
	return isAlnum(b)
}

// word removes from text[from:to] what is not part of a reference: a scheme, the letter of an
// escape (\n), and punctuation. It returns the rest and its range.
func (p *prose) word(from, to int) (string, int, int) {
	for _, scheme := range []string{containersImage, "docker-image://"} {
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

// bounded reports whether the word is complete: it is neither next to a part that a template or
// shell fills in, nor part of a key. end is the end of the word including punctuation.
func (p *prose) bounded(from, to, end int) bool {
	if from > 0 && strings.IndexByte("$%}~?+)]*", p.text[from-1]) >= 0 {
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

// isReference reports whether a word at from, in the line that begins at start, is a
// reference.
func (p *prose) isReference(word string, start, from int) bool {
	text := strings.TrimSpace(p.text)
	whole := p.oneWord && word == text
	given := p.oneWord && strings.HasPrefix(text, "-") && strings.HasSuffix(text, "="+word) // --flag=word
	if (whole || given) && hubVersion(word) && p.plausible(word, namesOne) {
		return true
	}
	promise := p.promise
	if promise >= namesOne && !whole && isBare(word) {
		promise = mentions // the label does not refer to one of several bare words
	}
	if p.mentioned {
		promise = max(promise, p.before(start, from, word))
	}
	return p.plausible(word, promise) || p.isPartial(word, start, from)
}

// isPartial reports whether a word is the name of an image because a tag with a matching name exists.
func (p *prose) isPartial(word string, start, from int) bool {
	if strings.IndexByte(word, '/') < 0 {
		return false
	}
	key := cmp.Or(p.keyBefore(start, from), p.flag)
	name, l := stem(strings.TrimLeft(key, "-"))
	if l == notImage || !p.plausible(word, namesOne) {
		return false
	}
	h, _ := p.complete(name, l, word, p.beside)
	return h.tag != "" || h.digest != ""
}

// isBare reports whether a word has neither registry, path, tag nor digest.
func isBare(word string) bool { return !strings.ContainsAny(word, "/:@") }

// isArgument reports whether a word can be the image argument of docker run.
func (p *prose) isArgument(word string) bool {
	if isBare(word) {
		return p.official[word]
	}
	return strings.ContainsAny(word, ":@") && p.plausible(word, namesOne)
}

// before returns the label of the name before a word: image: x, "image":"x", IMAGE=x,
// --image x. It is noLabel for a bare word that is assigned to a variable.
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

// keyBefore returns the name that a word is assigned to, or "".
func (p *prose) keyBefore(start, from int) string {
	name, between := p.keyOf(start, from)
	if strings.HasPrefix(name, "-") || strings.ContainsAny(between, ":=") {
		return name
	}
	return ""
}

// keyOf returns the name before a word, and the text between them.
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

// mover matches tools that move images without running them.
var mover = regexp.MustCompile(`(?:crane|skopeo|oras|regctl(?:\s+image)?|gcrane|cosign|notation|oc\s+image)\s+(?:-\S+\s+)*$`)

// startsContainer reports whether the word is the verb of docker run, docker pull, ….
func (p *prose) startsContainer(word string, from int) bool {
	switch word {
	case "run", "pull", "create", "from", "load":
		return runner.MatchString(p.text[max(0, from-40):from])
	}
	return false
}

// onlyHandles reports whether the word is the verb of docker push, docker build, docker rmi, …,
// which build, push or remove an image instead of running it.
func (p *prose) onlyHandles(word string, from int) bool {
	switch word {
	case "push", "rmi", "rm", "tag", "build", "bud", "sign", "attest", "attach":
		before := p.text[max(0, from-40):from]
		return runner.MatchString(before) || mover.MatchString(before)
	}
	return false
}
