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

// Document is one parsed value of a YAML stream, or of a sequence of JSON values.
type Document struct {
	Root Node
	text *Text // from which it was parsed

	aliased bool          // it contains an alias
	keys    []int32       // offsets of the keys that have an anchor or are an alias
	uses    map[int32]int // of scalars, by offset; nil if not counted yet
	// dispute is what readers of YAML read in different ways; nil if there is nothing.
	dispute *ParseError
	cost    int // see charge
	grown   int // the part of cost that aliases add
	written int // the part of cost that is written
}

// ParseError is the error for text that is neither YAML nor JSON, or that Kubernetes would
// not accept. Line is from 1 in the text that was parsed; 0 if unknown.
type ParseError struct {
	Line   int
	Reason string
	limit  bool
	syntax bool // found by the YAML parser, whose lines are not exact
	// repeats reports that the error is about a duplicate key, of which no reader uses the first.
	repeats bool
}

// graver returns the more serious of two disputes; before was found first.
func graver(before, e *ParseError) *ParseError {
	if before == nil || before.repeats && !e.repeats {
		return e
	}
	return before
}

// repeats returns the dispute about a duplicate key.
func repeats(line int, key string) *ParseError {
	return &ParseError{
		Line: line, repeats: true,
		Reason: fmt.Sprintf("the key %q appears twice in one map: kustomize and Flux reject that, and others use the last", key),
	}
}

func (e *ParseError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
}

// Split splits a stream at its document markers, so that parsing the pieces gives the same
// documents as parsing the whole. A piece contains one document, none (comments before the
// first marker), or several (consecutive JSON values, and documents separated by "...").
func (t *Text) Split() []*Text {
	s := t.String
	var pieces []*Text
	start := 0
	for i := 0; i < len(s); {
		if s[i] == '%' {
			return []*Text{t} // directives belong to the marker below them
		}
		if rest, ok := strings.CutPrefix(s[i:], "---"); ok && (rest == "" || white(rest) > 0) {
			if i > start {
				if len(pieces) == MaxDocuments {
					break // Parse of the rest reports it
				}
				pieces = append(pieces, t.slice(start, i))
			}
			start = i
		}
		n := strings.IndexByte(s[i:], '\n')
		if n < 0 {
			break
		}
		i += n + 1
	}
	return append(pieces, t.slice(start, len(s)))
}

// Parse parses the documents in a text: consecutive JSON values, or a YAML stream. With an
// error, it returns the documents before it.
func Parse(t *Text) ([]Document, error) {
	docs, err := Try(t)
	if e, ok := errors.AsType[*ParseError](err); ok && e.syntax {
		e.locate(t.String)
		if at := conflict.FindStringIndex(t.String); at != nil {
			e.Line, e.Reason = 1+strings.Count(t.String[:at[0]], "\n"), "a merge conflict is not resolved here (<<<<<<<)"
		}
	}
	return docs, err
}

// conflict matches the marker that git writes at the beginning of a conflict.
var conflict = regexp.MustCompile(`(?m)^<{7} `)

// Try is like Parse, but for text that need not be YAML. It does not search for the line of a
// syntax error, which takes much longer than parsing.
func Try(t *Text) ([]Document, error) {
	if err := checkLines(t.String); err != nil {
		return nil, err
	}
	if looksLikeJSON(t.String) {
		docs, err := parseJSON(t)
		if e, ok := errors.AsType[*ParseError](err); !ok || e.limit {
			return docs, err // YAML has the same limits
		}
	}
	if len(t.String) > longList {
		if doc, ok := parseList(t); ok {
			return []Document{doc}, nil
		}
	}
	return parseYAML(t)
}

// checkLines rejects lines that some readers take for document markers and others do not. kubectl
// and kustomize split lines before they parse: dashes followed by any Unicode space are a marker
// to them, and dashes after a byte order mark are not.
func checkLines(s string) *ParseError {
	for line := 1; s != ""; line++ {
		text, rest, _ := strings.Cut(s, "\n")
		if strings.HasPrefix(text, "\ufeff") {
			return &ParseError{Line: line, Reason: "a byte order mark inside the file: readers of YAML disagree on what it means there"}
		}
		if behind, ok := strings.CutPrefix(text, "---"); ok && behind != "" && white(behind) == 0 {
			if behind = strings.TrimSpace(behind); behind == "" || behind[0] == '#' {
				return &ParseError{Line: line, Reason: "a space that YAML does not allow follows ---: kubectl takes that for a document marker, and YAML does not"}
			}
		}
		s = rest
	}
	return nil
}

// looksLikeJSON reports whether the text, after a document marker and white space, begins
// with a brace or bracket.
func looksLikeJSON(s string) bool {
	s = strings.TrimLeft(strings.TrimPrefix(s, "---"), " \t\r\n")
	return s != "" && (s[0] == '{' || s[0] == '[')
}

func parseYAML(t *Text) (docs []Document, err error) {
	defer func() {
		// The parser panics on internal errors.
		if r := recover(); r != nil {
			err = &ParseError{Reason: fmt.Sprintf("yaml: %v", r)}
		}
	}()
	if err := checkValues(t.String); err != nil {
		return nil, err
	}
	if err := checkComments(t.String); err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(strings.NewReader(t.String))
	c := converter{cursor: newCursor(t.String)}
	for {
		var node yaml.Node
		if err := dec.Decode(&node); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return docs, newYAMLError(err)
		}
		if len(docs) == MaxDocuments {
			return docs, &ParseError{Line: node.Line, Reason: tooManyDocuments}
		}
		doc := Document{text: t}
		c.doc, c.anchors, c.binary = &doc, map[*yaml.Node]converted{}, false
		if doc.Root, doc.cost, err = c.node(node.Content[0], 0); err != nil {
			return docs, err
		}
		if c.binary {
			if e := binaryOutsideData(t.String, &doc.Root, ""); e != nil {
				doc.dispute = graver(doc.dispute, e)
			}
		}
		docs = append(docs, doc)
	}
}

var (
	tooManyDocuments = fmt.Sprintf("more than %d documents", MaxDocuments)
	tooManyValues    = fmt.Sprintf("more than %d values in one document", MaxValues)
	tooMuchComment   = fmt.Sprintf("a comment of more than %d MiB, or a line that is as long behind a #", MaxComment>>20)
	tooLong          = fmt.Sprintf("a value of more than %d MiB", maxScalar>>20)
	tooDeep          = fmt.Sprintf("nested deeper than %d levels", maxDepth)
	tooMuchGrowth    = fmt.Sprintf("aliases and merge keys expand the document to more than %d times what is written", MaxGrowth)
)

// checkValues limits the values of a YAML text before it is parsed, because the parser's own tree
// of them is large.
func checkValues(s string) *ParseError {
	left := MaxValues
	for i := range len(s) {
		if beginsValue(s[i]) {
			if left--; left < 0 {
				return &ParseError{Line: 1 + strings.Count(s[:i], "\n"), Reason: tooManyValues}
			}
		}
	}
	return nil
}

// checkComments limits comments before they are parsed, because the parser keeps each several
// times. Lines that begin with # but are part of a scalar are limited like the scalar.
func checkComments(s string) *ParseError {
	if len(s) <= MaxComment {
		return nil
	}
	size := 0 // size of the comments since the last line without one
	for line := 1; s != ""; line++ {
		length := nextLine(s)
		switch text := strings.TrimLeft(s[:length], " \t"); {
		case lineBreak(text) == len(text): // blank
		case text[0] == '#':
			size += length
		default:
			size = 0
			if at := comment.FindStringIndex(text); at != nil {
				size = len(text) - at[0]
			}
		}
		if size > MaxComment {
			return &ParseError{Line: line, Reason: tooMuchComment}
		}
		s = s[length:]
	}
	return nil
}

// comment matches the beginning of a comment after something else.
var comment = regexp.MustCompile(`[ \t]#`)

// beginsValue reports whether a value may follow c. Every value has such a character before it.
func beginsValue(c byte) bool {
	switch c {
	case '\n', '\r', ',', ':', '[', '{', '-', '?':
		return true
	}
	return false
}

// Values returns an upper limit for the number of values in the text, including documents in its
// strings.
func (t *Text) Values() int {
	n := 0
	for i := range len(t.String) {
		if beginsValue(t.String[i]) {
			n++
		}
	}
	return n
}

// searchedError is the maximum length of a text that is parsed repeatedly to find the line of
// an error.
const searchedError = 1 << 20

var errorLine = regexp.MustCompile(`^line (\d+): `)

// locate finds the line where the text does not parse.
func (e *ParseError) locate(text string) {
	if len(text) > searchedError {
		return
	}
	// The parser reports the line where the construct began, or the line before it. It reads from
	// beginning to end, so the faulty line is the last line of the shortest prefix that gives the
	// same error.
	lines := strings.SplitAfter(text, "\n")
	n := sort.Search(len(lines), func(n int) bool {
		err := parseNothing(strings.Join(lines[:n+1], ""))
		return err != nil && err.Reason == e.Reason
	})
	if n < len(lines) {
		e.Line = n + 1
	}
}

// parseNothing parses text and returns only the error.
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

// newYAMLError splits the parser's message into line and reason.
func newYAMLError(err error) *ParseError {
	e := &ParseError{Reason: strings.TrimPrefix(err.Error(), "yaml: "), syntax: true}
	if m := errorLine.FindStringSubmatch(e.Reason); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Reason = e.Reason[len(m[0]):]
	}
	return e
}

// converter converts the parser's nodes to those of a document.
type converter struct {
	cursor
	doc     *Document
	anchors map[*yaml.Node]converted // anchored nodes that are complete
	binary  bool                     // a value is tagged !!binary
}

// converted is a node with its cost when aliases are expanded.
type converted struct {
	node Node
	cost int
}

func (c *converter) disputed(n *yaml.Node, reason string) {
	c.doc.dispute = graver(c.doc.dispute, &ParseError{Line: n.Line, Reason: reason})
}

func (c *converter) node(n *yaml.Node, depth int) (out Node, cost int, err error) {
	if depth > maxDepth {
		return out, 0, &ParseError{Line: n.Line, Reason: tooDeep}
	}
	if n.Kind == yaml.AliasNode {
		anchored, ok := c.anchors[n.Alias]
		if !ok {
			return out, 0, &ParseError{Line: n.Line, Reason: fmt.Sprintf("anchor %q contains itself", n.Value)}
		}
		if c.doc.grown += anchored.cost; c.doc.grown > c.doc.written*MaxGrowth+FreeGrowth {
			return out, 0, &ParseError{Line: n.Line, Reason: tooMuchGrowth}
		}
		c.doc.aliased = true
		anchored.node.alias = int32(c.offset(n.Line, n.Column)) + 1
		return anchored.node, anchored.cost, nil
	}
	own := charge(n.Value)
	c.doc.written += own
	out.at, cost = int32(c.offset(n.Line, n.Column)), own
	switch n.Kind {
	case yaml.ScalarNode:
		if len(n.Value) > maxScalar {
			return out, 0, &ParseError{Line: n.Line, Reason: tooLong}
		}
		out.Value = n.Value
		out.Type, out.style = scalarType(n), scalarStyle(n.Style)
		if out.Type != String && c.untyped(int(out.at)) {
			c.disputed(n, fmt.Sprintf("%q has the tag !: readers of YAML disagree on whether it is a string", n.Value))
		}
		c.binary = c.binary || out.Type == Binary
	case yaml.SequenceNode:
		out.Kind = List
		out.Items = make([]Node, len(n.Content))
		for i, item := range n.Content {
			var s int
			if out.Items[i], s, err = c.node(item, depth+1); err != nil {
				return out, 0, err
			}
			cost += s
		}
	case yaml.MappingNode:
		out.Kind = Map
		var s int
		if out.Fields, out.repeated, s, err = c.fields(n, depth); err != nil {
			return out, 0, err
		}
		cost += s
	default:
		return out, 0, &ParseError{Line: n.Line, Reason: "unknown kind of node"}
	}
	n.Content = nil // release what is converted: a single List may have megabytes
	if n.Anchor != "" {
		out.Anchored = true
		c.anchors[n] = converted{out, cost}
	}
	return out, cost, nil
}

// untyped reports whether the node at a position has the tag "!", which makes it a string. The
// parser does not report it.
func (c *converter) untyped(at int) bool {
	const space, end = " \t\r\n", " \t\r\n,[]{}"
	for rest := c.text[at:]; rest != ""; rest = strings.TrimLeft(rest, space) {
		switch rest[0] {
		case '#':
			_, rest, _ = strings.Cut(rest, "\n")
		case '&', '!':
			token := rest
			if i := strings.IndexAny(rest, end); i >= 0 {
				token = rest[:i]
			}
			if token == "!" {
				return true
			}
			rest = rest[len(token):]
		default:
			return false
		}
	}
	return false
}

// fields converts the fields of a mapping. The last of duplicate keys is used.
func (c *converter) fields(n *yaml.Node, depth int) (fields []Field, repeated bool, cost int, err error) {
	fields = make([]Field, 0, len(n.Content)/2)
	var (
		index  keys
		merged keys // positions of merged fields
	)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		k, s, err := c.node(key, depth+1)
		if err != nil {
			return nil, false, 0, err
		}
		cost += s
		isMerge, err := c.key(key, k)
		if err != nil {
			return nil, false, 0, err
		}
		if k.Anchored {
			c.doc.keys = append(c.doc.keys, k.at)
		}
		v, s, err := c.node(value, depth+1)
		if err != nil {
			return nil, false, 0, err
		}
		cost += s
		if isMerge {
			if merged != nil {
				c.disputed(key, "a second merge key (<<) in one map: readers of YAML disagree on what it means")
			} else {
				merged = keys{}
			}
			if fields, err = c.merge(key, v, fields, &index, merged); err != nil {
				return nil, false, 0, err
			}
			continue
		}
		if at, twice := index.at(fields, k.Value); twice {
			if _, isMerged := merged[k.Value]; !isMerged {
				repeated = true
				if c.doc.dispute == nil {
					c.doc.dispute = repeats(key.Line, k.Value)
				}
			}
			delete(merged, k.Value)
			fields[at].Value = v
		} else {
			fields = append(fields, Field{Key: k.Value, Value: v})
		}
	}
	return fields, repeated, cost, nil
}

// key reports whether a key is a merge key. It returns an error for an invalid key.
func (c *converter) key(n *yaml.Node, k Node) (isMerge bool, err error) {
	tag := ""
	if n.Kind == yaml.ScalarNode && (n.Tag == "!!merge" || n.Style&yaml.TaggedStyle != 0) {
		tag = n.Tag
	}
	plainMerge := tag == "!!merge" && strings.HasPrefix(c.text[k.at:], "<<")
	switch {
	case k.Kind != Scalar:
		return false, &ParseError{Line: n.Line, Reason: "a map or list in place of a key (is this a template that was not rendered?)"}
	case k.Type == Binary:
		return false, &ParseError{Line: n.Line, Reason: "a key is !!binary: some readers of YAML decode that, and others do not"}
	case plainMerge:
	case tag == "!!merge" && k.Value != "<<":
		// This is an error in any map, because what is merged may make it an object.
		return false, &ParseError{Line: n.Line, Reason: fmt.Sprintf("the key %q has the tag !!merge: some readers of YAML merge what it is given, and others do not", k.Value)}
	case k.Value == "<<":
		c.disputed(n, quotedMerge)
	case tag != "" && tag != "!!str":
		c.disputed(n, fmt.Sprintf("the key %q has the tag %s: readers of YAML disagree on what it is", k.Value, tag))
	}
	return tag == "!!merge" && k.Value == "<<", nil
}

const quotedMerge = "a key is << in quotes, or with a tag or an anchor: readers of YAML disagree on whether that is a merge key"

// merge adds the fields of the maps that are the value of a merge key; the first map takes
// precedence. A key written after the merge key replaces a merged one. Readers disagree on a key
// written before it, so that is a dispute.
func (c *converter) merge(key *yaml.Node, value Node, fields []Field, index *keys, merged keys) ([]Field, error) {
	maps := []Node{value}
	if value.Kind == List {
		maps = value.Items
	}
	for _, m := range maps {
		if m.Kind != Map {
			return nil, &ParseError{Line: key.Line, Reason: "a merge key (<<) takes a map or a list of maps"}
		}
		if m.repeated {
			c.disputed(key, "a merge key (<<) takes a map in which a key appears twice: readers of YAML disagree on which of the two counts")
		}
		for _, f := range m.Fields {
			at, there := index.at(fields, f.Key)
			if !there {
				merged[f.Key] = len(fields)
				fields = append(fields, f)
			} else if mergedAt, ok := merged[f.Key]; !ok || mergedAt != at {
				c.disputed(key, fmt.Sprintf("a merge key (<<) gives %q, which is written before it: readers of YAML disagree on which of the two counts", f.Key))
			}
		}
	}
	return fields, nil
}

// dataKeys are the fields of objects that contain bytes, where !!binary is meaningful.
var dataKeys = map[string]bool{"data": true, "binaryData": true, "stringData": true}

// binaryOutsideData returns an error for a value tagged !!binary outside of such fields.
func binaryOutsideData(text string, n *Node, key string) *ParseError {
	for i := range n.Items {
		if e := binaryOutsideData(text, &n.Items[i], ""); e != nil {
			return e
		}
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		if f.Value.Kind == Scalar && dataKeys[key] {
			continue
		}
		if e := binaryOutsideData(text, &f.Value, f.Key); e != nil {
			return e
		}
	}
	if n.Kind != Scalar || n.Type != Binary {
		return nil
	}
	return &ParseError{
		Line:   1 + strings.Count(text[:n.at], "\n"),
		Reason: fmt.Sprintf("the value of %q is !!binary: some readers of YAML decode that, and others do not", key),
	}
}

// keys is an index of keys in fields. It is only filled for large maps.
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
	case "!!int", "!!float", "!!bool":
		return Other
	case "!!binary":
		return Binary
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

// cursor converts the YAML parser's lines and columns to offsets. The parser counts
// characters, and lines as defined by YAML 1.1.
type cursor struct {
	text         string
	start        int // after a byte order mark, which the parser does not count
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

// offset returns the offset of a position. It continues from the last one, because nodes are
// converted in order.
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

// parseJSON parses consecutive JSON values.
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
		p.values, p.dispute = 0, nil
		root, err := p.value(token, at, 0)
		if err == nil && len(docs) == MaxDocuments {
			err = p.exceeds(tooManyDocuments)
		}
		if err != nil {
			return docs, p.error(err)
		}
		docs = append(docs, Document{Root: root, text: t, dispute: p.dispute, cost: len(t.String) / 16})
	}
}

type jsonParser struct {
	text    string
	skip    int // offset in text at which dec begins
	dec     *json.Decoder
	values  int         // number of values in the document
	dispute *ParseError // the most serious one so far
	// Fields and items of the open maps and lists, innermost last. Collecting them here allows
	// allocating each map and list once, with its final size.
	openFields []Field
	openItems  []Node
}

// token returns the next token and its offset.
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
	if p.values++; p.values > MaxValues {
		return n, p.exceeds(tooManyValues)
	}
	switch v := token.(type) {
	case string:
		if len(v) > maxScalar {
			return n, p.exceeds(tooLong)
		}
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
			err = p.exceeds(tooDeep)
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
			return nil, errors.New("a key is not a string")
		}
		if len(key) > maxScalar {
			return nil, p.exceeds(tooLong)
		}
		keyAt := p.skip + int(p.dec.InputOffset())
		if key == "<<" && (p.dispute == nil || p.dispute.repeats) {
			p.dispute = graver(p.dispute, &ParseError{Line: p.line(keyAt), Reason: quotedMerge})
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
			if p.dispute == nil {
				p.dispute = repeats(p.line(keyAt), key)
			}
		} else {
			p.openFields = append(p.openFields, Field{Key: key, Value: value})
		}
	}
	_, _, err := p.token()
	return slices.Clone(p.openFields[first:]), err
}

// error adds the line to an error of the JSON decoder.
func (p *jsonParser) error(err error) *ParseError {
	if e, ok := errors.AsType[*ParseError](err); ok {
		return e
	}
	at := int(p.dec.InputOffset())
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = int(syntax.Offset)
	}
	return &ParseError{Line: p.line(p.skip + at), Reason: err.Error()}
}

// exceeds returns the error for exceeding a limit, which YAML has too.
func (p *jsonParser) exceeds(limit string) *ParseError {
	return &ParseError{Line: p.line(p.skip + int(p.dec.InputOffset())), Reason: limit, limit: true}
}

func (p *jsonParser) line(at int) int { return 1 + strings.Count(p.text[:min(at, len(p.text))], "\n") }
