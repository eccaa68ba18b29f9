// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/taped-dev/tape/stages/files"
)

func TestStreamBeginsWithWhatOthersNeed(t *testing.T) {
	const (
		service    = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\n"
		namespace  = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
		definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x.example.com}\n"
		list       = "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Namespace, metadata: {name: b}}, {apiVersion: v1, kind: Secret, metadata: {name: b}}]\n"
		speaks     = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Namespace}\n"
		json       = `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "json"}}`
	)
	var b bytes.Buffer
	err := writeStream(&b, []files.File{
		{Name: "a.yaml", Data: []byte("# all\n---\n" + service + "---\n" + definition + "---\n" + namespace + "# end\n")},
		{Name: "b.yaml", Data: []byte(list)},
		{Name: "c.yaml", Data: []byte(speaks)},
		{Name: "d.json.yaml", Data: []byte(json)},
		{Name: "e.yaml", Data: []byte("---\n" + namespace + "---\n" + namespace)},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "---\n# a.yaml\n---\n" + namespace + "# end\n" +
		"---\n# d.json.yaml\n" + json + "\n" +
		"---\n# e.yaml\n---\n" + namespace + "---\n" + namespace +
		"---\n# a.yaml\n---\n" + definition +
		"---\n# a.yaml\n# all\n---\n" + service +
		"---\n# b.yaml\n" + list +
		"---\n# c.yaml\n" + speaks
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("stream (-want +got):\n%s", diff)
	}
}

// A stream is one text: kubectl uses the encoding of its first bytes for all of it.
func TestStreamIsUTF8(t *testing.T) {
	wide := []byte("\xff\xfe")
	for _, r := range "kind: Service\n" {
		wide = append(wide, byte(r), 0)
	}
	var b bytes.Buffer
	err := writeStream(&b, []files.File{{Name: "a.yaml", Data: wide}, {Name: "b.yaml", Data: []byte("\ufeffkind: Secret")}})
	if want := "---\n# a.yaml\nkind: Service\n---\n# b.yaml\nkind: Secret\n"; err != nil || b.String() != want {
		t.Errorf("got %q, %v", b.String(), err)
	}
}
