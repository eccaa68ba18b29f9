// SPDX-License-Identifier: Apache-2.0

// Package manifests is the noun for Kubernetes objects in files: it parses YAML
// and JSON as people and tools really write them, and says of every scalar which
// bytes of the file hold it.
//
// A [File] is decoded (UTF-8 and UTF-16, with or without byte order mark) into a
// [Text], split at document markers, and each part parsed on its own, so that
// parts can be parsed side by side and a broken one spoils none of its
// neighbours; a List of megabytes is read item by item. A [Document] is a tree of [Node], whatever the syntax was; its
// [Object]s are what a deployer would apply, Lists unfolded.
//
// # Positions
//
// A [Text] knows which bytes of the text around it each of its own bytes came
// from, through quotes, escapes, folding, indentation and the file's encoding.
// The decoded value of a scalar is again a Text, and may itself be parsed as
// YAML or JSON: so a place three levels deep, in JSON in a block scalar in a
// ConfigMap in a JSON file, still has a [Span] in the file. Positions are worked
// out only where they are asked for, as hardly one scalar in a hundred is.
//
// # The YAML library
//
// YAML is parsed by go.yaml.in/yaml/v3, with the offset map in this package, and
// not by goccy/go-yaml, whose tokens carry offsets of their own. It is the parser
// that Kubernetes tools descend from, so what it reads and refuses is what they
// do: goccy accepts and rejects other documents (tabs, duplicate keys, YAML 1.1
// merge keys, two definitions of one anchor), and an application that one tool
// sees differently from the next is the bug this package is to prevent. It is
// also quicker (17 MB of typical documents: 0.8 s against 1.2 s, a quarter of
// the allocations). What it lacks, the end of a scalar and its bytes, follows
// from the scalar's start, its style and its value; a fuzz test holds the two
// against each other.
//
// What starts with a brace or a bracket is read as JSON first, by encoding/json:
// YAML parsers refuse some JSON (surrogate pairs, long keys).
//
// # What Kubernetes does with it
//
// Of a key that stands twice, the last counts, as it does for all who take that;
// kustomize and Flux refuse it, and kubectl where it asks the API server to: the
// document has a dispute. Merge keys are applied. A key that is a mapping (a
// template's {{x}}) and an anchor that holds itself are errors, as they are for
// kubectl. Where kubectl, Argo CD and Flux do not read the same (a merge key behind
// what it gives, two of them, << in quotes, !!binary, odd document markers), the
// document has one as well, which is an error where a cluster may get it. The items
// of any object are objects. limits.go bounds all that is read.
package manifests
