// SPDX-License-Identifier: Apache-2.0

// Package manifests parses Kubernetes objects in YAML and JSON files, in all forms that
// people and tools write, and maps every scalar to its bytes in the file.
//
// A [File] is decoded (UTF-8 and UTF-16, with or without byte order mark) into a [Text] and
// split at document markers. Each part is parsed by itself, so that parts can be parsed
// concurrently and a malformed one does not affect the others; a List of megabytes is parsed
// item by item. A [Document] is a tree of [Node], independent of the syntax. Its [Object]s
// are those that a deployer would apply, with Lists unfolded.
//
// # Positions
//
// A [Text] can map each of its bytes to those of the text that contains it, through quotes,
// escapes, folding, indentation and the encoding of the file. The decoded value of a scalar
// is also a Text, and may itself be parsed as YAML or JSON. So a position three levels deep,
// in JSON in a block scalar in a ConfigMap in a JSON file, still has a [Span] in the file.
// Positions are computed on demand, because few scalars need one.
//
// # The YAML library
//
// YAML is parsed by go.yaml.in/yaml/v3 and mapped to offsets in this package, instead of by
// goccy/go-yaml, whose tokens have offsets. The parsers of Kubernetes tools are derived from
// it, so it accepts and rejects the same documents. goccy differs (tabs, duplicate keys, YAML
// 1.1 merge keys, two definitions of one anchor), and this package must prevent that tools
// see different applications. It is also faster (0.8 s instead of 1.2 s for 17 MB of typical
// documents, with a quarter of the allocations). It does not report the end of a scalar and
// its bytes, but these follow from the start, style and value of the scalar; a fuzz test
// compares them.
//
// Text that begins with a brace or bracket is first parsed as JSON, by encoding/json, because
// YAML parsers reject some JSON (surrogate pairs, long keys).
//
// # What Kubernetes does with it
//
// Of duplicate keys the last one is used, as by all readers that accept duplicates. kustomize and
// Flux reject them, and so does kubectl if it asks the API server to; the document then has a
// dispute. Merge keys are applied. A key that is a mapping (a template's {{x}}) and an anchor
// that contains itself are errors, as for kubectl. A document also has a dispute where kubectl,
// Argo CD and Flux read different things (a merge key after a key that it merges, two merge
// keys, << in quotes, !!binary, unusual document markers). That is an error if the document may
// be applied to a cluster. The items of any object are objects. limits.go limits what is read.
package manifests
