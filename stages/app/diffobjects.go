// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unique"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/taped-dev/tape/internal/sequence"
	"github.com/taped-dev/tape/stages/credentials"
	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/manifests"
)

// ObjectKey identifies an object as a cluster does, which means without the version of its API.
type ObjectKey struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func (k ObjectKey) String() string {
	s := k.Kind + " " + k.Name
	if k.Namespace != "" {
		s = k.Kind + " " + k.Namespace + "/" + k.Name
	}
	if k.Group != "" {
		s = k.Group + " " + s
	}
	return s
}

func (k ObjectKey) compare(o ObjectKey) int {
	return cmp.Or(cmp.Compare(k.Group, o.Group), cmp.Compare(k.Kind, o.Kind),
		cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// FieldChange is a field that differs. If only one side has the field, the value of the other
// side is nil. Values of Secrets, and values that look like credentials, are hidden on both
// sides.
type FieldChange struct {
	// Pointer is a JSON pointer (RFC 6901) into the object on the first side, or on the second
	// side if only that one has the field.
	Pointer string `json:"pointer"`
	// Path is the readable form of Pointer: items of lists are identified by their names.
	Path string          `json:"path"`
	From json.RawMessage `json:"from,omitempty"`
	To   json.RawMessage `json:"to,omitempty"`
}

// ObjectChange lists the differences of an object that both sides have.
type ObjectChange struct {
	ObjectKey
	Fields []FieldChange `json:"fields"`
}

// ObjectsDiff compares manifests object by object; files and their order do not
// matter.
type ObjectsDiff struct {
	Added   []ObjectKey    `json:"added"`
	Removed []ObjectKey    `json:"removed"`
	Changed []ObjectChange `json:"changed"`
}

func (d ObjectsDiff) empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// objects finds the objects in files. Objects with the same key, which a cluster would take for
// one object, are numbered so that none hides another.
type objects struct {
	visit func(ObjectKey, *manifests.Node) error
	seen  map[ObjectKey]int // number of objects by key
	taken map[ObjectKey]bool
	room  int // remaining bytes for the text of keys
}

func newObjects(visit func(ObjectKey, *manifests.Node) error) *objects {
	return &objects{visit: visit, seen: map[ObjectKey]int{}, taken: map[ObjectKey]bool{}, room: maxText}
}

// file visits the objects of a file. It holds one document in memory at a time.
func (o *objects) file(f files.File) error {
	for _, piece := range manifests.Open(f.Name, f.Data).Text.Split() {
		docs, err := manifests.Parse(piece)
		for i := 0; i < len(docs) && err == nil; i++ {
			err = o.value(&docs[i].Root)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

// value visits an object, or the items of a list.
func (o *objects) value(n *manifests.Node) error {
	kind := n.Get("kind").Text()
	if items := n.Get("items"); items != nil && items.Kind == manifests.List && strings.HasSuffix(kind, "List") {
		for i := range items.Items {
			if err := o.value(&items.Items[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if kind == "" {
		return nil
	}
	key := o.key(n)
	if o.room -= len(key.Group) + len(key.Kind) + len(key.Namespace) + len(key.Name); o.room < 0 {
		return fmt.Errorf("the names of the objects have more than %d MiB up to here", maxText>>20)
	}
	if len(o.taken) == manifests.MaxDocuments {
		return fmt.Errorf("more than %d objects up to here", manifests.MaxDocuments)
	}
	o.taken[key] = true
	return o.visit(key, n)
}

func (o *objects) key(n *manifests.Node) ObjectKey {
	group, _, grouped := strings.Cut(n.Get("apiVersion").Text(), "/")
	if !grouped {
		group = ""
	}
	metadata := n.Get("metadata")
	key := ObjectKey{Group: group, Kind: n.Get("kind").Text(), Namespace: metadata.Get("namespace").Text(), Name: metadata.Get("name").Text()}
	if key.Name == "" {
		key.Name = metadata.Get("generateName").Text() + "*"
	}
	for first := key; o.taken[key]; {
		o.seen[first]++
		key.Name = fmt.Sprintf("%s#%d", first.Name, o.seen[first]+1)
	}
	return key
}

// valuesIn returns the number of values in a node, including the node.
func valuesIn(n *manifests.Node) int {
	total := 1
	for i := range n.Fields {
		total += valuesIn(&n.Fields[i].Value)
	}
	for i := range n.Items {
		total += valuesIn(&n.Items[i])
	}
	return total
}

// writeJSON writes a value as JSON with sorted keys, so equal values have the same bytes, however
// they were written in YAML.
func writeJSON(w io.Writer, n *manifests.Node) error {
	out := bufio.NewWriter(w)
	writeNode(out, n)
	return out.Flush() // Flush returns the first error of any write
}

func writeNode(w *bufio.Writer, n *manifests.Node) {
	switch {
	case n.Kind == manifests.List:
		_ = w.WriteByte('[')
		for i := range n.Items {
			if i > 0 {
				_ = w.WriteByte(',')
			}
			writeNode(w, &n.Items[i])
		}
		_ = w.WriteByte(']')
	case n.Kind == manifests.Map:
		sorted := slices.Clone(n.Fields)
		slices.SortFunc(sorted, func(a, b manifests.Field) int { return strings.Compare(a.Key, b.Key) })
		_ = w.WriteByte('{')
		for i := range sorted {
			if i > 0 {
				_ = w.WriteByte(',')
			}
			writeScalar(w, sorted[i].Key)
			_ = w.WriteByte(':')
			writeNode(w, &sorted[i].Value)
		}
		_ = w.WriteByte('}')
	case n.Type == manifests.Null:
		writeScalar(w, nil)
	case n.Type == manifests.Other:
		writeScalar(w, number(n.Value))
	default:
		writeScalar(w, n.Value)
	}
}

func writeScalar(w *bufio.Writer, v any) {
	data, _ := json.Marshal(v) // a text, a number, a boolean or nil
	_, _ = w.Write(data)
}

// number returns the number or boolean that a YAML scalar represents, or the text if JSON has no
// such number.
func number(text string) any {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return text
	}
	if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return text
	}
	return v
}

// hiddenValue replaces a value of a Secret in a FieldChange.
const hiddenValue = credentials.Hidden

// pair is an object that is on both sides and differs.
type pair struct{ from, to ObjectKey }

// diffObjects compares the digests of objects. The pairs are sorted.
func diffObjects(a, b map[ObjectKey]digest.Digest) (d ObjectsDiff, pairs []pair) {
	d = ObjectsDiff{Added: []ObjectKey{}, Removed: []ObjectKey{}, Changed: []ObjectChange{}}
	moved := movedObjects(a, b)
	arrived := map[ObjectKey]bool{}
	for key, sum := range a {
		to := key
		if other, ok := moved[key]; ok {
			to, arrived[other] = other, true
		}
		switch other, both := b[to]; {
		case !both:
			d.Removed = append(d.Removed, key)
		case other != sum:
			pairs = append(pairs, pair{key, to})
		}
	}
	for key := range b {
		if _, both := a[key]; !both && !arrived[key] {
			d.Added = append(d.Added, key)
		}
	}
	slices.SortFunc(d.Added, ObjectKey.compare)
	slices.SortFunc(d.Removed, ObjectKey.compare)
	slices.SortFunc(pairs, func(x, y pair) int { return x.to.compare(y.to) })
	return d, pairs
}

// movedObjects maps objects of a to objects of b that differ only in their namespace. Each must
// be the only one of its group, kind and name that the other side lacks.
func movedObjects(a, b map[ObjectKey]digest.Digest) map[ObjectKey]ObjectKey {
	alone := func(of, other map[ObjectKey]digest.Digest) map[ObjectKey][]ObjectKey {
		out := map[ObjectKey][]ObjectKey{}
		for key := range of {
			if _, both := other[key]; !both {
				anywhere := key
				anywhere.Namespace = ""
				out[anywhere] = append(out[anywhere], key)
			}
		}
		return out
	}
	moved, arrived := map[ObjectKey]ObjectKey{}, alone(b, a)
	for key, from := range alone(a, b) {
		if to := arrived[key]; len(from) == 1 && len(to) == 1 {
			moved[from[0]] = to[0]
		}
	}
	return moved
}

// changes finds what differs in objects.
type changes struct {
	cells int // remaining for tables
	room  int // remaining for the text of changes
	// from and to are the repositories that anywhere stands for.
	from, to string
}

// object compares the JSON of an object that is on both sides.
func (c *changes) object(p pair, before, after []byte) (out ObjectChange, matters []Matter, err error) {
	out.ObjectKey = p.to
	var a, b any
	err = errors.Join(decodeJSON(before, &a), decodeJSON(after, &b))
	if err == nil {
		a, b = credentials.Replace(a, standIn), credentials.Replace(b, standIn)
		out.Fields, err = diffFields(a, b, &c.cells, &c.room)
	}
	if err != nil {
		return out, nil, err
	}
	if p.to.Group == "" && p.to.Kind == "Secret" {
		hideValues(out.Fields)
	}
	for i := range out.Fields {
		f := &out.Fields[i]
		f.From, f.To = hideStandIns(f.From, nil), hideStandIns(f.To, f.From)
		for _, v := range []struct {
			text       *json.RawMessage
			repository string
		}{{&f.From, c.from}, {&f.To, c.to}} {
			there := bytes.Count(*v.text, []byte(anywhere))
			if c.room -= there * (len(v.repository) - len(anywhere)); c.room < 0 {
				return out, nil, errTooMuch
			}
			if there > 0 {
				*v.text = bytes.ReplaceAll(*v.text, []byte(anywhere), []byte(v.repository))
			}
		}
	}
	if p.from == p.to {
		return out, objectMatters(p.to, a, b), nil
	}
	if p.to.Group == rbac {
		a = nil // it grants rights in another namespace, so all of them are new
	}
	moved := Matter{What: Removed, Object: &p.to, Text: "is gone from namespace " + cmp.Or(p.from.Namespace, "default")}
	return out, append(objectMatters(p.to, a, b), moved), nil
}

// decodeJSON decodes what writeJSON wrote, and leaves numbers as they are written.
func decodeJSON(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(v)
}

// standIn returns a text that replaces a credential while objects are compared, so that a change
// of the credential is detected.
func standIn(credential string) string {
	return standInPrefix + digest.FromString(credential).Encoded()[:standInLength]
}

const (
	standInPrefix = "the.credential/"
	standInLength = 16
)

var standIns = regexp.MustCompile(fmt.Sprintf(`%s[0-9a-f]{0,%d}`, regexp.QuoteMeta(standInPrefix), standInLength))

// changedValue is shown for a credential in a text that had another one before.
const changedValue = "(hidden, changed)"

// hideStandIns replaces the stand-ins for credentials in JSON. It marks those that are not in
// before as changed, unless before is nil.
func hideStandIns(text, before json.RawMessage) json.RawMessage {
	whole := len(text) == len(standInPrefix)+standInLength+len(`""`)
	return standIns.ReplaceAllFunc(text, func(found []byte) []byte {
		if before != nil && !whole && !bytes.Contains(before, found) {
			return []byte(changedValue)
		}
		return []byte(hiddenValue)
	})
}

// hideValues replaces the values of a Secret, so that a diff can be shown to people who may not
// read it.
func hideValues(fields []FieldChange) {
	hidden := json.RawMessage(strconv.Quote(hiddenValue))
	for i, f := range fields {
		holder, _, _ := strings.Cut(strings.TrimPrefix(f.Pointer, "/"), "/")
		if holder != "data" && holder != "stringData" {
			continue
		}
		if f.From != nil {
			fields[i].From = hidden
		}
		if f.To != nil {
			fields[i].To = hidden
		}
	}
}

// diffFields returns the differences between two values decoded from JSON, in order. It subtracts
// the cost of comparing lists from cells, and the size of the result from room.
func diffFields(a, b any, cells, room *int) ([]FieldChange, error) {
	d := fieldsDiff{cells: cells, room: room}
	d.values(nil, a, b)
	return d.changes, d.err
}

// spot is the position of a value in an object; nil is the object itself.
type spot struct {
	above *spot
	key   string // or the name of a list item
	index int    // of a list item, from 1; 0 if it is not an item
}

// member returns the spot of a key's value.
func (p *spot) member(key string) *spot { return &spot{above: p, key: key} }

// item returns the spot of the item of a list with the given name.
func (p *spot) item(i int, name string) *spot { return &spot{above: p, key: name, index: i + 1} }

// length is the approximate size of the pointer and the path together.
func (p *spot) length() int {
	n := 0
	for ; p != nil; p = p.above {
		n += 2*len(p.key) + len("/[]")
	}
	return n
}

// pointer returns the JSON pointer and the readable path.
func (p *spot) pointer() string {
	switch {
	case p == nil:
		return ""
	case p.index > 0:
		return p.above.pointer() + "/" + strconv.Itoa(p.index-1)
	}
	return p.above.pointer() + "/" + manifests.EscapePointer(p.key)
}

func (p *spot) path() string {
	if p == nil {
		return ""
	}
	above := p.above.path()
	switch {
	case p.index > 0 || strings.ContainsAny(p.key, ".[] ") || p.key == "":
		return above + "[" + p.key + "]"
	case above != "":
		return above + "." + p.key
	}
	return p.key
}

// fieldsDiff collects changes until an error occurs.
type fieldsDiff struct {
	changes []FieldChange
	cells   *int // remaining for tables
	room    *int // remaining bytes for the text of changes
	err     error
}

// values compares the values at a spot. Items of lists are matched by name (containers,
// variables, ports) or, if they have none (arguments), by the longest common subsequence. So an
// item that was moved or inserted does not affect the others.
func (d *fieldsDiff) values(at *spot, a, b any) {
	if d.err != nil {
		return
	}
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			d.maps(at, x, y)
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			if key := identity(x, y); key != "" {
				d.named(at, x, y, key)
			} else {
				d.sequence(at, x, y)
			}
			return
		}
	}
	if !reflect.DeepEqual(a, b) {
		d.record(at, &a, &b)
	}
}

func (d *fieldsDiff) maps(at *spot, x, y map[string]any) {
	for _, k := range keysOf(x, y) {
		from, to, none := x[k], y[k], any(map[string]any{})
		switch { // a cluster drops null values
		case from == nil && to == nil:
		case at != nil && at.key == "metadata" && (k == "labels" || k == "annotations"):
			// Compare labels one by one, even if one side has none.
			d.values(at.member(k), cmp.Or(from, none), cmp.Or(to, none))
		case from == nil:
			d.record(at.member(k), nil, &to)
		case to == nil:
			d.record(at.member(k), &from, nil)
		default:
			d.values(at.member(k), from, to)
		}
	}
}

// identities are the fields that may distinguish the items of a Kubernetes list. The first one
// that does is used.
var identities = []string{"name", "key", "mountPath", "devicePath", "containerPort", "port", "host", "path", "id", "type", "topologyKey", "ip"}

// identity returns the field that distinguishes the items of both lists, or "" if there is none.
func identity(x, y []any) string {
	for _, key := range identities {
		if nameItems(x, key) != nil && nameItems(y, key) != nil {
			return key
		}
	}
	return ""
}

// nameItems indexes the items by a field. It returns nil if an item lacks the field or two share
// its value.
func nameItems(list []any, key string) map[string]int {
	index := make(map[string]int, len(list))
	for i, item := range list {
		m, _ := item.(map[string]any)
		name, ok := itemName(m[key])
		if _, twice := index[name]; !ok || twice {
			return nil
		}
		index[name] = i
	}
	return index
}

func itemName(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

func (d *fieldsDiff) named(at *spot, x, y []any, key string) {
	nx, ny := nameItems(x, key), nameItems(y, key)
	gone, came := missing(nx, ny), missing(ny, nx)
	if len(gone) == 1 && len(came) == 1 && alike(x[nx[gone[0]]], y[ny[came[0]]]) {
		ny[gone[0]] = ny[came[0]] // it was renamed
		nx[came[0]] = nx[gone[0]]
	}
	for i, item := range x {
		name, _ := itemName(item.(map[string]any)[key])
		if j, both := ny[name]; both {
			d.values(at.item(i, name), item, y[j])
		} else {
			d.record(at.item(i, name), &item, nil)
		}
	}
	for j, item := range y {
		name, _ := itemName(item.(map[string]any)[key])
		if _, both := nx[name]; !both {
			d.record(at.item(j, name), nil, &item)
		}
	}
}

// missing returns the names that are only in the first index.
func missing(of, in map[string]int) (out []string) {
	for name := range of {
		if _, both := in[name]; !both {
			out = append(out, name)
		}
	}
	return out
}

// leastAlike is the minimum number of values of two items that are taken for one that was
// renamed.
const leastAlike = 8

// alike reports whether two items have most of their values in common.
func alike(a, b any) bool {
	x, y := map[string]int{}, map[string]int{}
	countValues(x, "", a)
	countValues(y, "", b)
	common, all := 0, 0
	for value, n := range x {
		common += min(n, y[value])
		all += n
	}
	for _, n := range y {
		all += n
	}
	return all >= 2*leastAlike && 3*common >= all // two thirds of each
}

// countValues counts the values that are neither maps nor lists, by their position.
func countValues(out map[string]int, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			countValues(out, at+"/"+key, value)
		}
	case []any:
		for _, value := range v {
			countValues(out, at, value)
		}
	default:
		out[fmt.Sprint(at, "=", v)]++
	}
}

// ruleName identifies a rule of a role by what it applies to, or returns "" if v is not a rule.
func ruleName(v any) string {
	var names []string
	for _, key := range []string{"resources", "nonResourceURLs"} {
		for _, item := range itemsAt(v, key) {
			name, _ := itemName(item)
			names = append(names, name)
		}
	}
	if len(names) == 0 || len(itemsAt(v, "verbs")) == 0 {
		return ""
	}
	if len(names) > 2 {
		names = append(names[:2:2], "…")
	}
	return strings.Join(names, ", ")
}

const (
	// longest limits the table of a longest common subsequence, in cells. Longer lists are
	// compared item by item.
	longest = 1 << 20
	// maxCells limits all tables of a diff together.
	maxCells = 1 << 26
)

func (d *fieldsDiff) sequence(at *spot, x, y []any) {
	// The common prefix and suffix need no table.
	start, n, m := 0, len(x), len(y)
	for start < min(n, m) && reflect.DeepEqual(x[start], y[start]) {
		start++
	}
	for min(n, m) > start && reflect.DeepEqual(x[n-1], y[m-1]) {
		n, m = n-1, m-1
	}
	i, j := start, start
	if cells := (n - start) * (m - start); cells <= longest && cells <= *d.cells {
		*d.cells -= cells
		for _, pair := range sequence.Common(comparables(x[start:n]), comparables(y[start:m])) {
			d.run(at, x, y, i, start+pair[0], j, start+pair[1])
			i, j = start+pair[0]+1, start+pair[1]+1
		}
	}
	d.run(at, x, y, i, n, j, m)
}

// run compares x[i:n] with y[j:m], which have no item in common.
func (d *fieldsDiff) run(at *spot, x, y []any, i, n, j, m int) {
	item := func(list []any, i int) *spot { return at.item(i, cmp.Or(ruleName(list[i]), strconv.Itoa(i))) }
	for ; i < n || j < m; i, j = i+1, j+1 {
		switch {
		case i >= n:
			d.record(item(y, j), nil, &y[j])
		case j >= m:
			d.record(item(x, i), &x[i], nil)
		default:
			d.values(item(x, i), x[i], y[j])
		}
	}
}

// comparables returns the items in a form that is cheap to compare in each cell of a table.
func comparables(list []any) []unique.Handle[string] {
	out := make([]unique.Handle[string], len(list))
	for i, item := range list {
		data, _ := json.Marshal(item) // it was decoded from JSON
		out[i] = unique.Make(string(data))
	}
	return out
}

// record records a change. nil means that the value is absent.
func (d *fieldsDiff) record(at *spot, from, to *any) {
	if *d.room -= at.length(); *d.room < 0 || d.err != nil {
		d.err = errTooMuch
		return
	}
	c := FieldChange{Pointer: at.pointer(), Path: at.path()}
	if from != nil {
		c.From, _ = json.Marshal(*from) // it was decoded from JSON
	}
	if to != nil {
		c.To, _ = json.Marshal(*to)
	}
	if *d.room -= len(c.From) + len(c.To); *d.room < 0 {
		d.err = errTooMuch
	}
	d.changes = append(d.changes, c)
}

var errTooMuch = fmt.Errorf("what differs has more than %d MiB up to here", maxText>>20)
