// SPDX-License-Identifier: Apache-2.0

package scan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/taped-dev/tape/stages/files"
	"github.com/taped-dev/tape/stages/images"
	"github.com/taped-dev/tape/stages/scan"
)

// Credentials are reported with their positions, also in items of lists and in embedded
// objects, and once for each field and kind.
func TestCredentials(t *testing.T) {
	s, err := scan.New(scan.Config{Accept: []scan.Accepted{
		{Kind: "Secret", Name: "b*", Reason: "all"},
		{Kind: "*", Name: "a", Namespace: "shop", Keys: []string{"TOK*", "config"}, Reason: "some"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	const list = `apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {x: "1"}}
  - {apiVersion: v1, kind: Secret, metadata: {name: bb}, stringData: {x: "1"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: shop}
data:
  config: |
    password: one
    password: two
    db_password: three
  other: "password: four"
---
apiVersion: x.io/v1
kind: Wrapper
metadata: {name: a}
spec: {template: {apiVersion: v1, kind: Secret, metadata: {name: inner}, data: {"a/b": aHVudGVyMg==}}}
`
	in := []files.File{
		{Name: "list.yaml", Data: []byte(list)},
		{Name: "values.yaml", Data: []byte("password: not in an object\n")},
	}
	report, err := s.Scan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range report.Credentials {
		got = append(got, fmt.Sprintf("%s:%d:%d %s %s %s %s %s: %s: %s", c.File, c.Line, c.Column, c.Kind, c.Namespace, c.Name, c.Key, c.Pointer, c.What, c.Reason))
	}
	want := []string{
		"list.yaml:4:74 Secret  a x /items/0/stringData/x: a value: ",
		"list.yaml:5:75 Secret  bb x /items/1/stringData/x: a value: all",
		"list.yaml:12:15 ConfigMap shop a config /data/config: a password, password: some",
		"list.yaml:14:18 ConfigMap shop a config /data/config: a password, db_password: some",
		"list.yaml:15:21 ConfigMap shop a other /data/other: a password, password: ",
		"list.yaml:20:88 Wrapper  a a/b /spec/template/data/a~1b: a value: ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Verifying only looks for images.
	err = s.ScanEach(t.Context(), in, func(r *images.Report) {
		if len(r.Credentials) > 0 {
			t.Errorf("%+v", r.Credentials)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
