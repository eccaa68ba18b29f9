// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"regexp"
	"strings"
)

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
