// SPDX-License-Identifier: Apache-2.0

package manifests

// Kind is the kind of a node.
type Kind uint8

// The kinds.
const (
	Scalar Kind = iota
	Map
	List
)

// Type is the type of a scalar.
type Type uint8

// The types. Numbers, booleans and all remaining types of YAML are Other. The value of
// Binary is base64, as written.
const (
	String Type = iota
	Null
	Other
	Binary
)

// Node is a value in a document. Aliases and merge keys are resolved: a node that is used in
// several places occurs several times, with the same position.
type Node struct {
	Kind Kind
	Type Type // of a scalar
	// Anchored reports that other nodes may use the same text through an alias.
	Anchored bool
	repeated bool // of a map: it has a duplicate key
	style    style
	at       int32 // offset in the document's text, including anchor and tag
	// alias is the position, plus 1, of the alias through which the node was read; 0 if there was
	// none, or if the alias is for a node that contains this one.
	alias int32
	// Value is the unquoted value of a scalar, or the text of a number.
	Value string
	// Fields are the fields of a map, in order and without duplicates.
	Fields []Field
	// Items are the items of a list.
	Items []Node
}

// Field is a key and its value.
type Field struct {
	Key   string
	Value Node
}

// Get returns the value of a key, or nil if the node is not a map or does not have the key.
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

// Text returns the value of a string, or "" if the node is not a string.
func (n *Node) Text() string {
	if n == nil || n.Kind != Scalar || n.Type != String {
		return ""
	}
	return n.Value
}

// IsString reports whether the node is a string, which may be empty.
func (n *Node) IsString() bool {
	return n != nil && n.Kind == Scalar && n.Type == String
}
