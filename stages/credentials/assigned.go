// SPDX-License-Identifier: Apache-2.0

package credentials

import "strings"

// assigned returns the credentials that a text assigns to names: password: x, TOKEN="x",
// "secretKey": "x", --password=x, in any language.
func assigned(text string) []Hit {
	if !strings.ContainsAny(text, ":= \t") {
		return nil
	}
	in := comments{text: text}
	var hits []Hit
	for i := 0; i < len(text); {
		if !nameByte(text[i]) {
			i++
			continue
		}
		from := i
		for i < len(text) && nameByte(text[i]) {
			i++
		}
		class := classOf(text[from:i])
		if class == ordinary {
			continue
		}
		v := assignedValue(text, i)
		name := text[max(from, i-maxShownName):i]
		if v.separator == ' ' && (class != passwordClass || !v.quoted && !isDirective(text, from, name)) {
			continue
		}
		i = max(i, v.to) // so that no value is examined twice
		value := text[v.from:v.to]
		matcher := from > 0 && text[from-1] == '{' && v.separator == '=' // a label of a metric: {name="value"}
		if !v.whole || value == "" || matcher || !class.takes(value) || !v.quoted && isExpression(value) || in.hold(from) {
			continue
		}
		hits = append(hits, Hit{What: class.what(), Name: strings.Trim(name, "-."), From: v.from, To: v.to})
	}
	return hits
}

// maxShownName is the maximum length of a name that is shown, from its end.
const maxShownName = 64

func nameByte(c byte) bool { return alnum(c) || c == '_' || c == '-' || c == '.' }

// assignment is a value that is assigned to a name, at an index of the text.
type assignment struct {
	from, to  int
	whole     bool // the value ends there, so neither prose nor code follows
	quoted    bool
	separator byte // ':' or '='; ' ' if there is only a blank
}

// maxEscapes is the maximum number of backslashes before a quote: "{\"a\": \"{\\\"b\\\": …
const maxEscapes = 4

// assignedValue returns the value that follows a name, if any.
func assignedValue(text string, i int) assignment {
	const blank, quotes = " \t", "\"'`"
	skip := func(of string) {
		for i < len(text) && strings.IndexByte(of, text[i]) >= 0 {
			i++
		}
	}
	var none assignment
	closing := i
	skip(`\"'`) // the end of a name in quotes, which may be escaped
	closed := i > closing
	skip(blank)
	if i >= len(text) {
		return none
	}
	separator := text[i]
	switch {
	case separator == ':' || separator == '=':
		i++
		if i < len(text) && strings.IndexByte("=~>:", text[i]) >= 0 {
			return none // a comparison
		}
	case !closed && i > closing:
		separator = ' '
	default:
		return none
	}
	before := i
	skip(blank)
	if i >= len(text) || separator == ':' && i == before && !closed && strings.IndexByte(quotes, text[i]) < 0 {
		return none // host:port
	}
	slashes := i
	skip(`\`)
	if i < len(text) && strings.IndexByte(quotes, text[i]) >= 0 {
		if i-slashes > maxEscapes {
			return none
		}
		i++
		n := strings.Index(text[i:], text[slashes:i])
		if n < 0 {
			return none
		}
		return assignment{i, i + n, strings.IndexByte(text[i:i+n], '\n') < 0, true, separator}
	}
	end := slashes
	for end < len(text) && text[end] > ' ' && strings.IndexByte(",;&\"'`<>(){}[]|\\", text[end]) < 0 {
		end++
	}
	// The line ends, or the next assignment begins; otherwise it is prose or code.
	rest := text[end:min(len(text), end+16)]
	next := strings.TrimLeft(rest, blank)
	whole := next == "" || strings.IndexByte("\r\n,;&}\"'", next[0]) >= 0 || next[0] == '#' && next != rest
	if separator == '=' && next != rest { // user=x password=x dbname=x
		word := run(next, 0, nameByte)
		whole = whole || 0 < word && word < len(next) && next[word] == '='
	}
	return assignment{slashes, end, whole, false, separator}
}

// isDirective reports whether a name is followed by its value without a separator, as in the
// configuration of Redis or in a .netrc file.
func isDirective(text string, at int, name string) bool {
	line := text[max(0, at-maxPassword):at]
	line = strings.TrimLeft(line[strings.LastIndexByte(line, '\n')+1:], " \t")
	switch name {
	case "requirepass", "masterauth":
		return line == ""
	case "password":
		return strings.HasPrefix(line, "machine ") && strings.Contains(line, " login ")
	}
	return false
}

// isExpression reports whether an unquoted value is code: a call, a field, a variable.
func isExpression(value string) bool {
	word := true
	for i := range len(value) {
		word = word && (alnum(value[i]) || value[i] == '_' || value[i] == '.')
	}
	return word && (strings.Contains(value, ".") && !strings.ContainsAny(value, "0123456789") || classOf(value) != ordinary)
}

// comments finds the comments in a text: whole lines, and from a # at the end of a line.
// Positions must be requested in ascending order.
type comments struct {
	text       string
	next, from int // the end of the current line, and the start of its comment
}

// hold reports whether a position is in a comment.
func (c *comments) hold(at int) bool {
	for at >= c.next && c.next < len(c.text) {
		start := c.next
		line := c.text[start:]
		if n := strings.IndexByte(line, '\n'); n >= 0 {
			line = line[:n+1]
		}
		c.next = start + len(line)
		c.from = c.next
		if isComment(strings.TrimLeft(line, " \t")) {
			c.from = start
			continue
		}
		for _, mark := range []string{" #", "\t#"} {
			if n := strings.Index(line, mark); n >= 0 {
				c.from = min(c.from, start+n)
			}
		}
	}
	return at >= c.from
}

// isComment reports whether a line is a comment in a common language.
func isComment(line string) bool {
	if strings.HasPrefix(line, "--") {
		return len(line) < 3 || !alnum(line[2]) // otherwise it is a flag
	}
	if strings.HasPrefix(line, "//") && strings.Contains(line, "/:_") {
		return false // in an .npmrc: //host/:_authToken=
	}
	return begins(line, "#", "//", ";", "* ", "/*", "%", "<!--")
}
