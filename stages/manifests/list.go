// SPDX-License-Identifier: Apache-2.0

package manifests

import "strings"

// longList is the minimum size in bytes of a text for parseList. The parser's tree is twenty
// times as large as the text, which is too much for a List of ten megabytes.
const longList = 1 << 20

// parseList parses a long List, as printed by `kubectl get -o yaml`, item by item. It returns
// false if the text does not have that form, or if an item cannot be parsed by itself
// because of an alias.
func parseList(t *Text) (Document, bool) {
	list, ok := cutList(t.String)
	if !ok {
		return Document{}, false
	}
	rest := t.String[:list.start] + t.String[list.end:]
	docs, err := parseYAML(&Text{String: rest})
	if err != nil || len(docs) != 1 {
		return Document{}, false
	}
	out := docs[0]
	out.text = t
	items := out.Root.Get("items")
	if items == nil || items.Kind != Scalar || items.Type != Null || items.Anchored {
		return Document{}, false
	}
	shift(&out.Root, list.start, list.end-list.start)
	for i, at := range out.keys {
		if int(at) >= list.start {
			out.keys[i] += int32(list.end - list.start)
		}
	}
	line := 1 + strings.Count(t.String[:list.start], "\n") // line of the first item, or of what precedes it
	if out.dispute != nil && out.dispute.Line >= line {
		out.dispute.Line += strings.Count(t.String[list.start:list.end], "\n")
	}
	*items = Node{Kind: List, Items: make([]Node, 0, len(list.items)), at: int32(list.start)}
	line += strings.Count(t.String[list.start:list.items[0]], "\n")
	for i, start := range list.items {
		end := list.end
		if i+1 < len(list.items) {
			end = list.items[i+1]
		}
		docs, err := parseYAML(&Text{String: t.String[start:end]})
		if err != nil || len(docs) != 1 || len(docs[0].Root.Items) != 1 {
			return Document{}, false
		}
		doc := docs[0]
		item := doc.Root.Items[0]
		shift(&item, 0, start)
		items.Items = append(items.Items, item)
		out.aliased = out.aliased || doc.aliased
		for _, at := range doc.keys {
			out.keys = append(out.keys, at+int32(start))
		}
		out.cost, out.grown, out.written = out.cost+doc.cost, out.grown+doc.grown, out.written+doc.written
		if d := doc.dispute; d != nil {
			d.Line += line - 1
			out.dispute = graver(out.dispute, d)
		}
		line += strings.Count(t.String[start:end], "\n")
	}
	if out.grown > out.written*MaxGrowth+FreeGrowth {
		return Document{}, false // parseYAML reports where
	}
	return out, true
}

// shift moves the positions of nodes that begin at or after from.
func shift(n *Node, from, by int) {
	if int(n.at) >= from {
		n.at += int32(by)
	}
	if int(n.alias) > from {
		n.alias += int32(by)
	}
	for i := range n.Fields {
		shift(&n.Fields[i].Value, from, by)
	}
	for i := range n.Items {
		shift(&n.Items[i], from, by)
	}
}

// longItems holds the offsets of the items of a List in a text. An item begins at the line
// of its dash.
type longItems struct {
	start, end int
	items      []int
}

// cutList finds the items by their lines: after "items:" without indentation, all lines that
// are blank, begin with a dash at the indentation of the first item, or are indented deeper.
func cutList(s string) (longItems, bool) {
	const head = "\nitems:"
	at := strings.Index(s, head)
	if at < 0 || strings.Contains(s[at+1:], head) {
		return longItems{}, false
	}
	var out longItems
	indent := -1
	for i := at + 1; i < len(s); {
		line, _, _ := strings.Cut(s[i:], "\n")
		next := min(i+len(line)+1, len(s))
		text := strings.TrimLeft(line, " ")
		switch depth := len(line) - len(text); {
		case out.start == 0:
			if strings.TrimRight(line, " \r") != "items:" {
				return longItems{}, false
			}
			out.start = next
		case text == "", text[0] == '#', text[0] == '\r':
		case indent < 0:
			if indent = depth; !isDash(text) {
				return longItems{}, false
			}
			out.items = append(out.items, i)
		case depth == indent && isDash(text):
			out.items = append(out.items, i)
		case depth <= indent:
			out.end = i
			return out, true
		}
		i = next
	}
	out.end = len(s)
	return out, len(out.items) > 0
}

func isDash(text string) bool { return text[0] == '-' && white(text[1:]+"\n") > 0 }
