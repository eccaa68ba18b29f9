// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"encoding/binary"
	"sort"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is decoded text that can map its bytes to positions in the file.
type Text struct {
	// String is the text itself, in UTF-8.
	String string

	// outer is the text that contains this one; nil if that is the file.
	outer *Text
	// base is the offset of this text in outer.
	base int
	kind mapping
	runs []run // sorted by at, if kind is mapped
}

// mapping describes how the bytes of a Text relate to those of the outer text.
type mapping uint8

const (
	verbatim mapping = iota // byte i is byte base+i of outer
	mapped                  // see runs
	opaque                  // single bytes cannot be mapped
)

// run is a range of text in which every unit of `from` bytes is written as a unit of `to`
// bytes in the outer text: 1 and 1 for verbatim text, 1 and 2 for ASCII in UTF-16, 1 and 6
// for \u002f.
type run struct {
	at, outer int // offset in this and in the outer text
	units     int
	from, to  int
}

func (r run) end() int { return r.at + r.units*r.from }

// Span is the range of a piece of text in the file.
type Span struct {
	Offset, Length int // in bytes
	// Exact reports that exactly these bytes contain the text, so that they may be
	// replaced. If false, Offset is that of the value that contains the text, such as
	// base64, and Length is 0.
	Exact bool
}

// Span returns the range of String[i:j] in the file.
func (t *Text) Span(i, j int) Span {
	exact := true
	for ; t != nil; t = t.outer {
		var ok bool
		if i, j, ok = t.outward(i, j); !ok {
			exact, j = false, i
		}
	}
	return Span{Offset: i, Length: j - i, Exact: exact}
}

// outward maps a range to the outer text.
func (t *Text) outward(i, j int) (int, int, bool) {
	switch t.kind {
	case verbatim:
		return t.base + i, t.base + j, true
	case opaque:
		return t.base, t.base, false
	}
	first, ok := t.run(i)
	if !ok {
		return t.base, t.base, false
	}
	start := first.outer + (i-first.at)/first.from*first.to
	if j == i {
		return start, start, true
	}
	last, ok := t.run(j - 1)
	if !ok {
		return start, start, false
	}
	return start, last.outer + ((j-1-last.at)/last.from+1)*last.to, true
}

// run returns the run that contains byte i. White space may not be in any run.
func (t *Text) run(i int) (run, bool) {
	n := sort.Search(len(t.runs), func(n int) bool { return t.runs[n].at > i }) - 1
	if n < 0 || i >= t.runs[n].end() {
		return run{}, false
	}
	return t.runs[n], true
}

// add appends a unit to the runs, or extends the last run.
func (t *Text) add(at, outer, from, to int) {
	if n := len(t.runs) - 1; n >= 0 {
		if r := &t.runs[n]; r.from == from && r.to == to && r.end() == at && r.outer+r.units*r.to == outer {
			r.units++
			return
		}
	}
	t.runs = append(t.runs, run{at: at, outer: outer, units: 1, from: from, to: to})
}

// slice returns String[i:j] as a Text.
func (t *Text) slice(i, j int) *Text {
	return &Text{String: t.String[i:j], outer: t, base: i}
}

// Decoded returns the Text of s, which was decoded from t in a way that loses positions,
// such as base64.
func (t *Text) Decoded(s string) *Text {
	return &Text{String: s, outer: t, kind: opaque}
}

// File is the content of one file.
type File struct {
	// Name is slash-separated and relative to the folder of the manifests.
	Name string
	// Data is the encoded content.
	Data []byte
	// Text is the decoded content without byte order mark.
	Text *Text
}

// wide is a byte order of UTF-16.
type wide interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// byteOrder returns the byte order of UTF-16, nil for UTF-8, and the length of the byte order
// mark. As for YAML parsers, a file is only UTF-16 if it has a byte order mark.
func byteOrder(data []byte) (order wide, skip int) {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		return binary.LittleEndian, 2
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		return binary.BigEndian, 2
	case bytes.HasPrefix(data, []byte("\ufeff")):
		return nil, len("\ufeff")
	}
	return nil, 0
}

// Open decodes a file. It does not check that the content is text; Parse does.
func Open(name string, data []byte) *File {
	f := &File{Name: name, Data: data}
	order, skip := byteOrder(data)
	if order == nil {
		f.Text = &Text{String: string(data[skip:]), base: skip}
		return f
	}
	t := &Text{kind: mapped, base: skip}
	var b strings.Builder
	for i := skip; i+1 < len(data); {
		r, n := decode(order, data[i:])
		t.add(b.Len(), i, utf8.RuneLen(r), n)
		b.WriteRune(r)
		i += n
	}
	t.String = b.String()
	f.Text = t
	return f
}

// Dispute returns a *[ParseError] if readers would disagree on the characters of a file:
// kubectl and kustomize split lines before they decode UTF-16, and so may find line breaks
// in the middle of characters.
func (f *File) Dispute() error {
	if order, _ := byteOrder(f.Data); order == nil {
		return nil
	}
	for _, found := range []string{"\r\n", "\n---"} {
		if at := bytes.Index(f.Data, []byte(found)); at >= 0 {
			line, _ := f.Positions().At(at)
			return &ParseError{Line: line, Reason: "its bytes in UTF-16 contain a line break or a document marker in UTF-8, which kubectl and kustomize take for one"}
		}
	}
	return nil
}

// Encode returns text in the encoding of the file with the content data.
func Encode(data []byte, text string) []byte {
	order, _ := byteOrder(data)
	if order == nil {
		return []byte(text)
	}
	var out []byte
	for _, u := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, u)
	}
	return out
}

// Positions converts offsets in a file to lines and columns. It is fast if offsets are
// requested in ascending order, however long the lines are.
type Positions struct {
	data  []byte
	start int // offset of the text after the byte order mark
	order wide

	offset, line, column int
}

// Positions returns a converter for offsets in the file.
func (f *File) Positions() *Positions {
	order, skip := byteOrder(f.Data)
	return &Positions{data: f.Data, start: skip, order: order, offset: skip, line: 1, column: 1}
}

// At returns the line and column of a byte in the file, both from 1. Lines end like in text
// editors (LF, CR LF, CR), columns are in characters.
func (p *Positions) At(offset int) (line, column int) {
	offset = min(offset, len(p.data))
	if offset < p.offset {
		p.offset, p.line, p.column = p.start, 1, 1
	}
	for p.offset < offset {
		r, size := decode(p.order, p.data[p.offset:])
		p.offset += size
		switch {
		case r == '\n', r == '\r' && !p.atLF():
			p.line, p.column = p.line+1, 1
		default:
			p.column++
		}
	}
	return p.line, p.column
}

func (p *Positions) atLF() bool {
	r, _ := decode(p.order, p.data[p.offset:])
	return r == '\n'
}

// decode returns the first character of data and its length in bytes.
func decode(order wide, data []byte) (rune, int) {
	if order == nil {
		return utf8.DecodeRune(data)
	}
	if len(data) < 2 {
		return utf8.RuneError, len(data)
	}
	r := rune(order.Uint16(data))
	if !utf16.IsSurrogate(r) {
		return r, 2
	}
	if len(data) >= 4 {
		if pair := utf16.DecodeRune(r, rune(order.Uint16(data[2:]))); pair != utf8.RuneError {
			return pair, 4
		}
	}
	return utf8.RuneError, 2
}
