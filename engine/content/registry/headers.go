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

// parameter matches a parameter of a link and the separators before it: its name, and its value
// if it is quoted, with the end missing or not, or a token.
const parameter = `[ \t;]*([^=;, \t][^=;,]*)(?:=[ \t]*(?:"((?:[^"\\]|\\.)*)"?|([^;,]*)))?`

var (
	linkParameter = regexp.MustCompile(parameter)
	// link matches the first link in a value: its target, and all its parameters.
	link = regexp.MustCompile(`^[ \t,]*<([^>]*)>((?:` + parameter + `)*)[ \t;]*`)
)

// linksTo returns the targets of the links of a relation in the values of Link headers (RFC
// 8288): each value may have several links, and names and relations may be in any case. A
// malformed part ends its value.
func linksTo(relation string, values []string) []string {
	var targets []string
	for _, value := range values {
		for m := link.FindStringSubmatch(value); m != nil; m = link.FindStringSubmatch(value) {
			value = value[len(m[0]):]
			for _, p := range linkParameter.FindAllStringSubmatch(m[2], -1) {
				if !strings.EqualFold(strings.TrimSpace(p[1]), "rel") {
					continue
				}
				for name := range strings.FieldsSeq(p[2] + p[3]) {
					if strings.EqualFold(name, relation) {
						targets = append(targets, strings.TrimSpace(m[1]))
					}
				}
				break // only the first one counts
			}
		}
	}
	return targets
}
