// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/http"
	"regexp"
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

// challengePart matches the name of a scheme, with the one opaque token that may follow it (RFC
// 9110's token68), or a parameter with its value, which is quoted, with the end missing or not,
// or everything up to a space or comma: some servers do not quote what they should, such as a
// realm that is a URL.
var challengePart = regexp.MustCompile(`(?s)^[ \t,]*([^\x00-\x20\x7f-\x{10FFFF}"(),/:;<=>?@\[\\\]{}]+)` +
	`(?:[ \t]*(=)[ \t]*(?:"((?:[^"\\]|\\.)*)"?|([^", \t][^, \t]*))|[ \t]*[^, \t"=]*=*[ \t]*(?:,|$))?`)

var quotedPair = regexp.MustCompile(`\\(.)`)

func parseChallenges(s string) []challenge {
	var out []challenge
	for m := challengePart.FindStringSubmatch(s); m != nil; m = challengePart.FindStringSubmatch(s) {
		s = s[len(m[0]):]
		name := strings.ToLower(m[1])
		if m[2] == "" || len(out) == 0 {
			out = append(out, challenge{scheme: name, parameters: map[string]string{}})
		} else if last := out[len(out)-1].parameters; last[name] == "" {
			last[name] = quotedPair.ReplaceAllString(m[3], "$1") + m[4]
		}
	}
	return out
}
