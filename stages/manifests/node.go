// SPDX-License-Identifier: Apache-2.0

package manifests

// Kind of a node.
type Kind uint8

// The kinds.
const (
	Scalar Kind = iota
	Map
	List
)

// Type of a scalar.
type Type uint8

// The types. Numbers, booleans and what else YAML knows are Other. The value of
// Binary is base64, as written.
const (
	String Type = iota
	Null
	Other
	Binary
)

// Node is a value in a document. Aliases and merge keys are resolved: a node
// that is used in several places is there several times, at one position.
type Node struct {
	Kind Kind
	Type Type // of a scalar
	// Anchored says that other places may use the same text, by an alias.
	Anchored bool
	repeated bool // of a map: a key stands in it twice
	style    style
	at       int32 // where it begins in the document's text, anchor and tag included
	// alias is where the alias stands that the node was read through, counted
	// from 1; 0: it stands there itself, or in something that has an alias.
	alias int32
	// Value of a scalar, unquoted: of a number its text.
	Value string
	// Fields of a map, in the order they stand in, each key once.
	Fields []Field
	// Items of a list.
	Items []Node
}

// Field is a key and its value.
type Field struct {
	Key   string
	Value Node
}

// Get is the value of a key, nil where the node is no map or has no such key.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for i := range n.Fields {
		if n.Fields[i].Key == key {
			return &n.Fields[i].Value
		}
	}
	return nil
}

// Text is the value of a string, "" where the node is none.
func (n *Node) Text() string {
	if n == nil || n.Kind != Scalar || n.Type != String {
		return ""
	}
	return n.Value
}

// IsString says that the node is a string, be it empty.
func (n *Node) IsString() bool {
	return n != nil && n.Kind == Scalar && n.Type == String
}
