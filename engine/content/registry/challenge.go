// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/http"
	"strings"
)

// challenge is one way to authorize that a server offers in WWW-Authenticate (RFC 9110,
// 11.6.1).
type challenge struct {
	scheme     string            // in lower case
	parameters map[string]string // by name in lower case
}

// challenges parses all WWW-Authenticate headers of an answer, in order. A header may list
// several challenges, also of unknown schemes, and values may be quoted with commas in them. A
// malformed part ends its header.
func challenges(header http.Header) []challenge {
	var out []challenge
	for _, value := range header.Values("WWW-Authenticate") {
		out = append(out, parseChallenges(value)...)
	}
	return out
}

func parseChallenges(s string) []challenge {
	var out []challenge
	for {
		s = strings.TrimLeft(s, " \t,")
		name, rest := cutToken(s)
		if name == "" {
			return out
		}
		rest = strings.TrimLeft(rest, " \t")
		if value, after, ok := cutValue(rest); ok && len(out) > 0 {
			last := out[len(out)-1].parameters
			if name = strings.ToLower(name); last[name] == "" {
				last[name] = value
			}
			s = after
			continue
		}
		// A scheme may be followed by parameters or by one opaque token (RFC 9110's token68).
		out = append(out, challenge{scheme: strings.ToLower(name), parameters: map[string]string{}})
		s = rest
		if word, after := cutToken68(rest); word != "" && (after == "" || after[0] == ',') {
			if _, _, isParameter := cutParameter(rest); !isParameter && !startsChallenge(rest) {
				s = after
			}
		}
	}
}

// startsChallenge reports whether s, which follows a scheme and a space, cannot be an opaque
// token of that scheme.
func startsChallenge(s string) bool { return s == "" || s[0] == ',' }

// cutParameter reads name=value.
func cutParameter(s string) (value, rest string, ok bool) {
	name, rest := cutToken(s)
	if name == "" {
		return "", s, false
	}
	return cutValue(strings.TrimLeft(rest, " \t"))
}

// cutValue reads the = and the value of a parameter.
func cutValue(s string) (value, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, "=")
	if !ok {
		return "", s, false
	}
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, `"`) {
		// Some servers do not quote what they should, such as a realm that is a URL.
		end := strings.IndexAny(s, ", \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], s[:end] != "" && s[:end] != "="
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return out.String(), s[i+1:], true
		case '\\':
			if i++; i < len(s) {
				out.WriteByte(s[i])
			}
		default:
			out.WriteByte(s[i])
		}
	}
	return out.String(), "", true // the end is missing
}

func cutToken(s string) (token, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) })
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

func cutToken68(s string) (token, rest string) {
	end := strings.IndexAny(s, ", \t\"")
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}
