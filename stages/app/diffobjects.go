// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// ObjectKey names an object as a cluster does: the version of its API is not
// part of it.
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

// FieldChange is a field that differs. A field that one side lacks has no value
// on that side, and a value of a Secret is Hidden on both.
type FieldChange struct {
	// Pointer is a JSON pointer (RFC 6901) into the object: into that of the
	// first side, or of the second where only that has the field.
	Pointer string `json:"pointer"`
	// Path is the same for people: items of lists are called by their names.
	Path string          `json:"path"`
	From json.RawMessage `json:"from,omitempty"`
	To   json.RawMessage `json:"to,omitempty"`
}

// ObjectChange is an object that both sides have, with what differs.
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

// objectSet holds the values of objects. Objects of one key (which a cluster would take
// for one) are numbered, so that none hides another.
type objectSet struct {
	byKey map[ObjectKey]map[string]any
	seen  map[ObjectKey]int // how many objects of a key there are
	room  int               // how many more values it takes
}

func newObjectSet(room int) *objectSet {
	return &objectSet{byKey: map[ObjectKey]map[string]any{}, seen: map[ObjectKey]int{}, room: room}
}

func (o *objectSet) add(object map[string]any) {
	apiVersion, _ := object["apiVersion"].(string)
	group, _, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group = ""
	}
	metadata, _ := object["metadata"].(map[string]any)
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	key := ObjectKey{Group: group, Kind: text(object, "kind"), Namespace: text(metadata, "namespace"), Name: text(metadata, "name")}
	if key.Name == "" {
		key.Name = text(metadata, "generateName") + "*"
	}
	for first := key; o.byKey[key] != nil; {
		o.seen[first]++
		key.Name = fmt.Sprintf("%s#%d", first.Name, o.seen[first]+1)
	}
	o.byKey[key] = object
}

// Hidden stands for a value of a Secret in a FieldChange.
const Hidden = "(hidden)"

func diffObjects(left, right *objectSet) (ObjectsDiff, error) {
	a, b := left.byKey, right.byKey
	d := ObjectsDiff{Added: []ObjectKey{}, Removed: []ObjectKey{}, Changed: []ObjectChange{}}
	moved := movedObjects(a, b)
	cells := maxCells
	for key, object := range a {
		to := key
		if other, ok := moved[key]; ok {
			to = other
		}
		other, both := b[to]
		if !both {
			d.Removed = append(d.Removed, key)
			continue
		}
		fields, err := diffFields(object, other, &cells)
		if err != nil {
			return d, fmt.Errorf("compare %s: %w", key, err)
		}
		if to.Group == "" && to.Kind == "Secret" {
			hideValues(fields)
		}
		if len(fields) > 0 {
			d.Changed = append(d.Changed, ObjectChange{ObjectKey: to, Fields: fields})
		}
	}
	arrived := map[ObjectKey]bool{}
	for _, to := range moved {
		arrived[to] = true
	}
	for key := range b {
		if _, both := a[key]; !both && !arrived[key] {
			d.Added = append(d.Added, key)
		}
	}
	slices.SortFunc(d.Added, ObjectKey.compare)
	slices.SortFunc(d.Removed, ObjectKey.compare)
	slices.SortFunc(d.Changed, func(x, y ObjectChange) int { return x.ObjectKey.compare(y.ObjectKey) })
	return d, nil
}

// movedObjects returns which object of a is which of b in another namespace: the
// only one of its group, kind and name that the other side lacks.
func movedObjects(a, b map[ObjectKey]map[string]any) map[ObjectKey]ObjectKey {
	alone := func(of, other map[ObjectKey]map[string]any) map[ObjectKey][]ObjectKey {
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

// hideValues replaces what a Secret holds, so that a diff can be shown to people
// who may not read it.
func hideValues(fields []FieldChange) {
	hidden := json.RawMessage(strconv.Quote(Hidden))
	for i, f := range fields {
		for _, holder := range []string{"/data", "/stringData"} {
			if f.Pointer != holder && !strings.HasPrefix(f.Pointer, holder+"/") {
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
}

// diffFields returns what differs between two values, in order. It takes from cells what
// comparing lists costs.
func diffFields(a, b any, cells *int) ([]FieldChange, error) {
	d := fieldsDiff{cells: cells}
	if err := d.values(spot{}, a, b); err != nil {
		return nil, err
	}
	return d.changes, nil
}

// spot is where a value stands in an object.
type spot struct{ pointer, path string }

// member returns the spot of a key's value.
func (p spot) member(key string) spot {
	path := key
	if strings.ContainsAny(key, ".[] ") || key == "" {
		path = "[" + key + "]"
	} else if p.path != "" {
		path = "." + key
	}
	return spot{p.pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key), p.path + path}
}

// item returns the spot of an item of a list, called name.
func (p spot) item(i int, name string) spot {
	return spot{p.pointer + "/" + strconv.Itoa(i), p.path + "[" + name + "]"}
}

// fieldsDiff collects changes.
type fieldsDiff struct {
	changes []FieldChange
	cells   *int // left for tables
}

// values compares what stands at a spot. Items of lists are compared by what
// names them (containers, variables, ports); items of others, such as arguments,
// by what is the longest common sequence. So an item that moved or was put in
// between does not change the others.
func (d *fieldsDiff) values(at spot, a, b any) error {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			return d.maps(at, x, y)
		}
	case []any:
		if y, ok := b.([]any); ok {
			if key := identity(x, y); key != "" {
				return d.named(at, x, y, key)
			}
			return d.sequence(at, x, y)
		}
	}
	if reflect.DeepEqual(a, b) {
		return nil
	}
	return d.record(at, &a, &b)
}

func (d *fieldsDiff) maps(at spot, x, y map[string]any) error {
	keys := slices.Collect(maps.Keys(x))
	for k := range y {
		if _, both := x[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		from, has := x[k]
		to, will := y[k]
		var err error
		switch {
		case !has:
			err = d.record(at.member(k), nil, &to)
		case !will:
			err = d.record(at.member(k), &from, nil)
		default:
			err = d.values(at.member(k), from, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// identities are the fields that tell items of a Kubernetes list apart, the
// first that does counts.
var identities = []string{"name", "key", "mountPath", "devicePath", "containerPort", "port", "host", "path", "id", "type", "topologyKey", "ip"}

// identity returns the field that tells the items of both lists apart, "" where
// none does.
func identity(x, y []any) string {
	for _, key := range identities {
		if nameItems(x, key) != nil && nameItems(y, key) != nil {
			return key
		}
	}
	return ""
}

// nameItems indexes the items by a field; nil where one lacks it or two share it.
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
	case int, int64, uint64, float64:
		return fmt.Sprint(v), true
	}
	return "", false
}

func (d *fieldsDiff) named(at spot, x, y []any, key string) error {
	nx, ny := nameItems(x, key), nameItems(y, key)
	for i, item := range x {
		name, _ := itemName(item.(map[string]any)[key])
		var err error
		if j, both := ny[name]; both {
			err = d.values(at.item(i, name), item, y[j])
		} else {
			err = d.record(at.item(i, name), &item, nil)
		}
		if err != nil {
			return err
		}
	}
	for j, item := range y {
		name, _ := itemName(item.(map[string]any)[key])
		if _, both := nx[name]; both {
			continue
		}
		if err := d.record(at.item(j, name), nil, &item); err != nil {
			return err
		}
	}
	return nil
}

const (
	// longest bounds the table that finds a longest common sequence, in cells; longer
	// lists are compared item by item.
	longest = 1 << 20
	// maxCells bounds all tables of a diff together.
	maxCells = 1 << 26
)

func (d *fieldsDiff) sequence(at spot, x, y []any) error {
	i, j := 0, 0
	if cells := len(x) * len(y); cells <= longest && cells <= *d.cells {
		*d.cells -= cells
		common, err := commonSequence(x, y)
		if err != nil {
			return err
		}
		for _, pair := range common {
			if err := d.run(at, x, y, i, pair[0], j, pair[1]); err != nil {
				return err
			}
			i, j = pair[0]+1, pair[1]+1
		}
	}
	return d.run(at, x, y, i, len(x), j, len(y))
}

// run compares x[i:n] with y[j:m], which have no item in common.
func (d *fieldsDiff) run(at spot, x, y []any, i, n, j, m int) error {
	for ; i < n || j < m; i, j = i+1, j+1 {
		var err error
		switch {
		case i >= n:
			err = d.record(at.item(j, strconv.Itoa(j)), nil, &y[j])
		case j >= m:
			err = d.record(at.item(i, strconv.Itoa(i)), &x[i], nil)
		default:
			err = d.values(at.item(i, strconv.Itoa(i)), x[i], y[j])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// commonSequence returns the indexes of a longest common sequence.
func commonSequence(a, b []any) ([][2]int, error) {
	// Items are compared in each cell: as numbers.
	numbers := map[string]int{}
	number := func(list []any) ([]int, error) {
		out := make([]int, len(list))
		for i, item := range list {
			data, err := json.Marshal(item)
			if err != nil {
				return nil, err
			}
			n, known := numbers[string(data)]
			if !known {
				n = len(numbers)
				numbers[string(data)] = n
			}
			out[i] = n
		}
		return out, nil
	}
	x, err := number(a)
	if err != nil {
		return nil, err
	}
	y, err := number(b)
	if err != nil {
		return nil, err
	}
	length := make([][]int32, len(x)+1)
	for i := range length {
		length[i] = make([]int32, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var out [][2]int
	for i, j := 0, 0; i < len(x) && j < len(y); {
		switch {
		case x[i] == y[j]:
			out = append(out, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return out, nil
}

// record notes a change; nil stands for a value that is not there.
func (d *fieldsDiff) record(at spot, from, to *any) error {
	c := FieldChange{Pointer: at.pointer, Path: at.path}
	var err error
	if from != nil {
		if c.From, err = json.Marshal(*from); err != nil {
			return err
		}
	}
	if to != nil {
		if c.To, err = json.Marshal(*to); err != nil {
			return err
		}
	}
	d.changes = append(d.changes, c)
	return nil
}
