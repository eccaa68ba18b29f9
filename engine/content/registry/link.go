// SPDX-License-Identifier: Apache-2.0

package registry

import "strings"

// linksTo returns the targets of the links of a relation in the values of Link headers (RFC
// 8288): each value may have several links, and names and relations may be in any case. A
// malformed part ends its value.
func linksTo(relation string, values []string) []string {
	var targets []string
	for _, value := range values {
		for rest := value; ; {
			rest = strings.TrimLeft(rest, " \t,")
			target, ok := strings.CutPrefix(rest, "<")
			if !ok {
				break
			}
			if target, rest, ok = strings.Cut(target, ">"); !ok {
				break
			}
			var relations string
			relations, rest = relationsOf(rest)
			for name := range strings.FieldsSeq(relations) {
				if strings.EqualFold(name, relation) {
					targets = append(targets, strings.TrimSpace(target))
				}
			}
		}
	}
	return targets
}

// relationsOf parses the parameters of a link up to the next link. Only the first rel counts.
func relationsOf(text string) (relations, rest string) {
	found := false
	for {
		text = strings.TrimLeft(text, " \t;")
		if text == "" || text[0] == ',' {
			return relations, text
		}
		end := strings.IndexAny(text, "=;,")
		if end < 0 {
			return relations, ""
		}
		name := strings.TrimSpace(text[:end])
		if text = text[end:]; text[0] != '=' {
			continue
		}
		var value string
		value, text = parameterValue(strings.TrimLeft(text[1:], " \t"))
		if strings.EqualFold(name, "rel") && !found {
			relations, found = value, true
		}
	}
}

// parameterValue reads a token or a quoted string.
func parameterValue(text string) (value, rest string) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, ";,")
		if end < 0 {
			end = len(text)
		}
		return strings.TrimSpace(text[:end]), text[end:]
	}
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return out.String(), text[i+1:]
		case c == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), ""
}
