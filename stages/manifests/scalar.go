// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// style is the way in which a scalar is written.
type style uint8

const (
	plain style = iota
	single
	double // of YAML or JSON
	block  // literal or folded
)

// Scalar returns the value of a scalar as a Text. For a map or list it returns an empty Text
// at the position where that begins.
func (d *Document) Scalar(n *Node) *Text {
	t := &Text{String: n.Value, outer: d.text, base: int(n.at), kind: opaque}
	if n.Kind != Scalar {
		return t
	}
	raw := d.text.String
	start, ok := skipProperties(raw, int(n.at))
	if !ok {
		return t
	}
	switch n.style {
	case single, double:
		start++
	case block:
		line := nextLine(raw[start:])
		start += line
	}
	t.base = start
	if n.Value == "" {
		if n.style == single || n.style == double {
			t.kind = verbatim // the empty text between two quotes
		}
		return t
	}
	t.kind = mapped
	if !t.align(raw, start, n.style) {
		t.kind, t.runs = opaque, nil
	}
	return t
}

// skipProperties skips the anchor and tag before the text of a scalar, with comments and
// white space around them.
func skipProperties(s string, i int) (int, bool) {
	for i < len(s) {
		if w := white(s[i:]); w > 0 {
			i += w
			continue
		}
		switch s[i] {
		case '#':
			i += nextLine(s[i:])
		case '&': // to the parser, any other character ends the name
			for i++; i < len(s) && isName(s[i]); {
				i++
			}
		case '!':
			for i < len(s) && white(s[i:]) == 0 {
				i++
			}
		default:
			return i, true
		}
	}
	return i, false
}

func isName(c byte) bool {
	return c == '-' || c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// nextLine returns the length of the rest of the line including its line break.
func nextLine(s string) int {
	for i := range len(s) {
		if w := lineBreak(s[i:]); w > 0 {
			return i + w
		}
	}
	return len(s)
}

// lineBreak returns the length of the line break at the beginning of s, as defined by YAML
// 1.1: LF, CR LF, CR, NEL, LS and PS.
func lineBreak(s string) int {
	switch {
	case s == "":
	case s[0] == '\n':
		return 1
	case s[0] == '\r':
		if len(s) > 1 && s[1] == '\n' {
			return 2
		}
		return 1
	case strings.HasPrefix(s, "\u0085"):
		return 2
	case strings.HasPrefix(s, "\u2028"), strings.HasPrefix(s, "\u2029"):
		return 3
	}
	return 0
}

// white returns the length of the blank or line break at the beginning of s.
func white(s string) int {
	if s != "" && (s[0] == ' ' || s[0] == '\t') {
		return 1
	}
	return lineBreak(s)
}

// align finds the runs of a value whose text begins at p in raw. Quoting, folding and
// indentation only change white space and escapes: everything else is in the raw text
// unchanged and in the same order. So white space is skipped on both sides, unless it is
// equal, and has no run; callers never request a range that begins or ends with it.
//
// It returns false if the two do not match, which would be a bug.
func (t *Text) align(raw string, p int, s style) bool {
	value := t.String
	for i := 0; i < len(value); {
		if w := white(value[i:]); w > 0 {
			if strings.HasPrefix(raw[p:], value[i:i+w]) {
				for k := range w {
					t.add(i+k, p+k, 1, 1)
				}
				p += w
			}
			i += w
			continue
		}
		from, to, skip := 0, 0, 0
		for {
			var rest = raw[p:]
			if skip = white(rest); skip == 0 {
				from, to = unit(value[i:], rest, s)
				if from > 0 || to == 0 {
					break
				}
				skip = to // an escape for white space or for nothing
			}
			p += skip
		}
		if from == 0 {
			return false
		}
		t.add(i, p, from, to)
		i, p = i+from, p+to
	}
	return true
}

// unit compares the next character of a value with the raw text and returns its length in
// both. From is 0 if the raw text is an escape for white space or nothing. Both are 0 if the
// two differ or the raw text ends.
func unit(value, raw string, s style) (from, to int) {
	switch {
	case raw == "":
		return 0, 0
	case s == single && value[0] == '\'' && strings.HasPrefix(raw, "''"):
		return 1, 2
	case s == double && raw[0] == '\\':
		text, n := unescape(raw)
		switch {
		case n == 0:
			return 0, 0
		case white(text) > 0 || text == "":
			return 0, n
		case strings.HasPrefix(value, text):
			return len(text), n
		}
		return 0, 0
	case value[0] == raw[0]:
		return 1, 1
	case s == double && strings.HasPrefix(value, "\ufffd"):
		// encoding/json replaces each byte that is not UTF-8 by this character.
		if r, n := utf8.DecodeRuneInString(raw); r == utf8.RuneError && n == 1 {
			return len("\ufffd"), 1
		}
	}
	return 0, 0
}

// escapes maps the characters of escapes to their texts.
var escapes = map[byte]string{
	'0': "\x00", 'a': "\a", 'b': "\b", 't': "\t", '\t': "\t", 'n': "\n", 'v': "\v", 'f': "\f", 'r': "\r", 'e': "\x1b",
	' ': " ", '"': `"`, '\'': "'", '/': "/", '\\': `\`, 'N': "\u0085", '_': "\u00a0", 'L': "\u2028", 'P': "\u2029",
}

// hexDigits is the number of hexadecimal digits that follow the character of an escape.
var hexDigits = map[byte]int{'x': 2, 'u': 4, 'U': 8}

// unescape returns the text of an escape in YAML or JSON, and the length of the escape.
func unescape(raw string) (string, int) {
	if len(raw) < 2 {
		return "", 0
	}
	if text, ok := escapes[raw[1]]; ok {
		return text, 2
	}
	digits, ok := hexDigits[raw[1]]
	if !ok {
		if w := lineBreak(raw[1:]); w > 0 {
			return "", 1 + w // the line continues
		}
		return "", 0
	}
	r, ok := hex(raw, 2, digits)
	if !ok {
		return "", 0
	}
	n := 2 + digits
	if utf16.IsSurrogate(r) && strings.HasPrefix(raw[n:], `\u`) {
		if low, ok := hex(raw, n+2, 4); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return string(pair), n + 6
			}
		}
	}
	return string(r), n
}

// hex parses n hexadecimal digits at i.
func hex(s string, i, n int) (rune, bool) {
	if len(s) < i+n {
		return 0, false
	}
	v, err := strconv.ParseUint(s[i:i+n], 16, 32)
	return rune(v), err == nil
}
