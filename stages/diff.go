// SPDX-License-Identifier: Apache-2.0

package stages

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
// on that side.
type FieldChange struct {
	Pointer string          `json:"pointer"` // JSON pointer (RFC 6901) into the object
	From    json.RawMessage `json:"from,omitempty"`
	To      json.RawMessage `json:"to,omitempty"`
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

// objectsByKey holds the values of objects. Objects of one key (which a cluster
// would take for one) are numbered, so that none hides another.
type objectsByKey map[ObjectKey]map[string]any

func (o objectsByKey) add(object map[string]any) {
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
	for n, base := 2, key.Name; o[key] != nil; n++ {
		key.Name = fmt.Sprintf("%s#%d", base, n)
	}
	o[key] = object
}

func diffObjects(a, b objectsByKey) (ObjectsDiff, error) {
	d := ObjectsDiff{Added: []ObjectKey{}, Removed: []ObjectKey{}, Changed: []ObjectChange{}}
	for key, object := range a {
		other, both := b[key]
		if !both {
			d.Removed = append(d.Removed, key)
			continue
		}
		var fields []FieldChange
		if err := diffValues("", object, other, &fields); err != nil {
			return d, fmt.Errorf("compare %s: %w", key, err)
		}
		if len(fields) > 0 {
			d.Changed = append(d.Changed, ObjectChange{ObjectKey: key, Fields: fields})
		}
	}
	for key := range b {
		if _, both := a[key]; !both {
			d.Added = append(d.Added, key)
		}
	}
	slices.SortFunc(d.Added, ObjectKey.compare)
	slices.SortFunc(d.Removed, ObjectKey.compare)
	slices.SortFunc(d.Changed, func(x, y ObjectChange) int { return x.ObjectKey.compare(y.ObjectKey) })
	return d, nil
}

// diffValues appends what differs below a pointer, in order. Lists whose items
// all have a name of their own (containers, ports, env) are compared by name:
// an item that moved is no change, an inserted one does not shift the others.
func diffValues(pointer string, a, b any, out *[]FieldChange) error {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			keys := slices.Sorted(maps.Keys(x))
			for k := range y {
				if _, both := x[k]; !both {
					keys = append(keys, k)
				}
			}
			slices.Sort(keys)
			for _, k := range keys {
				if err := diffMember(pointer+"/"+escapePointer(k), x, y, k, out); err != nil {
					return err
				}
			}
			return nil
		}
	case []any:
		y, ok := b.([]any)
		if !ok {
			break
		}
		if nx, ny := byName(x), byName(y); nx != nil && ny != nil {
			return diffNamed(pointer, x, y, nx, ny, out)
		}
		for i := range max(len(x), len(y)) {
			at := pointer + "/" + strconv.Itoa(i)
			var err error
			switch {
			case i >= len(x):
				err = record(at, nil, y[i], false, true, out)
			case i >= len(y):
				err = record(at, x[i], nil, true, false, out)
			default:
				err = diffValues(at, x[i], y[i], out)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if reflect.DeepEqual(a, b) {
		return nil
	}
	return record(pointer, a, b, true, true, out)
}

func diffMember(pointer string, x, y map[string]any, key string, out *[]FieldChange) error {
	from, has := x[key]
	to, will := y[key]
	if has && will {
		return diffValues(pointer, from, to, out)
	}
	return record(pointer, from, to, has, will, out)
}

// byName indexes a list whose items are maps with distinct names; nil for others.
func byName(list []any) map[string]int {
	index := make(map[string]int, len(list))
	for i, item := range list {
		m, _ := item.(map[string]any)
		name, ok := m["name"].(string)
		if _, twice := index[name]; !ok || twice {
			return nil
		}
		index[name] = i
	}
	return index
}

func diffNamed(pointer string, x, y []any, nx, ny map[string]int, out *[]FieldChange) error {
	for i, item := range x {
		name := item.(map[string]any)["name"].(string)
		at := pointer + "/" + strconv.Itoa(i)
		var err error
		if j, both := ny[name]; both {
			err = diffValues(at, item, y[j], out)
		} else {
			err = record(at, item, nil, true, false, out)
		}
		if err != nil {
			return err
		}
	}
	for j, item := range y {
		if _, both := nx[item.(map[string]any)["name"].(string)]; !both {
			if err := record(pointer+"/"+strconv.Itoa(j), nil, item, false, true, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func record(pointer string, from, to any, has, will bool, out *[]FieldChange) error {
	c := FieldChange{Pointer: pointer}
	var err error
	if has {
		if c.From, err = json.Marshal(from); err != nil {
			return err
		}
	}
	if will {
		if c.To, err = json.Marshal(to); err != nil {
			return err
		}
	}
	*out = append(*out, c)
	return nil
}

func escapePointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
