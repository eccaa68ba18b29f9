// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"regexp"
	"strings"

	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/manifests"
)

// text looks for references in a string, which may be one, or a list of them, or
// a document, a script or a template that holds some. promise is what the name
// of the string says of it; origin gives the string as a Text, where it is needed.
func (w *walker) text(s string, promise label, origin func() *manifests.Text) {
	if promise < mentions && !mayHold(s) {
		return
	}
	hits := w.catalogue.references(s, promise)
	structured := w.embedded < maxEmbedding && looksStructured(s) && (len(hits) > 0 || containsImage(s))
	if len(hits) == 0 && !structured {
		return
	}
	text := origin()
	if structured && w.embed(text) {
		return
	}
	for _, h := range hits {
		value := s[h.from:h.to]
		if name, ok := normalise(value); ok {
			w.add(found{name: name, Location: images.Location{Class: images.Indirect, Value: value}}, text, h.from, h.to, nil)
		}
	}
}

// mayHold is a quick look at whether a string without a promise can hold a
// reference: a path and a tag or digest, or the word.
func mayHold(s string) bool {
	slash := strings.IndexByte(s, '/')
	return slash >= 0 && strings.IndexByte(s[slash:], ':') >= 0 || containsImage(s)
}

var yamlKey = regexp.MustCompile(`(?m)^\s*(- )?["']?[\w./-]+["']?:(\s|$)`)

// looksStructured says that a string may be a YAML or JSON document.
func looksStructured(s string) bool {
	s = strings.TrimSpace(s)
	return s != "" && (s[0] == '{' || s[0] == '[' || yamlKey.MatchString(s))
}

// embed walks a string that is a document itself. It is false where it is none.
func (w *walker) embed(text *manifests.Text) bool {
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
		structured = structured || docs[i].Root.Kind != manifests.Scalar
	}
	if !structured {
		return false
	}
	inner := *w
	if inner.embedded++; inner.embedded == 1 {
		inner.outer = len(w.path)
	}
	for i := range docs {
		inner.doc, inner.loose = &docs[i], false
		if objects, _ := docs[i].Objects(); len(objects) > 0 {
			for _, o := range objects {
				inner.objectNode(o)
			}
			continue
		}
		inner.loose = true
		inner.node(&docs[i].Root, nil, "", scope{ignored: nothingIgnored})
	}
	return true
}

// hit is a reference in a string: s[from:to].
type hit struct{ from, to int }

// references finds references in running text: the words that are ones by
// themselves, and those that the word before (image:, IMAGE=, --image) says are.
// Lines that are comments are passed over.
func (c *catalogue) references(s string, promise label) []hit {
	var hits []hit
	mentioned := containsImage(s)
	alone := isOneWord(s)
	for line := 0; line < len(s); {
		end := len(s)
		if n := strings.IndexByte(s[line:], '\n'); n >= 0 {
			end = line + n
		}
		if !strings.HasPrefix(strings.TrimLeft(s[line:end], " \t"), "#") {
			hits = c.inLine(hits, s, line, end, promise, mentioned, alone)
		}
		line = end + 1
	}
	return hits
}

func isOneWord(s string) bool { return !strings.ContainsAny(strings.TrimSpace(s), " \t\r\n") }

func (c *catalogue) inLine(hits []hit, s string, line, end int, promise label, mentioned, alone bool) []hit {
	started := false // docker run, whose first image is to come
	for i := line; i < end; {
		if !isReferenceByte(s[i]) {
			i++
			continue
		}
		from := i
		for i < end && isReferenceByte(s[i]) {
			i++
		}
		from, to := c.trim(s, from, i)
		word := s[from:to]
		if starts := startsContainer(s, from, to); starts {
			started = true
			continue
		}
		if len(word) < 3 || !bounded(s, from, to, i) {
			continue
		}
		whole := alone && word == strings.TrimSpace(s)
		l := promise
		if l >= namesOne && !whole && !strings.ContainsAny(word, "/:@") {
			l = mentions // one bare word of several is not what was promised
		}
		if mentioned {
			l = max(l, before(s, line, from, word))
		}
		switch {
		case c.plausible(word, l), whole && hubVersion(word) && c.plausible(word, namesOne):
		case started && strings.ContainsAny(word, ":@") && c.plausible(word, namesOne), started && c.official[word]:
		default:
			continue
		}
		started = false
		hits = append(hits, hit{from, to})
	}
	return hits
}

// isReferenceByte says which bytes references are made of.
func isReferenceByte(b byte) bool {
	switch b {
	case '.', '_', '/', ':', '@', '-':
		return true
	}
	return isAlnum(b)
}

// trim takes a scheme that registries are given with, and punctuation, off a word.
func (c *catalogue) trim(s string, from, to int) (int, int) {
	for _, scheme := range []string{"docker://", "docker-image://"} {
		if strings.HasPrefix(s[from:to], scheme) {
			from += len(scheme)
		}
	}
	for to > from && !isAlnum(s[to-1]) && s[to-1] != '_' {
		to--
	}
	for from < to && (s[from] == ':' || s[from] == '.' || s[from] == '-' && to-from > 1 && s[from+1] == '-') {
		from++
	}
	return from, to
}

// bounded says that nothing that belongs to the word stands around it: a part
// that a template or a shell fills in, or the rest of a key.
func bounded(s string, from, to, end int) bool {
	if from > 0 && strings.IndexByte("$%}~?+\\)*", s[from-1]) >= 0 && !escaped(s, from) {
		return false
	}
	if end < len(s) {
		if strings.IndexByte("${%*+?<~", s[end]) >= 0 {
			return false
		}
		if s[end] == '=' && end == to && !strings.HasPrefix(s[end:], "==") {
			return false // a key
		}
	}
	return true
}

// escaped says that the backslash before is an escape of its own: \" and \n.
func escaped(s string, from int) bool { return s[from-1] == '\\' && from > 1 && s[from-2] == '\\' }

// before is what the name in front of a word promises: image: x, "image":"x",
// IMAGE=x, --image x. A bare word that is given to a variable is not taken.
func before(s string, line, from int, word string) label {
	i := from
	back := func(set string) {
		for i > line && strings.IndexByte(set, s[i-1]) >= 0 {
			i--
		}
	}
	back(`"'\`)
	quoted := i
	back(" \t")
	if i > line && (s[i-1] == ':' || s[i-1] == '=') {
		i--
		back(" \t")
		back(`"'\`)
	} else if i == quoted {
		return noLabel
	}
	end := i
	for i > line && (isAlnum(s[i-1]) || strings.IndexByte("_.-/", s[i-1]) >= 0) {
		i--
	}
	name := s[i:end]
	flag := strings.HasPrefix(name, "-")
	switch between := s[end:from]; {
	case flag:
	case !strings.ContainsAny(between, ":="):
		return noLabel // two words
	case strings.Contains(between, "=") && !strings.ContainsAny(word, "/:@"):
		return noLabel
	}
	return labelOf(name)
}

var runner = regexp.MustCompile(`(?:docker|podman|nerdctl|crictl|buildah|ctr|minikube|kind)(?:\s+(?:image|images|container))?\s+$`)

// startsContainer says that the word is the verb of docker run, docker pull, ….
func startsContainer(s string, from, to int) bool {
	switch s[from:to] {
	case "run", "pull", "create", "from", "load":
		return runner.MatchString(s[max(0, from-40):from])
	}
	return false
}
