// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/engine/pipeline"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/sign"
)

// FileKind is the kind of a trust file.
const FileKind = "Trust"

// Schema is the JSON Schema of trust files.
//
//go:embed trust.schema.json
var Schema []byte

// Read reads a trust policy, with the keys and trusted roots that it names. Paths are relative
// to the file.
func Read(_ context.Context, name string) (*Policy, error) {
	data, err := regular.ReadArgument(name)
	if err != nil {
		return nil, fmt.Errorf("read trust file: %w", err)
	}
	return parse(name, data)
}

// file is a trust policy that is being read.
type file struct {
	name     string
	problems pipeline.Errors
	roots    map[string]*Root
	policy   *Policy
}

func (f *file) wrong(n *yaml.Node, format string, args ...any) {
	f.problems = append(f.problems, &pipeline.Error{File: f.name, Line: n.Line, Column: n.Column, Message: fmt.Sprintf(format, args...)})
}

func parse(name string, data []byte) (*Policy, error) {
	f := &file{name: name, roots: map[string]*Root{}, policy: &Policy{
		Authorities: map[string]*Authority{}, Name: filepath.Base(name), Digest: digest.FromBytes(data), Digests: map[string]digest.Digest{},
	}}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := dec.Decode(&document); errors.Is(err, io.EOF) {
		return nil, &pipeline.Error{File: name, Message: "the file is empty"}
	} else if err != nil {
		return nil, pipeline.YAMLError(name, err.Error())
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &pipeline.Error{File: name, Message: "a trust file is one YAML document"}
	}
	f.read(document.Content[0])
	if len(f.problems) > 0 {
		slices.SortStableFunc(f.problems, func(a, b *pipeline.Error) int { return a.Line - b.Line })
		return nil, f.problems
	}
	return f.policy, nil
}

// read reads the sections in an order in which names are defined before they are used.
func (f *file) read(n *yaml.Node) {
	top := f.object(n, "apiVersion", "kind", "roots", "authorities", "images", "applications", "origin", "default")
	if v := f.text(top["apiVersion"]); v != pipeline.APIVersion {
		f.wrong(cmp.Or(top["apiVersion"], n), "apiVersion is %q, want %s", v, pipeline.APIVersion)
	}
	if v := f.text(top["kind"]); v != FileKind {
		f.wrong(cmp.Or(top["kind"], n), "kind is %q, want %s", v, FileKind)
	}
	f.each(top["roots"], f.root)
	f.each(top["authorities"], f.authority)
	for _, item := range f.list(top["images"]) {
		f.policy.Images = append(f.policy.Images, f.rule("images", item))
	}
	for _, item := range f.list(top["applications"]) {
		f.policy.Applications = append(f.policy.Applications, f.rule("applications", item))
	}
	if n := top["origin"]; n != nil {
		f.policy.Origin, f.policy.OriginAt = f.known(n), fmt.Sprintf("%s:%d", f.name, n.Line)
	}
	switch n := top["default"]; f.text(n) {
	case "deny":
		f.policy.Deny = true
	case "allow":
		f.policy.Allow = true
	default:
		if n != nil {
			f.wrong(n, "default must be deny or allow")
		}
	}
	if len(f.policy.Images)+len(f.policy.Applications) == 0 && f.policy.Origin == nil && !f.policy.Deny && len(f.problems) == 0 {
		f.wrong(n, "there is no rule, and so nothing is refused: add images, applications or origin, or default: deny")
	}
}

// pairs returns the keys and values of a mapping, without duplicate keys.
func (f *file) pairs(n *yaml.Node) (keys, values []*yaml.Node) {
	if n == nil {
		return nil, nil
	}
	if n.Kind != yaml.MappingNode {
		f.wrong(n, "this must be a mapping")
		return nil, nil
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			f.wrong(key, "a key must be a string")
		case seen[key.Value]:
			f.wrong(key, "%q appears twice", key.Value)
		default:
			seen[key.Value] = true
			keys, values = append(keys, key), append(values, n.Content[i+1])
		}
	}
	return keys, values
}

// object reads a mapping that may have only these fields.
func (f *file) object(n *yaml.Node, fields ...string) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	keys, values := f.pairs(n)
	for i, key := range keys {
		if !slices.Contains(fields, key.Value) {
			f.wrong(key, "unknown field %q%s", key.Value, nearest.Hint(key.Value, slices.Values(fields)))
			continue
		}
		out[key.Value] = values[i]
	}
	return out
}

// each reads a mapping whose keys are names.
func (f *file) each(n *yaml.Node, read func(name string, n *yaml.Node)) {
	keys, values := f.pairs(n)
	for i, key := range keys {
		read(key.Value, values[i])
	}
}

func (f *file) list(n *yaml.Node) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		f.wrong(n, "this must be a list")
		return nil
	}
	return n.Content
}

func (f *file) text(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		f.wrong(n, "this must be a string")
		return ""
	}
	return n.Value
}

// flag reads true or false; nil means neither.
func (f *file) flag(n *yaml.Node) *bool {
	if n == nil {
		return nil
	}
	v, err := strconv.ParseBool(n.Value)
	if n.Tag != "!!bool" || err != nil {
		f.wrong(n, "this must be true or false")
		return nil
	}
	return &v
}

func (f *file) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(f.name), filepath.FromSlash(name))
}

func (f *file) root(name string, n *yaml.Node) {
	of := f.object(n, "file", "sha256", "log", "timestamp", "sct")
	path := f.text(of["file"])
	if path == "" {
		f.wrong(n, "root %s names no file", name)
		return
	}
	data, err := regular.ReadFile(f.path(path))
	if err != nil {
		f.wrong(of["file"], "%v", err)
		return
	}
	if sum := f.text(of["sha256"]); of["sha256"] != nil && sum != digest.FromBytes(data).Encoded() {
		f.wrong(of["sha256"], "%s has the sha256 %s", path, digest.FromBytes(data).Encoded())
		return
	}
	root, err := NewRoot(data, Want{Log: f.flag(of["log"]), Timestamp: f.flag(of["timestamp"]), SCT: f.flag(of["sct"])})
	if err != nil {
		f.wrong(of["file"], "%s: %v", path, err)
		return
	}
	f.roots[name] = root
	f.policy.Digests["roots."+name] = digest.FromBytes(data)
}

func (f *file) authority(name string, n *yaml.Node) {
	of := f.object(n, append([]string{"key", "root", "issuer", "identity"}, Claims()...)...)
	if name == "" {
		f.wrong(n, "an authority has a name")
	}
	// It is defined from here on, so that one mistake gives one message.
	f.policy.Authorities[name] = &Authority{Name: name}
	if of["key"] != nil {
		if len(of) > 1 {
			f.wrong(n, "authority %s has a key, and cannot have identity or root", name)
			return
		}
		file := f.text(of["key"])
		if file == "" || file == "-" || strings.Contains(file, "://") {
			f.wrong(of["key"], "the key of authority %s is the file of a public key, not %q: nothing else is read or run for a trust file", name, file)
			return
		}
		key, err := sign.LoadVerifier(f.path(file))
		if err != nil {
			f.wrong(of["key"], "%v", err)
			return
		}
		sum, err := sign.KeyDigest(key)
		if err != nil {
			f.wrong(of["key"], "%v", err)
			return
		}
		f.policy.Authorities[name].Key, f.policy.Digests["authorities."+name] = key, sum
		return
	}
	for _, field := range []string{"root", "issuer", "identity"} {
		if f.text(of[field]) == "" {
			f.wrong(n, "authority %s has no %s: it is a key, or root, issuer and identity", name, field)
			return
		}
	}
	root, ok := f.roots[of["root"].Value]
	if !ok {
		f.wrong(of["root"], "there is no root %q that can be used%s", of["root"].Value, nearest.Hint(of["root"].Value, maps.Keys(f.roots)))
		return
	}
	id := Identity{Root: root, Issuer: of["issuer"].Value, Pattern: of["identity"].Value, Claims: map[string]string{}}
	for _, claim := range Claims() {
		if of[claim] != nil {
			id.Claims[claim] = f.text(of[claim])
		}
	}
	a, err := NewIdentity(name, id)
	if err != nil {
		f.wrong(of["identity"], "%v", err)
		return
	}
	f.policy.Authorities[name] = a
}

// known returns the named authority.
func (f *file) known(n *yaml.Node) *Authority {
	name, known := f.text(n), len(f.problems)
	a := f.policy.Authorities[name]
	if a == nil && len(f.problems) == known {
		f.wrong(n, "there is no authority %q%s", name, nearest.Hint(name, maps.Keys(f.policy.Authorities)))
	}
	return a
}

func (f *file) rule(section string, n *yaml.Node) *Rule {
	of := f.object(n, "names", "require", "attestations")
	r := &Rule{At: fmt.Sprintf("%s:%d", f.name, n.Line), Section: section}
	for _, name := range f.list(of["names"]) {
		glob := f.text(name)
		if err := checkGlob(glob); err != nil {
			f.wrong(name, "%v", err)
		}
		r.Names = append(r.Names, glob)
	}
	if len(r.Names) == 0 {
		f.wrong(n, "a rule has no names, and so matches nothing")
	}
	attestations := f.list(of["attestations"])
	if of["require"] == nil && len(attestations) == 0 {
		f.wrong(n, "a rule requires nothing: add require or attestations")
	}
	if require := of["require"]; require != nil {
		f.require(require, r)
	}
	for _, item := range attestations {
		of := f.object(item, "type", "by", "fields")
		a := Attestation{Type: f.text(of["type"]), Fields: map[string]string{}}
		if a.Type == "" || of["by"] == nil {
			f.wrong(item, "an attestation has a type, and an authority that it is by")
			continue
		}
		a.By = f.known(of["by"])
		f.each(of["fields"], func(path string, n *yaml.Node) { a.Fields[path] = f.text(n) })
		r.Attestations = append(r.Attestations, a)
	}
	return r
}

func (f *file) require(n *yaml.Node, r *Rule) {
	if n.Kind == yaml.ScalarNode {
		r.Of, r.Threshold = []*Authority{f.known(n)}, 1
		return
	}
	of := f.object(n, "anyOf", "allOf", "threshold", "of")
	list := cmp.Or(of["anyOf"], of["allOf"], of["of"])
	if list == nil || len(of) != 1 && (of["threshold"] == nil || of["of"] == nil || len(of) != 2) || len(of) == 1 && of["of"] != nil {
		f.wrong(n, "require is a NAME, {anyOf: [...]}, {allOf: [...]} or {threshold: N, of: [...]}")
		return
	}
	seen := map[digest.Digest]string{} // by the key
	for _, item := range f.list(list) {
		a := f.known(item)
		key := cmp.Or(f.policy.Digests["authorities."+item.Value], digest.Digest(item.Value))
		switch other, twice := seen[key]; {
		case twice && other == item.Value:
			f.wrong(item, "%s appears twice, but can sign only once", item.Value)
		case twice:
			f.wrong(item, "%s has the key of %s, and signs once", item.Value, other)
		}
		seen[key] = item.Value
		r.Of = append(r.Of, a)
	}
	switch {
	case of["allOf"] != nil:
		r.Threshold = len(r.Of)
	case of["anyOf"] != nil:
		r.Threshold = 1
	default:
		r.Threshold, _ = strconv.Atoi(f.text(of["threshold"]))
	}
	switch {
	case len(r.Of) == 0:
		f.wrong(list, "the list of authorities is empty")
	case r.Threshold < 1 || r.Threshold > len(r.Of):
		f.wrong(n, "%d of %d authorities cannot be required", r.Threshold, len(r.Of))
	}
}
