// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiffObjects(t *testing.T) {
	parse := func(docs ...string) objectsByKey {
		t.Helper()
		out := objectsByKey{}
		for _, d := range docs {
			var m map[string]any
			if err := json.Unmarshal([]byte(d), &m); err != nil {
				t.Fatal(err)
			}
			out.add(m)
		}
		return out
	}
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	a := parse(
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":1,"containers":[{"name":"a","image":"x:1"},{"name":"b","image":"y:1"}]}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
	)
	b := parse(
		`{"apiVersion":"apps/v1beta1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":1,"containers":[{"name":"b","image":"y:1"},{"name":"c","image":"z"},{"name":"a","image":"x:2"}]}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"api"}}`,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"j-"}}`,
	)
	got, err := diffObjects(a, b)
	if err != nil {
		t.Fatal(err)
	}
	want := ObjectsDiff{
		Added:   []ObjectKey{{Kind: "Service", Name: "api"}},
		Removed: []ObjectKey{{Kind: "Service", Name: "web"}, {Group: "batch", Kind: "Job", Name: "j-*#2"}},
		Changed: []ObjectChange{{
			ObjectKey: ObjectKey{Group: "apps", Kind: "Deployment", Name: "web"},
			Fields: []FieldChange{
				{Pointer: "/apiVersion", From: raw(`"apps/v1"`), To: raw(`"apps/v1beta1"`)},
				{Pointer: "/spec/containers/0/image", From: raw(`"x:1"`), To: raw(`"x:2"`)},
				{Pointer: "/spec/containers/1", To: raw(`{"image":"z","name":"c"}`)},
			},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	same, err := diffObjects(a, a)
	if err != nil || !same.empty() {
		t.Errorf("an application differs from itself: %+v, %v", same, err)
	}
}
