// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth bounds how deep values nest; the YAML parser has the same bound.
	maxDepth = 10_000
	// Aliases may make a document this much larger than it is written, and no
	// more: nine levels of nine aliases make a gigabyte of a kilobyte.
	maxGrowth, freeGrowth = 10, 100_000
)

// Document is one parsed value of a YAML stream, or of a sequence of JSON values.
type Document struct {
	Root Node
	text *Text // what it was parsed from

	aliased bool          // there is an alias in it
	keys    []int32       // where the keys begin that have an anchor or are an alias
	uses    map[int32]int // of scalars, by where they begin; nil: not counted yet
}

// ParseError says why text is neither YAML nor JSON, or is none that Kubernetes
// takes. Line counts from 1 in the text that was parsed.
type ParseError struct {
	Line   int
	Reason string
}

func (e *ParseError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
}

// Split cuts a stream at its document markers, so that Parse of each piece gives
// what Parse of the whole would. Pieces hold a document each, or none (comments
// before the first marker), or several (JSON values one after the other, and
// documents that only "..." separates).
func (t *Text) Split() []*Text {
	s := t.String
	var pieces []*Text
	start := 0
	for i := 0; i < len(s); {
		if s[i] == '%' {
			return []*Text{t} // directives belong to the marker below them
		}
		marker := i
		if strings.HasPrefix(s[i:], "\ufeff") { // files put one after the other
			marker += len("\ufeff")
		}
		if rest := s[marker:]; strings.HasPrefix(rest, "---") && (len(rest) == 3 || white(rest[3:]) > 0) {
			if i > start {
				pieces = append(pieces, t.Slice(start, i))
			}
			start = marker
		}
		n := strings.IndexByte(s[i:], '\n')
		if n < 0 {
			break
		}
		i += n + 1
	}
	return append(pieces, t.Slice(start, len(s)))
}

// Parse reads the documents of a text: JSON values one after the other, or a
// YAML stream. Before an error come the documents that could be read.
func Parse(t *Text) ([]Document, error) {
	if looksLikeJSON(t.String) {
		if docs, err := parseJSON(t); err == nil {
			return docs, nil
		}
	}
	if len(t.String) > longList {
		if doc, ok := parseList(t); ok {
			return []Document{doc}, nil
		}
	}
	return parseYAML(t)
}

// looksLikeJSON looks at the first character that is no white space, behind a
// document marker.
func looksLikeJSON(s string) bool {
	s = strings.TrimLeft(strings.TrimPrefix(s, "---"), " \t\r\n")
	return s != "" && (s[0] == '{' || s[0] == '[')
}

func parseYAML(t *Text) (docs []Document, err error) {
	defer func() {
		// The parser panics where it does not trust itself.
		if r := recover(); r != nil {
			err = &ParseError{Reason: fmt.Sprintf("yaml: %v", r)}
		}
	}()
	dec := yaml.NewDecoder(strings.NewReader(t.String))
	c := converter{cursor: newCursor(t.String)}
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return docs, yamlError(t.String, err)
		}
		c.anchors = map[*yaml.Node]converted{}
		c.aliased, c.keys = false, nil
		root, _, err := c.node(doc.Content[0], 0)
		if err != nil {
			return docs, err
		}
		docs = append(docs, Document{Root: root, text: t, aliased: c.aliased, keys: c.keys})
	}
}

var errorLine = regexp.MustCompile(`^line (\d+): `)

// yamlError says where the text does not parse.
func yamlError(text string, err error) *ParseError {
	e := newYAMLError(err)
	// The parser names the line where the construct began, or the one before.
	// It reads from left to right: the line at fault is the last of the shortest
	// beginning that gives the same error.
	lines := strings.SplitAfter(text, "\n")
	n := sort.Search(len(lines), func(n int) bool {
		return same(parseNothing(strings.Join(lines[:n+1], "")), e.Reason)
	})
	if n < len(lines) {
		e.Line = n + 1
	}
	return e
}

func same(err *ParseError, reason string) bool { return err != nil && err.Reason == reason }

// parseNothing parses for the error alone.
func parseNothing(text string) (e *ParseError) {
	defer func() {
		if r := recover(); r != nil {
			e = nil
		}
	}()
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		if err := dec.Decode(&yaml.Node{}); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return newYAMLError(err)
		}
	}
}

// newYAMLError takes the line out of the parser's message.
func newYAMLError(err error) *ParseError {
	e := &ParseError{Reason: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := errorLine.FindStringSubmatch(e.Reason); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Reason = e.Reason[len(m[0]):]
	}
	return e
}

// converter turns the parser's nodes into ours.
type converter struct {
	cursor
	anchors map[*yaml.Node]converted // every anchored node that was seen whole
	written int                      // nodes that stand in the document
	aliased bool                     // an alias stands in the document
	keys    []int32                  // where the keys begin that have an anchor or are an alias
}

// converted is a node, and how many nodes it is with its aliases expanded.
type converted struct {
	node Node
	size int
}

func (c *converter) node(n *yaml.Node, depth int) (out Node, size int, err error) {
	if depth > maxDepth {
		return out, 0, &ParseError{Line: n.Line, Reason: "nested too deep"}
	}
	if n.Kind == yaml.AliasNode {
		anchored, ok := c.anchors[n.Alias]
		if !ok {
			return out, 0, &ParseError{Line: n.Line, Reason: fmt.Sprintf("anchor %q contains itself", n.Value)}
		}
		c.aliased = true
		anchored.node.alias = int32(c.offset(n.Line, n.Column)) + 1
		return anchored.node, anchored.size, nil
	}
	c.written++
	out.at, size = int32(c.offset(n.Line, n.Column)), 1
	switch n.Kind {
	case yaml.ScalarNode:
		out.Value = n.Value
		out.Type, out.style = scalarType(n), scalarStyle(n.Style)
	case yaml.SequenceNode:
		out.Kind = List
		out.Items = make([]Node, len(n.Content))
		for i, item := range n.Content {
			var s int
			if out.Items[i], s, err = c.node(item, depth+1); err != nil {
				return out, 0, err
			}
			size += s
		}
	case yaml.MappingNode:
		out.Kind = Map
		var s int
		if out.Fields, s, err = c.fields(n, depth); err != nil {
			return out, 0, err
		}
		size += s
	default:
		return out, 0, &ParseError{Line: n.Line, Reason: "unknown kind of node"}
	}
	n.Content = nil // what is converted need not be kept: a single List may have megabytes
	if size > c.written*maxGrowth+freeGrowth {
		return out, 0, &ParseError{Line: n.Line, Reason: "aliases expand to too much"}
	}
	if n.Anchor != "" {
		out.Anchored = true
		c.anchors[n] = converted{out, size}
	}
	return out, size, nil
}

// fields are those of a mapping. Of a key that stands twice the last counts;
// what is merged comes after, and gives way to what is written out.
func (c *converter) fields(n *yaml.Node, depth int) (fields []Field, size int, err error) {
	fields = make([]Field, 0, len(n.Content)/2)
	var (
		index  keys
		merged []Node
	)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		k, s, err := c.node(key, depth+1)
		if err != nil {
			return nil, 0, err
		}
		if k.Kind != Scalar {
			return nil, 0, &ParseError{Line: key.Line, Reason: "a map or list stands where a key must be (is this a template that was not rendered?)"}
		}
		size += s
		if k.Anchored {
			c.keys = append(c.keys, k.at)
		}
		v, s, err := c.node(value, depth+1)
		if err != nil {
			return nil, 0, err
		}
		size += s
		if key.Kind == yaml.ScalarNode && key.Tag == "!!merge" {
			if v.Kind == List {
				merged = append(merged, v.Items...)
			} else {
				merged = append(merged, v)
			}
			continue
		}
		if at, twice := index.at(fields, k.Value); twice {
			fields[at].Value = v
		} else {
			fields = append(fields, Field{Key: k.Value, Value: v})
		}
	}
	for _, m := range merged {
		if m.Kind != Map {
			return nil, 0, &ParseError{Line: n.Line, Reason: "a merge key (<<) takes a map or a list of maps"}
		}
		for _, f := range m.Fields {
			if _, there := index.at(fields, f.Key); !there {
				fields = append(fields, f)
			}
		}
	}
	return fields, size, nil
}

// keys finds keys among fields; large maps get an index.
type keys map[string]int

func (k *keys) at(fields []Field, key string) (int, bool) {
	if len(fields) <= 16 {
		for i := range fields {
			if fields[i].Key == key {
				return i, true
			}
		}
		return 0, false
	}
	if *k == nil {
		*k = keys{}
	}
	for i := len(*k); i < len(fields); i++ {
		(*k)[fields[i].Key] = i
	}
	i, ok := (*k)[key]
	return i, ok
}

func scalarType(n *yaml.Node) Type {
	switch n.Tag {
	case "!!null":
		return Null
	case "!!int", "!!float", "!!bool", "!!binary":
		return Other
	}
	return String
}

func scalarStyle(s yaml.Style) style {
	switch {
	case s&yaml.DoubleQuotedStyle != 0:
		return double
	case s&yaml.SingleQuotedStyle != 0:
		return single
	case s&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return block
	}
	return plain
}

// cursor turns the YAML parser's lines and columns into offsets. The parser
// counts characters, and lines as YAML 1.1 breaks them.
type cursor struct {
	text         string
	start        int // behind a byte order mark, which the parser does not count
	at           int
	line, column int
}

func newCursor(text string) cursor {
	start := 0
	if strings.HasPrefix(text, "\ufeff") {
		start = len("\ufeff")
	}
	return cursor{text: text, start: start, at: start, line: 1, column: 1}
}

// offset goes on from the last position that was asked for, as nodes come in the
// order they stand in.
func (c *cursor) offset(line, column int) int {
	if line < c.line || line == c.line && column < c.column {
		c.at, c.line, c.column = c.start, 1, 1
	}
	for c.line < line && c.at < len(c.text) {
		c.at += nextLine(c.text[c.at:])
		c.line, c.column = c.line+1, 1
	}
	for c.column < column && c.at < len(c.text) {
		_, n := utf8.DecodeRuneInString(c.text[c.at:])
		c.at, c.column = c.at+n, c.column+1
	}
	return c.at
}

// parseJSON reads JSON values one after the other.
func parseJSON(t *Text) ([]Document, error) {
	skip := 0
	if strings.HasPrefix(t.String, "---") {
		skip = len("---")
	}
	p := jsonParser{text: t.String, skip: skip, dec: json.NewDecoder(strings.NewReader(t.String[skip:]))}
	p.dec.UseNumber()
	var docs []Document
	for {
		token, at, err := p.token()
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return docs, p.error(err)
		}
		root, err := p.value(token, at, 0)
		if err != nil {
			return docs, p.error(err)
		}
		docs = append(docs, Document{Root: root, text: t})
	}
}

type jsonParser struct {
	text string
	skip int // of text, before what dec reads
	dec  *json.Decoder
	// What belongs to the values that are open, the innermost last: so that what
	// is closed is allocated once, in its size.
	openFields []Field
	openItems  []Node
}

// token is the next one and where it begins.
func (p *jsonParser) token() (json.Token, int, error) {
	at := p.skip + int(p.dec.InputOffset())
	token, err := p.dec.Token()
	for at < len(p.text) && strings.IndexByte(" \t\r\n,:", p.text[at]) >= 0 {
		at++
	}
	return token, at, err
}

func (p *jsonParser) value(token json.Token, at, depth int) (Node, error) {
	n := Node{at: int32(at)}
	var err error
	switch v := token.(type) {
	case string:
		n.Value, n.style = v, double
	case json.Number:
		n.Value, n.Type = v.String(), Other
	case bool:
		n.Value, n.Type = strconv.FormatBool(v), Other
	case nil:
		n.Value, n.Type = "null", Null
	case json.Delim:
		switch {
		case depth > maxDepth:
			err = errors.New("nested too deep")
		case v == '[':
			n.Kind = List
			n.Items, err = p.items(depth)
		default:
			n.Kind = Map
			n.Fields, err = p.fields(depth)
		}
	}
	return n, err
}

func (p *jsonParser) items(depth int) ([]Node, error) {
	first := len(p.openItems)
	defer func() { p.openItems = p.openItems[:first] }()
	for p.dec.More() {
		token, at, err := p.token()
		if err != nil {
			return nil, err
		}
		item, err := p.value(token, at, depth+1)
		if err != nil {
			return nil, err
		}
		p.openItems = append(p.openItems, item)
	}
	_, _, err := p.token()
	return slices.Clone(p.openItems[first:]), err
}

func (p *jsonParser) fields(depth int) ([]Field, error) {
	first := len(p.openFields)
	defer func() { p.openFields = p.openFields[:first] }()
	var index keys
	for p.dec.More() {
		token, _, err := p.token()
		if err != nil {
			return nil, err
		}
		key, ok := token.(string)
		if !ok {
			return nil, errors.New("a key is no string")
		}
		token, at, err := p.token()
		if err != nil {
			return nil, err
		}
		value, err := p.value(token, at, depth+1)
		if err != nil {
			return nil, err
		}
		if at, twice := index.at(p.openFields[first:], key); twice {
			p.openFields[first+at].Value = value
		} else {
			p.openFields = append(p.openFields, Field{Key: key, Value: value})
		}
	}
	_, _, err := p.token()
	return slices.Clone(p.openFields[first:]), err
}

// error puts a line to an error of the JSON decoder.
func (p *jsonParser) error(err error) *ParseError {
	at := p.skip + int(p.dec.InputOffset())
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		at = p.skip + int(syntax.Offset)
	}
	line := 1 + strings.Count(p.text[:min(at, len(p.text))], "\n")
	return &ParseError{Line: line, Reason: err.Error()}
}
