// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine/document"
	"github.com/taped-dev/tape/internal/nearest"
	"github.com/taped-dev/tape/internal/regular"
	"github.com/taped-dev/tape/stages/sign"
)

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

var schema = document.Builtin(Schema)

// file is a trust file.
type file struct {
	Roots                map[string]rootFile
	Authorities          map[string]map[string]string
	Images, Applications []ruleFile
	Origin, Default      string
}

type rootFile struct {
	File, SHA256        string
	Log, Timestamp, SCT *bool
}

type ruleFile struct {
	Names        []string
	Require      requirement
	Attestations []struct {
		Type, By string
		Fields   map[string]any
	}
}

// requirement is the name of an authority, or one of the lists.
type requirement struct {
	Name             string
	AnyOf, AllOf, Of []string
	Threshold        int
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *requirement) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, &r.Name)
	}
	type lists requirement
	return json.Unmarshal(data, (*lists)(r))
}

// reader makes a policy of a file. Its schema is satisfied.
type reader struct {
	name     string
	problems document.Problems
	roots    map[string]*Root
	policy   *Policy
}

func parse(name string, data []byte) (*Policy, error) {
	var f file
	root, err := schema().Read(name, data, &f)
	if err != nil {
		return nil, err
	}
	r := &reader{name: name, roots: map[string]*Root{}, policy: &Policy{
		Authorities: map[string]*Authority{}, Deny: f.Default == "deny", Allow: f.Default == "allow",
		Name: filepath.Base(name), Digest: digest.FromBytes(data), Digests: map[string]digest.Digest{},
	}}
	r.read(&f, root)
	if err := r.problems.Err(); err != nil {
		return nil, err
	}
	return r.policy, nil
}

// read reads the sections in an order in which names are defined before they are used.
func (r *reader) read(f *file, root *document.Value) {
	for name, of := range f.Roots {
		r.root(name, of, root.Get("roots").Get(name))
	}
	for name, of := range f.Authorities {
		r.authority(name, of, root.Get("authorities").Get(name))
	}
	defined := len(r.problems) == 0
	for i, of := range f.Images {
		r.policy.Images = append(r.policy.Images, r.rule("images", of, root.Get("images").Items[i]))
	}
	for i, of := range f.Applications {
		r.policy.Applications = append(r.policy.Applications, r.rule("applications", of, root.Get("applications").Items[i]))
	}
	if f.Origin != "" {
		at := root.Get("origin").At
		r.policy.Origin, r.policy.OriginAt = r.known(f.Origin, at), fmt.Sprintf("%s:%d", r.name, at.Line)
	}
	if len(f.Images)+len(f.Applications) == 0 && f.Origin == "" && !r.policy.Deny && defined {
		r.problems.Add(root.At, "there is no rule, so nothing would be refused: add images, applications or origin, or default: deny")
	}
}

func (r *reader) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(r.name), filepath.FromSlash(name))
}

func (r *reader) root(name string, of rootFile, v *document.Value) {
	data, err := regular.ReadFile(r.path(of.File))
	if err != nil {
		r.problems.Cause(v.Get("file").At, err)
		return
	}
	sum := digest.FromBytes(data)
	if of.SHA256 != "" && of.SHA256 != sum.Encoded() {
		r.problems.Add(v.Get("sha256").At, "%s has the sha256 %s", of.File, sum.Encoded())
		return
	}
	root, err := NewRoot(data, Want{Log: of.Log, Timestamp: of.Timestamp, SCT: of.SCT})
	if err != nil {
		r.problems.Add(v.Get("file").At, "%s: %v", of.File, err)
		return
	}
	r.roots[name], r.policy.Digests["roots."+name] = root, sum
}

func (r *reader) authority(name string, of map[string]string, v *document.Value) {
	// It is defined from here on, so that one mistake gives one message.
	r.policy.Authorities[name] = &Authority{Name: name}
	if file, ok := of["key"]; ok {
		at := v.Get("key").At
		if file == "-" || strings.Contains(file, "://") {
			r.problems.Add(at, "the key of authority %s is the file of a public key, not %q: nothing else is read or run for a trust file", name, file)
			return
		}
		key, err := sign.LoadVerifier(r.path(file))
		if err != nil {
			r.problems.Cause(at, err)
			return
		}
		sum, err := sign.KeyDigest(key)
		if err != nil {
			r.problems.Cause(at, err)
			return
		}
		r.policy.Authorities[name].Key, r.policy.Digests["authorities."+name] = key, sum
		return
	}
	root, ok := r.roots[of["root"]]
	if !ok {
		r.problems.Add(v.Get("root").At, "there is no root %q that can be used%s", of["root"], nearest.Hint(of["root"], maps.Keys(r.roots)))
		return
	}
	id := Identity{Root: root, Issuer: of["issuer"], Pattern: of["identity"], Claims: map[string]string{}}
	for _, claim := range Claims() {
		if want, ok := of[claim]; ok {
			id.Claims[claim] = want
		}
	}
	a, err := NewIdentity(name, id)
	if err != nil {
		r.problems.Cause(v.Get("identity").At, err)
		return
	}
	r.policy.Authorities[name] = a
}

// known returns the named authority.
func (r *reader) known(name string, at document.Position) *Authority {
	a := r.policy.Authorities[name]
	if a == nil {
		r.problems.Add(at, "there is no authority %q%s", name, nearest.Hint(name, maps.Keys(r.policy.Authorities)))
	}
	return a
}

func (r *reader) rule(section string, of ruleFile, v *document.Value) *Rule {
	rule := &Rule{At: fmt.Sprintf("%s:%d", r.name, v.At.Line), Section: section, Names: of.Names}
	for i, glob := range of.Names {
		if err := checkGlob(glob); err != nil {
			r.problems.Cause(v.Get("names").Items[i].At, err)
		}
	}
	if require := v.Get("require"); require != nil {
		r.require(rule, of.Require, require)
	}
	for i, item := range of.Attestations {
		by, _ := v.Find("attestations", strconv.Itoa(i), "by")
		a := Attestation{Type: item.Type, By: r.known(item.By, by.At), Fields: map[string]string{}}
		for path, want := range item.Fields {
			a.Fields[path] = fmt.Sprint(want)
		}
		rule.Attestations = append(rule.Attestations, a)
	}
	return rule
}

func (r *reader) require(rule *Rule, of requirement, v *document.Value) {
	if of.Name != "" {
		rule.Of, rule.Threshold = []*Authority{r.known(of.Name, v.At)}, 1
		return
	}
	items := cmp.Or(v.Get("anyOf"), v.Get("allOf"), v.Get("of")).Items
	seen := map[digest.Digest]string{} // by the key
	for i, name := range slices.Concat(of.AnyOf, of.AllOf, of.Of) {
		rule.Of = append(rule.Of, r.known(name, items[i].At))
		key := cmp.Or(r.policy.Digests["authorities."+name], digest.Digest(name))
		if other, twice := seen[key]; twice {
			r.problems.Add(items[i].At, "%s has the key of %s, and signs once", name, other)
		}
		seen[key] = name
	}
	switch {
	case of.AnyOf != nil:
		rule.Threshold = 1
	case of.AllOf != nil:
		rule.Threshold = len(rule.Of)
	case of.Threshold > len(rule.Of):
		r.problems.Add(v.At, "%d of %d authorities cannot be required", of.Threshold, len(rule.Of))
	default:
		rule.Threshold = of.Threshold
	}
}
